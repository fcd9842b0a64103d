"""The process that looks inside one classifier for the studio.

It is started as ``python -m opsin.commands.inspect_worker MODEL FOLDER``, answers one frame after
another, and ends when its standard input is closed.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from opsin.commands.insight import Insight
from opsin.commands.inspect import (
    NEIGHBOURS,
    add_decision,
    add_layers,
    look_at_network,
    look_at_units,
)
from opsin.commands.inspect_model import Inspection
from opsin.core.child_process import error_values, take_output
from opsin.core.errors import OpsinError, RecipeError
from opsin.core.events import Watcher
from opsin.core.framing import Header, pack, receive, whole
from opsin.data.image_encoding import png_address
from opsin.inspection.lessons.lesson_terms import Term
from opsin.runtime.prediction import Prediction

# A known image by its part and number. Files are not read: the bytes come with the question.
_KNOWN: Final = re.compile(r"(train|val|test)/\d{1,12}")
# Seconds between two frames about the progress of the same work.
_EVERY: Final = 0.2

Say = Callable[[Header], None]


class Question(BaseModel):
    """What can be asked, with what it is asked with."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Find the answer and write its page.

        Args:
            look: The classifier.
            content: The bytes of an image that is not known, or nothing.
            page: Where the page goes.

        Returns:
            What is said of it.
        """
        raise NotImplementedError


class ImageQuestion(Question):
    """What a layer, or each of them, makes of an image.

    Args:
        image: One of the known images by part and number, such as ``test/17``; ``None``: its bytes
            were sent.
        name: What to call those.
        layer: Name of the layer (default: all).
    """

    image: str | None = None
    name: str = "image"
    layer: str | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Write the page of the layers."""
        found, answer = _asked_image(look, self.image, content, self.name)
        add_layers(look, found, answer, () if self.layer is None else (self.layer,))
        return _written(look, found, answer, page)


class ExplainQuestion(Question):
    """Why an image got its answer: heat maps with their checks.

    Args:
        image: As of `ImageQuestion`.
        name: Likewise.
        label: The class that the heat maps speak for (default: the answer).
    """

    image: str | None = None
    name: str = "image"
    label: str | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Write the page of the heat maps."""
        found, answer = _asked_image(look, self.image, content, self.name)
        add_decision(look, found, answer, self.label)
        return _written(look, found, answer, page)


class NearestQuestion(Question):
    """The training images that the network sees most like an image, with their pixels.

    Args:
        image: As of `ImageQuestion`.
        name: Likewise.
        count: How many.
    """

    image: str | None = None
    name: str = "image"
    count: int = NEIGHBOURS

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Find them; there is no page."""
        del page
        _, answer = _asked_image(look, self.image, content, self.name)
        found = look.nearest(answer, self.count)
        shown = [{**each.to_json(), "shown": png_address(each.pixels)} for each in found]
        return {"answer": answer.to_json(), "nearest": shown}


class LessonQuestion(Question):
    """What a layer does to an image, with its real numbers.

    Args:
        image: As of `ImageQuestion`.
        name: Likewise.
        layer: Name of the layer (default: the first that there is a lesson about).
        term: The lesson (default: the first that there is about this layer).
    """

    image: str | None = None
    name: str = "image"
    layer: str | None = None
    term: Term | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Write the page of the lesson, if there is one about this layer."""
        from opsin.commands.inspect_pages import write_lesson_page  # noqa: PLC0415  needs Jinja

        found, answer = _asked_image(look, self.image, content, self.name)
        terms = look.terms()
        said: Header = {
            "answer": answer.to_json(),
            "terms": {term: list(layers) for term, layers in terms.items()},
        }
        fitting = [term for term, layers in terms.items() if self.layer in (None, *layers)]
        term = self.term or next(iter(fitting), None)
        if term is None:
            return said
        lesson = look.lesson(term, answer, self.layer)
        write_lesson_page(look, found, answer, lesson, page)
        return said | {"term": term, "layer": lesson.layer}


class LayerQuestion(Question):
    """What excites each unit of a layer.

    Args:
        layer: Its name.
        label: The class that the units are sorted by.
        limit: Training images to look at (default: all).
    """

    layer: str
    label: str | None = None
    limit: int | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Write the page of the units."""
        del content
        found = Insight(look.classifier.path)
        look_at_units(look, found, page, [self.layer], label=self.label, limit=self.limit)
        gallery = found.galleries[self.layer]
        return {"units": len(gallery), "images": gallery.images}


class NetworkQuestion(Question):
    """What the network is: layers, receptive fields, weights."""

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Write the page of the network."""
        del content
        summary = look_at_network(look, Insight(look.classifier.path), page)
        return {"layers": len(summary.rows)}


_QUESTIONS: Final[dict[str, type[Question]]] = {
    "image": ImageQuestion,
    "explain": ExplainQuestion,
    "nearest": NearestQuestion,
    "layer": LayerQuestion,
    "lesson": LessonQuestion,
    "network": NetworkQuestion,
}


class WorkerAnswers:
    """One classifier and what can be asked of it; opened at the first question.

    Args:
        model: A run directory, or a ``classifier.onnx``.
        folder: Where pages go, each under the name that its question has as ``id``.
        say: Sends a header.
    """

    def __init__(self, model: str | os.PathLike[str], folder: Path, say: Say) -> None:
        self._model = model
        self._folder = folder
        self._say = say
        self._progress = _Progress(say)

    @cached_property
    def _look(self) -> Inspection:
        return Inspection(self._model, watcher=self._progress)

    def answer(self, asked: Header, content: bytes) -> None:
        """Answer one question: what was found, or why nothing was.

        Args:
            asked: ``{"id": "1a2b", "do": "image", "with": {"image": "test/17"}}``
            content: The bytes of an image that is not known, or nothing.
        """
        number = None
        try:
            self._progress.number = number = _number(asked)
            question = _question(asked)
            page = self._folder / f"{number}.html"
            said = question.answer(self._look, content, page)
            shown = str(page) if page.is_file() else None
            self._say({"id": number, "page": shown, "said": said})
        except OpsinError as error:
            self._refuse(number, error)
        except MemoryError:
            self._refuse(number, OpsinError(
                "enough memory", "there was too little", "Close other programs and ask again."
            ))  # fmt: skip
        except OSError as error:
            if isinstance(error, BrokenPipeError):  # nothing reads the answers any more
                raise
            reason = (error.strerror or str(error)).lower()
            self._refuse(number, OpsinError(
                "a file that can be read and written", reason, "Correct this and ask again."
            ))  # fmt: skip

    def _refuse(self, number: str | None, error: OpsinError) -> None:
        self._say({"id": number, "error": error_values(error)})


class _Progress(Watcher):
    """Tells how far the work is, a few times a second."""

    def __init__(self, say: Say) -> None:
        self.number = ""
        self._say = say
        self._told = 0.0
        self._what, self._total = "", 0

    def doing(self, what: str) -> None:
        if what != self._what:
            self._what, self._total = what, 0
            self._tell(0)

    def begin(self, what: str, total: int, unit: str) -> None:  # noqa: ARG002  of the hook
        self._what, self._total = what, total
        self._tell(0)

    def advance(self, done: int, **figures: float) -> None:  # noqa: ARG002  of the hook
        if time.monotonic() - self._told >= _EVERY:
            self._tell(done)

    def _tell(self, done: int) -> None:
        self._told = time.monotonic()
        self._say({"id": self.number, "progress": [self._what, done, self._total]})


def _number(asked: Header) -> str:
    """Return what a question is called: letters and digits, since its page is called so too."""
    number = asked.get("id")
    if not isinstance(number, str) or not re.fullmatch(r"[A-Za-z0-9]{1,64}", number):
        raise RecipeError(
            'a question such as {"id": "1", "do": "network", "with": {}}',
            f"got {json.dumps(asked)[:80]}",
            "Send one question a frame.",
        )
    return number


def _question(asked: Header) -> Question:
    """Return what is asked, and with what."""
    verb, given = asked.get("do"), asked.get("with", {})
    if not isinstance(verb, str) or verb not in _QUESTIONS:
        known = ", ".join(_QUESTIONS)
        raise RecipeError(f"a question among {known}", f"got {verb!r}", "Ask one of these.")
    kind = _QUESTIONS[verb]
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise RecipeError(
            f"{verb} with {', '.join(sorted(kind.model_fields)) or 'nothing'}",
            f"got {json.dumps(given)[:80]}",
            "Ask with these.",
        ) from error


def _asked_image(
    look: Inspection, image: str | None, content: bytes, name: str
) -> tuple[Insight, Prediction]:
    """Classify the image that a question is about.

    Args:
        look: The classifier.
        image: One of the known images by part and number, such as ``test/17``.
        content: Or the bytes of any.
        name: What to call those.

    Raises:
        RecipeError: Neither or both were given, or there is no such image.
        ImageError: The bytes are no image.
    """
    if (image is None) == (not content):
        raise RecipeError("an image or its content", "got neither or both", "Give one of them.")
    if content:
        answer = look.predict(content, name=name)
    else:
        known = str(image)
        if not _KNOWN.fullmatch(known) or look.known.row_called(known) is None:
            count = len(look.known.test)
            raise RecipeError(
                "one of the known images, by part and number",
                f"got {known[:80]!r}; the test part has {count:,}",
                "Give test/0 or another.",
            )
        answer = look.predict(known)
    return Insight(look.classifier.path, answer=answer), answer


def _written(look: Inspection, found: Insight, answer: Prediction, page: Path) -> Header:
    """Write the page about an image and return what is said of it."""
    from opsin.commands.inspect_pages import write_image_page  # noqa: PLC0415  needs Jinja

    write_image_page(look, found, answer, page)
    actual = look.actual(answer)
    label = None if actual is None else look.classifier.classes[actual]
    return {"answer": answer.to_json(), "actual": label}


def answer_frames(
    model: str | os.PathLike[str], folder: Path, source: io.BufferedIOBase, target: BinaryIO
) -> None:
    """Answer questions until there are no more, one frame (`opsin.core.framing`) each.

    In: ``{"id", "do": "image" | "layer" | "lesson" | "network" | "nearest" | "explain", "with":
    {…}}``, and as the body the bytes of an image that the classifier's run does not have.
    Out: ``{"id", "progress": [what, done, total]}`` any number of times (a total of 0: it is
    unknown), then ``{"id", "page": path or null, "said": {…}}`` or ``{"id", "error": […]}``
    (`opsin.core.child_process.error_values`).

    Args:
        model: A run directory, or a ``classifier.onnx``.
        folder: Where pages go, each called after the ``id`` (letters and digits) of its question.
        source: The questions.
        target: Where the answers go.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> asked, said = io.BytesIO(*pack({"id": "a", "do": "network"})), io.BytesIO()
        >>> answer_frames(run.path, run.path, asked, said)
        >>> said.getvalue().endswith(b'"said":{"layers":5}}')
        True
        >>> (run.path / "a.html").is_file()
        True
    """

    def say(header: Header) -> None:
        target.write(b"".join(pack(header)))
        target.flush()

    answers = WorkerAnswers(model, folder, say)
    while (frame := receive(source)) is not None:
        answers.answer(frame[0], whole(frame[1]))


def main() -> None:
    """Answer the questions on standard input until it is closed."""
    model, folder = sys.argv[1:]
    output = take_output()
    answer_frames(model, Path(folder), cast(io.BufferedIOBase, sys.stdin.buffer), output)


if __name__ == "__main__":
    main()
