"""The process that looks inside one classifier for the studio.

It is started as ``python -m opsin.commands.inspect_worker MODEL FOLDER``, answers one frame after
another, and ends when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from opsin.commands.inspect import NEIGHBOURS, image_page, lesson_page, network_page, unit_page
from opsin.commands.inspect_model import Inspection
from opsin.core.child_process import Header, error_values, pack, receive, take_output, whole
from opsin.core.errors import OpsinError, RecipeError
from opsin.core.events import Watcher
from opsin.core.plain_data import plain_data
from opsin.data.pixel_values import png_address
from opsin.inspection.lessons.lesson_terms import Term
from opsin.runtime.prediction import Prediction

# What can be asked.
_VERBS: Final = ("image", "explain", "nearest", "layer", "lesson", "network")
# A known image by its part and number. Files are not read: the bytes come with the question.
_KNOWN: Final = re.compile(r"(train|val|test)/\d{1,12}")
# Seconds between two frames about the progress of the same work.
_EVERY: Final = 0.2


class _Question(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    image: str | None = None  # a known one, by part and number
    name: str = "image"  # what to call an image that was sent
    layer: str | None = None
    label: str | None = None
    term: Term | None = None
    count: int = NEIGHBOURS
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


def _answer(verb: str, question: _Question, look: Inspection, content: bytes, page: Path) -> Header:
    """Answer one of `_VERBS`, and write its page, if it has one."""
    if verb == "network":
        network_page(look, page)
        return {"layers": len(look.classifier.metadata.layers)}
    if verb == "layer":
        layer = question.layer or ""
        if question.label is not None:
            look.class_called(question.label)
        insight = unit_page(look, page, [layer], label=question.label, limit=question.limit)
        gallery = insight.galleries[layer]
        return {"units": len(gallery), "images": gallery.images}
    answer = question.predict(look, content)
    header: Header = {"answer": plain_data(answer)}
    if verb == "nearest":  # with their pixels, and no page
        nearest = look.nearest(answer, question.count)
        shown = [plain_data(image) | {"shown": png_address(image.pixels)} for image in nearest]
        return header | {"nearest": shown}
    if verb == "lesson":  # by default the first of the layer
        terms = look.terms()
        header["terms"] = {term: list(layers) for term, layers in terms.items()}
        fitting = [term for term, layers in terms.items() if question.layer in (None, *layers)]
        term = question.term or next(iter(fitting), None)
        if term is None:
            return header
        lesson = look.lesson(term, answer, question.layer)
        lesson_page(look, answer, lesson, page)
        return header | {"term": term, "layer": lesson.layer}
    if verb == "explain":
        image_page(look, answer, page, None, explain=True, label=question.label)
    else:
        image_page(look, answer, page, () if question.layer is None else (question.layer,))
    actual = look.actual(answer)
    label = None if actual is None else look.classifier.classes[actual]
    return header | {"actual": label}


class _Worker(Watcher):
    """One classifier, opened at the first question; reports progress a few times a second."""

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
        """Answer one question with a result or an error."""
        number, verb, options = asked.get("id"), asked.get("do"), asked.get("with", {})
        # A page is named after its question.
        named = isinstance(number, str) and re.fullmatch(r"[A-Za-z0-9]{1,64}", number)
        self._number = str(number) if named else None
        try:
            if not named or not isinstance(verb, str) or verb not in _VERBS:
                raise RecipeError(f"{json.dumps(asked)[:80]} is no question")
            try:
                question = _Question.model_validate(options)
            except ValidationError as error:
                raise RecipeError(f"{json.dumps(options)[:80]} is no question") from error
            page = self._folder / f"{self._number}.html"
            answer = _answer(verb, question, self._look, content, page)
            self._say(page=str(page) if page.is_file() else None, said=answer)
        except OpsinError as error:
            self._say(error=error_values(error))
        except MemoryError:
            few = OpsinError("There was too little memory", "Close other programs and ask again.")
            self._say(error=error_values(few))
        except BrokenPipeError:  # nothing reads the answers any more
            raise
        except OSError as error:
            self._say(error=error_values(OpsinError(error.strerror or str(error))))

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


def answer_frames(
    model: str | os.PathLike[str], folder: Path, source: BinaryIO, target: BinaryIO
) -> None:
    """Answer questions until there are no more, one frame each."""
    worker = _Worker(model, folder, target)
    while (frame := receive(source)) is not None:
        worker.answer(frame[0], whole(frame[1]))


if __name__ == "__main__":
    answer_frames(sys.argv[1], Path(sys.argv[2]), sys.stdin.buffer, take_output())
