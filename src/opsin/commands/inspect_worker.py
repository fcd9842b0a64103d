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
from opsin.core.child_process import Header, error_values, pack, receive, take_output, whole
from opsin.core.errors import OpsinError, RecipeError
from opsin.core.events import Watcher
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
        """Find the answer, write its page if it has one, and return what is said of it."""
        raise NotImplementedError


class _ImageQuestion(Question):
    """A question about a known image by part and number, or about one whose bytes were sent."""

    image: str | None = None
    name: str = "image"  # what to call an image that was sent

    def predict(self, look: Inspection, content: bytes) -> Prediction:
        """Classify the image."""
        if (self.image is None) == (not content):
            raise RecipeError("an image or its content", "got neither or both", "Give one of them.")
        if self.image is None:
            return look.predict(content, name=self.name)
        if not _KNOWN.fullmatch(self.image) or look.known.row_called(self.image) is None:
            raise RecipeError(
                "one of the known images, by part and number",
                f"got {self.image[:80]!r}; the test part has {len(look.known.test):,}",
                "Give test/0 or another.",
            )
        return look.predict(self.image)

    def written(self, look: Inspection, found: Insight, page: Path) -> Header:
        """Write the page about the image."""
        from opsin.commands.inspect_pages import write_image_page  # noqa: PLC0415  needs Jinja

        answer = cast(Prediction, found.answer)
        write_image_page(look, found, answer, page)
        actual = look.actual(answer)
        label = None if actual is None else look.classifier.classes[actual]
        return {"answer": answer.to_json(), "actual": label}


class LayersQuestion(_ImageQuestion):
    """What a layer, or each of them, makes of an image."""

    layer: str | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Write the page of the layers."""
        answer = self.predict(look, content)
        found = Insight(look.classifier.path, answer=answer)
        add_layers(look, found, answer, () if self.layer is None else (self.layer,))
        return self.written(look, found, page)


class ExplainQuestion(_ImageQuestion):
    """Why an image got its answer: heat maps for a class, by default the answer."""

    label: str | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Write the page of the heat maps."""
        answer = self.predict(look, content)
        found = Insight(look.classifier.path, answer=answer)
        add_decision(look, found, answer, self.label)
        return self.written(look, found, page)


class NearestQuestion(_ImageQuestion):
    """The training images that the network sees most like an image, with their pixels."""

    count: int = NEIGHBOURS

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Find them; there is no page."""
        del page
        answer = self.predict(look, content)
        found = look.nearest(answer, self.count)
        shown = [{**each.to_json(), "shown": png_address(each.pixels)} for each in found]
        return {"answer": answer.to_json(), "nearest": shown}


class LessonQuestion(_ImageQuestion):
    """What a layer does to an image; by default the first lesson that there is."""

    layer: str | None = None
    term: Term | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Write the page of the lesson, if there is one about this layer."""
        from opsin.commands.inspect_pages import write_lesson_page  # noqa: PLC0415  needs Jinja

        answer, terms = self.predict(look, content), look.terms()
        said: Header = {
            "answer": answer.to_json(),
            "terms": {term: list(layers) for term, layers in terms.items()},
        }
        fitting = [term for term, layers in terms.items() if self.layer in (None, *layers)]
        term = self.term or next(iter(fitting), None)
        if term is None:
            return said
        lesson = look.lesson(term, answer, self.layer)
        write_lesson_page(look, Insight(look.classifier.path), answer, lesson, page)
        return said | {"term": term, "layer": lesson.layer}


class UnitsQuestion(Question):
    """What excites each unit of a layer, sorted by a class; ``limit``: training images to see."""

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
    "image": LayersQuestion,
    "explain": ExplainQuestion,
    "nearest": NearestQuestion,
    "layer": UnitsQuestion,
    "lesson": LessonQuestion,
    "network": NetworkQuestion,
}


class WorkerAnswers:
    """One classifier and what can be asked of it; opened at the first question."""

    def __init__(self, model: str | os.PathLike[str], folder: Path, say: Say) -> None:
        self._model, self._folder, self._say = model, folder, say
        self._progress = _Progress(say)

    @cached_property
    def _look(self) -> Inspection:
        return Inspection(self._model, watcher=self._progress)

    def answer(self, asked: Header, content: bytes) -> None:
        """Answer one question: what was found, or why nothing was."""
        number = None
        try:
            self._progress.number = number = _number(asked)
            page = self._folder / f"{number}.html"
            said = _question(asked).answer(self._look, content, page)
            answer: Header = {"page": str(page) if page.is_file() else None, "said": said}
        except OpsinError as error:
            answer = {"error": error_values(error)}
        except MemoryError:
            answer = {"error": error_values(OpsinError(
                "enough memory", "there was too little", "Close other programs and ask again."
            ))}  # fmt: skip
        except OSError as error:
            if isinstance(error, BrokenPipeError):  # nothing reads the answers any more
                raise
            reason = (error.strerror or str(error)).lower()
            answer = {"error": error_values(OpsinError(
                "a file that can be read and written", reason, "Correct this and ask again."
            ))}  # fmt: skip
        self._say({"id": number} | answer)


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


def answer_frames(
    model: str | os.PathLike[str], folder: Path, source: io.BufferedIOBase, target: BinaryIO
) -> None:
    """Answer questions until there are no more, one frame (`opsin.core.child_process`) each."""

    def say(header: Header) -> None:
        target.write(b"".join(pack(header)))
        target.flush()

    answers = WorkerAnswers(model, folder, say)
    while (frame := receive(source)) is not None:
        answers.answer(frame[0], whole(frame[1]))


if __name__ == "__main__":
    answer_frames(
        sys.argv[1], Path(sys.argv[2]), cast(io.BufferedIOBase, sys.stdin.buffer), take_output()
    )
