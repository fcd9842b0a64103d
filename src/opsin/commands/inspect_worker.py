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


class _Question(BaseModel):
    """What is asked: a known image by part and number, or one whose bytes were sent; a layer …."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    image: str | None = None
    name: str = "image"  # what to call an image that was sent
    layer: str | None = None
    label: str | None = None
    term: Term | None = None
    count: int = NEIGHBOURS
    limit: int | None = None  # training images to see

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


def _image(asked: _Question, look: Inspection, content: bytes, page: Path) -> Header:
    """What a layer, or each of them, makes of an image."""
    layers = () if asked.layer is None else (asked.layer,)
    answer = asked.predict(look, content)
    look_at_image(look, Insight(look.classifier.path), answer, page, layers)
    return _with_label(look, answer)


def _explain(asked: _Question, look: Inspection, content: bytes, page: Path) -> Header:
    """Why an image got its answer: heat maps for a class, by default the answer."""
    answer, found = asked.predict(look, content), Insight(look.classifier.path)
    look_at_image(look, found, answer, page, None, explain=True, label=asked.label)
    return _with_label(look, answer)


def _nearest(asked: _Question, look: Inspection, content: bytes, _: Path) -> Header:
    """The training images that the network sees most like an image, with their pixels; no page."""
    answer = asked.predict(look, content)
    nearest = look.nearest(answer, asked.count)
    shown = [{**image.to_json(), "shown": png_address(image.pixels)} for image in nearest]
    return {"answer": answer.to_json(), "nearest": shown}


def _lesson(asked: _Question, look: Inspection, content: bytes, page: Path) -> Header:
    """What a layer does to an image; by default the first lesson that there is."""
    from opsin.commands.inspect_pages import write_lesson_page  # noqa: PLC0415  needs Jinja

    answer, terms = asked.predict(look, content), look.terms()
    found: Header = {
        "answer": answer.to_json(),
        "terms": {term: list(layers) for term, layers in terms.items()},
    }
    fitting = [term for term, layers in terms.items() if asked.layer in (None, *layers)]
    term = asked.term or next(iter(fitting), None)
    if term is None:
        return found
    lesson = look.lesson(term, answer, asked.layer)
    write_lesson_page(look, Insight(look.classifier.path), answer, lesson, page)
    return found | {"term": term, "layer": lesson.layer}


def _units(asked: _Question, look: Inspection, _: bytes, page: Path) -> Header:
    """What excites each unit of a layer, sorted by a class."""
    found, layer = Insight(look.classifier.path), asked.layer or ""
    look_at_units(look, found, page, [layer], label=asked.label, limit=asked.limit)
    gallery = found.galleries[layer]
    return {"units": len(gallery), "images": gallery.images}


def _network(_: _Question, look: Inspection, __: bytes, page: Path) -> Header:
    """What the network is: layers, receptive fields, weights."""
    look_at_network(look, Insight(look.classifier.path), page)
    return {"layers": len(look.classifier.metadata.layers)}


def _with_label(look: Inspection, answer: Prediction) -> Header:
    actual = look.actual(answer)
    label = None if actual is None else look.classifier.classes[actual]
    return {"answer": answer.to_json(), "actual": label}


# What can be asked, and with what; each writes its page, if it has one.
_Answerer = Callable[[_Question, Inspection, bytes, Path], Header]
_QUESTIONS: Final[dict[str, tuple[_Answerer, set[str]]]] = {
    "image": (_image, {"image", "layer", "name"}),
    "explain": (_explain, {"image", "label", "name"}),
    "nearest": (_nearest, {"count", "image", "name"}),
    "layer": (_units, {"label", "layer", "limit"}),
    "lesson": (_lesson, {"image", "layer", "name", "term"}),
    "network": (_network, set()),
}


class _Worker(Watcher):
    """One classifier, opened at the first question; says how far it is a few times a second."""

    def __init__(self, model: str | os.PathLike[str], folder: Path, target: BinaryIO) -> None:
        self._model, self._folder, self._target = model, folder, target
        self._number: str | None = None
        self._sent = 0.0
        self._what, self._total = "", 0

    @cached_property
    def _look(self) -> Inspection:
        return Inspection(self._model, watcher=self)

    def _say(self, **header: object) -> None:
        self._target.write(b"".join(pack({"id": self._number, **header})))
        self._target.flush()

    def answer(self, asked: Header, content: bytes) -> None:
        """Answer one question: what was found, or why nothing was."""
        self._number = None
        try:
            self._number = number = _number(asked)
            page = self._folder / f"{number}.html"
            answerer, question = _question_of(asked)
            found = answerer(question, self._look, content, page)
            self._say(page=str(page) if page.is_file() else None, said=found)
        except OpsinError as error:
            self._say(error=error_values(error))
        except MemoryError:
            advice = "Close other programs and ask again."
            few = OpsinError("enough memory", "there was too little", advice)
            self._say(error=error_values(few))
        except BrokenPipeError:  # nothing reads the answers any more
            raise
        except OSError as error:
            reason, advice = (error.strerror or str(error)).lower(), "Correct this and ask again."
            refused = OpsinError("a file that can be read and written", reason, advice)
            self._say(error=error_values(refused))

    def doing(self, what: str) -> None:
        if what != self._what:
            self.begin(what, 0, "")

    def begin(self, what: str, total: int, unit: str) -> None:  # noqa: ARG002  of the hook
        self._what, self._total, self._sent = what, total, 0.0
        self.advance(0)

    def advance(self, done: int, **figures: float) -> None:  # noqa: ARG002  of the hook
        if time.monotonic() - self._sent >= _EVERY:
            self._sent = time.monotonic()
            self._say(progress=[self._what, done, self._total])


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


def _question_of(asked: Header) -> tuple[_Answerer, _Question]:
    """Return what answers a question, and with what it is asked."""
    verb, options = asked.get("do"), asked.get("with", {})
    if not isinstance(verb, str) or verb not in _QUESTIONS:
        known = ", ".join(_QUESTIONS)
        raise RecipeError(f"a question among {known}", f"got {verb!r}", "Ask one of these.")
    answerer, fields = _QUESTIONS[verb]
    refused = RecipeError(
        f"{verb} with {', '.join(sorted(fields)) or 'nothing'}",
        f"got {json.dumps(options)[:80]}",
        "Ask with these.",
    )
    try:
        question = _Question.model_validate(options)
    except ValidationError as error:
        raise refused from error
    if not question.model_fields_set <= fields or (verb == "layer" and question.layer is None):
        raise refused
    return answerer, question


def answer_frames(
    model: str | os.PathLike[str], folder: Path, source: io.BufferedIOBase, target: BinaryIO
) -> None:
    """Answer questions until there are no more, one frame each."""
    worker = _Worker(model, folder, target)
    while (frame := receive(source)) is not None:
        worker.answer(frame[0], whole(frame[1]))


if __name__ == "__main__":
    answer_frames(
        sys.argv[1], Path(sys.argv[2]), cast(io.BufferedIOBase, sys.stdin.buffer), take_output()
    )
