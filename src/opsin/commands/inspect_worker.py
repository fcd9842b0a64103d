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

from opsin.commands.inspect import NEIGHBOURS, look_at_image, look_at_network, look_at_units
from opsin.commands.inspect_model import Insight, Inspection
from opsin.core.child_process import Header, error_values, pack, receive, take_output, whole
from opsin.core.errors import OpsinError, RecipeError
from opsin.core.events import Watcher
from opsin.data.array_image import png_address
from opsin.inspection.lessons.lesson_terms import Term
from opsin.runtime.prediction import Prediction

# A known image by its part and number. Files are not read: the bytes come with the question.
_KNOWN: Final = re.compile(r"(train|val|test)/\d{1,12}")
# Seconds between two frames about the progress of the same work.
_EVERY: Final = 0.2

Say = Callable[[Header], None]


class _Question(BaseModel):
    """What can be asked, with what it is asked with."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        """Find the answer, write its page if it has one, and return what is said of it."""
        raise NotImplementedError


class _ImageQuestion(_Question):
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


class _LayersQuestion(_ImageQuestion):
    """What a layer, or each of them, makes of an image: a page."""

    layer: str | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        answer = self.predict(look, content)
        layers = () if self.layer is None else (self.layer,)
        look_at_image(look, Insight(look.classifier.path), answer, page, layers)
        return _with_label(look, answer)


class _ExplainQuestion(_ImageQuestion):
    """Why an image got its answer: a page of heat maps for a class, by default the answer."""

    label: str | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        answer, found = self.predict(look, content), Insight(look.classifier.path)
        look_at_image(look, found, answer, page, None, explain=True, label=self.label)
        return _with_label(look, answer)


class _NearestQuestion(_ImageQuestion):
    """The training images that the network sees most like an image, with their pixels; no page."""

    count: int = NEIGHBOURS

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        del page
        answer = self.predict(look, content)
        nearest = look.nearest(answer, self.count)
        shown = [{**image.to_json(), "shown": png_address(image.pixels)} for image in nearest]
        return {"answer": answer.to_json(), "nearest": shown}


class _LessonQuestion(_ImageQuestion):
    """What a layer does to an image; by default the first lesson that there is; a page of it."""

    layer: str | None = None
    term: Term | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        from opsin.commands.inspect_pages import write_lesson_page  # noqa: PLC0415  needs Jinja

        answer, terms = self.predict(look, content), look.terms()
        found: Header = {
            "answer": answer.to_json(),
            "terms": {term: list(layers) for term, layers in terms.items()},
        }
        fitting = [term for term, layers in terms.items() if self.layer in (None, *layers)]
        term = self.term or next(iter(fitting), None)
        if term is None:
            return found
        lesson = look.lesson(term, answer, self.layer)
        write_lesson_page(look, Insight(look.classifier.path), answer, lesson, page)
        return found | {"term": term, "layer": lesson.layer}


class _UnitsQuestion(_Question):
    """What excites each unit of a layer, sorted by a class; ``limit``: training images to see."""

    layer: str
    label: str | None = None
    limit: int | None = None

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        del content
        found = Insight(look.classifier.path)
        look_at_units(look, found, page, [self.layer], label=self.label, limit=self.limit)
        gallery = found.galleries[self.layer]
        return {"units": len(gallery), "images": gallery.images}


class _NetworkQuestion(_Question):
    """What the network is: a page of layers, receptive fields, weights."""

    def answer(self, look: Inspection, content: bytes, page: Path) -> Header:
        del content
        look_at_network(look, Insight(look.classifier.path), page)
        return {"layers": len(look.classifier.metadata.layers)}


_QUESTIONS: Final[dict[str, type[_Question]]] = {
    "image": _LayersQuestion,
    "explain": _ExplainQuestion,
    "nearest": _NearestQuestion,
    "layer": _UnitsQuestion,
    "lesson": _LessonQuestion,
    "network": _NetworkQuestion,
}


def _with_label(look: Inspection, answer: Prediction) -> Header:
    actual = look.actual(answer)
    label = None if actual is None else look.classifier.classes[actual]
    return {"answer": answer.to_json(), "actual": label}


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
            found = _question_of(asked).answer(self._look, content, page)
            answer: Header = {"page": str(page) if page.is_file() else None, "said": found}
        except (OpsinError, MemoryError, OSError) as error:
            if isinstance(error, BrokenPipeError):  # nothing reads the answers any more
                raise
            answer = {"error": error_values(_for_people(error))}
        self._say({"id": number} | answer)


def _for_people(error: OpsinError | MemoryError | OSError) -> OpsinError:
    if isinstance(error, OpsinError):
        return error
    if isinstance(error, MemoryError):
        advice = "Close other programs and ask again."
        return OpsinError("enough memory", "there was too little", advice)
    reason = (error.strerror or str(error)).lower()
    return OpsinError("a file that can be read and written", reason, "Correct this and ask again.")


class _Progress(Watcher):
    """Tells how far the work is, a few times a second."""

    def __init__(self, say: Say) -> None:
        self.number = ""
        self._say = say
        self._sent = 0.0
        self._what, self._total = "", 0

    def doing(self, what: str) -> None:
        if what != self._what:
            self._what, self._total = what, 0
            self._send(0)

    def begin(self, what: str, total: int, unit: str) -> None:  # noqa: ARG002  of the hook
        self._what, self._total = what, total
        self._send(0)

    def advance(self, done: int, **figures: float) -> None:  # noqa: ARG002  of the hook
        if time.monotonic() - self._sent >= _EVERY:
            self._send(done)

    def _send(self, done: int) -> None:
        self._sent = time.monotonic()
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


def _question_of(asked: Header) -> _Question:
    """Return what is asked, and with what."""
    verb, options = asked.get("do"), asked.get("with", {})
    if not isinstance(verb, str) or verb not in _QUESTIONS:
        known = ", ".join(_QUESTIONS)
        raise RecipeError(f"a question among {known}", f"got {verb!r}", "Ask one of these.")
    kind = _QUESTIONS[verb]
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        raise RecipeError(
            f"{verb} with {', '.join(sorted(kind.model_fields)) or 'nothing'}",
            f"got {json.dumps(options)[:80]}",
            "Ask with these.",
        ) from error


def answer_frames(
    model: str | os.PathLike[str], folder: Path, source: io.BufferedIOBase, target: BinaryIO
) -> None:
    """Answer questions until there are no more, one frame each."""

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
