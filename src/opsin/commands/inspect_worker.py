"""The process that looks inside one classifier for the studio.

It is started as ``python -m opsin.commands.inspect_worker MODEL``, answers one frame after another,
and ends when its standard input is closed. An answer's images lie in the body of its frame.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from functools import cached_property
from typing import BinaryIO, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsin.commands.inspect_answers import (
    Images,
    answer_of,
    decision_of,
    lesson_of,
    maps_of,
    unit_of,
)  # fmt: skip
from opsin.commands.inspect_model import Inspection
from opsin.core.child_process import Header, error_values, pack, receive, take_output, whole
from opsin.core.errors import OpsinError, RecipeError
from opsin.core.events import Watcher
from opsin.core.plain_data import plain_data
from opsin.data.pixel_values import png_address
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.units import UnitGallery
from opsin.runtime.prediction import Prediction

# What can be asked.
_VERBS: Final = ("layers", "maps", "unit", "lesson", "explain", "nearest")
# A known image by its part and number. Files are not read: the bytes come with the question.
_KNOWN: Final = re.compile(r"(train|val|test|out_of_fold)/\d{1,12}")
# Units of an answer.
_UNITS: Final = 48
# Seconds between two frames about the progress of the same work.
_EVERY: Final = 0.2


class _Question(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    image: str | None = None  # a known one, by part and number
    name: str = "image"  # what to call an image that was sent
    layer: str = ""
    term: Term | None = None
    unit: int | None = None
    first: int = Field(0, ge=0)  # units that were given before
    limit: int | None = None  # training images to see

    def predict(self, look: Inspection, content: bytes) -> Prediction:
        """Classify the image."""
        if (self.image is None) == (not content):
            raise RecipeError("One image is needed, known or sent")
        if self.image is None:
            return look.predict(content, name=self.name)
        if not _KNOWN.fullmatch(self.image) or look.known.row_called(self.image) is None:
            raise RecipeError(
                f"{self.image[:80]!r} is no known image, such as test/0; the test part has "
                f"{len(look.known.test):,}"
            )
        return look.predict(self.image)


class _Worker(Watcher):
    """One classifier, opened at the first question; reports progress a few times a second."""

    def __init__(self, model: str | os.PathLike[str], target: BinaryIO) -> None:
        self._model, self._target = model, target
        self._number: str | None = None
        self._sent = 0.0
        self._what, self._total = "", 0
        # The units of the layer that was asked about last.
        self._gallery: tuple[tuple[str, int | None], UnitGallery] | None = None

    @cached_property
    def _look(self) -> Inspection:
        return Inspection(self._model, watcher=self)

    def _answer(self, verb: str, asked: _Question, content: bytes, images: Images) -> Header:
        look = self._look
        if verb == "layers":
            return {"layers": [plain_data(layer) for layer in look.classifier.metadata.layers]}
        if verb == "unit":
            return unit_of(look, self._units(asked.layer, asked.limit), asked.unit or 0, images)
        answer = asked.predict(look, content)
        if verb == "maps":
            started = time.monotonic()
            look.classifier.probabilities(answer.pixels[None])
            seconds = time.monotonic() - started
            some = slice(asked.first, asked.first + _UNITS) if asked.unit is None else asked.unit
            said = maps_of(look, answer, asked.layer, some, images)
            return said | {"seconds": seconds}
        if verb == "explain":
            return decision_of(look, answer, images)
        if verb == "nearest":
            shown = [plain_data(near) | {"image": images.add(png_address(near.pixels))}
                     for near in look.nearest(answer)]  # fmt: skip
            return {"answer": answer_of(look, answer), "nearest": shown}
        terms = look.terms()
        term = asked.term or next((one for one in terms if asked.layer in terms[one]), None)
        lesson = None if term is None else look.lesson(term, answer, asked.layer)
        return {"terms": terms, "lesson": lesson and lesson_of(lesson, images)}

    def _units(self, layer: str, limit: int | None) -> UnitGallery:
        if self._gallery is None or self._gallery[0] != (layer, limit):
            self._gallery = (layer, limit), self._look.units(layer, limit=limit)
        return self._gallery[1]

    def _say(self, header: Header, images: Images | None = None) -> None:
        self._target.write(b"".join(pack({"id": self._number, **header}, images or ())))
        self._target.flush()

    def answer(self, asked: Header, content: bytes) -> None:
        """Answer one question with a result or an error."""
        number, verb, options = asked.get("id"), asked.get("do"), asked.get("with", {})
        self._number = number if isinstance(number, str) else None
        try:
            if self._number is None or verb not in _VERBS:
                raise RecipeError(f"{json.dumps(asked)[:80]} is no question")
            try:
                question = _Question.model_validate(options)
            except ValidationError as error:
                raise RecipeError(f"{json.dumps(options)[:80]} is no question") from error
            images = Images()
            said = self._answer(verb, question, content, images)
            self._say({"said": said, "images": list(map(len, images))}, images)
        except OpsinError as error:
            self._say({"error": error_values(error)})
        except MemoryError:
            few = OpsinError("There was too little memory", "Close other programs and ask again.")
            self._say({"error": error_values(few)})
        except BrokenPipeError:  # nothing reads the answers any more
            raise
        except OSError as error:
            self._say({"error": error_values(OpsinError(error.strerror or str(error)))})

    def doing(self, what: str) -> None:
        if what != self._what:
            self.begin(what, 0, "")

    def begin(self, what: str, total: int, unit: str) -> None:  # noqa: ARG002  of the hook
        self._what, self._total, self._sent = what, total, 0.0
        self.advance(0)

    def advance(self, done: int, **figures: float) -> None:  # noqa: ARG002  of the hook
        if time.monotonic() - self._sent >= _EVERY:
            self._sent = time.monotonic()
            self._say({"progress": [self._what, done, self._total]})


def answer_frames(model: str | os.PathLike[str], source: BinaryIO, target: BinaryIO) -> None:
    """Answer questions until there are no more, one frame each."""
    worker = _Worker(model, target)
    while (frame := receive(source)) is not None:
        worker.answer(frame[0], whole(frame[1]))


if __name__ == "__main__":
    answer_frames(sys.argv[1], sys.stdin.buffer, take_output())
