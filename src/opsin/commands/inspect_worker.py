"""The process that looks inside one classifier for the studio.

It is started as ``python -m opsin.commands.inspect_worker MODEL [BYTES]``, which limits the memory
that answers may take, answers one frame after another, and ends when its standard input is closed.
An answer's images lie in the body of its frame.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from typing import BinaryIO, Final, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from opsin.commands.inspect_model import Inspection, nearest_if_any
from opsin.core.arrays import Floats, Pixels
from opsin.core.child_process import Answering, Header, take_output
from opsin.core.errors import ModelFileError, RecipeError
from opsin.core.metadata import Preparation, Resize
from opsin.core.platform import limit_process
from opsin.core.stored_json import plain_data
from opsin.data.images import open_apart
from opsin.data.network_pixels import INVERTED, placement
from opsin.data.pixel_values import png_address
from opsin.inspection.lessons.lesson_terms import SENTENCES, Term
from opsin.inspection.lessons.windows import Lesson
from opsin.inspection.occlusion import fill_of, occlusion_map, training_mean
from opsin.inspection.units import UnitGallery
from opsin.report.inside.decision_sections import counterfactual_words, neighbours_words, overlay
from opsin.report.inside.layer_sections import figure, picture_of, scale_of_view, sees_in_words
from opsin.report.maps import STOPS, indexed_address, small
from opsin.runtime.prediction import Prediction

# A known image by its part and number. Files are not read: the bytes come with the question.
_KNOWN: Final = re.compile(r"(train|val|test|out_of_fold)/\d{1,12}")
# Units of an answer, and probabilities.
_UNITS, _TOP = 48, 5
# Longest side of a heat map, an image beside maps, and one that activates a unit, in pixels.
_LARGE, _SIDE, _BEST_SIDE = 1024, 512, 192
# Seconds after which a heat map gets no finer.
_FINE: Final = 6.0


class _Options(BaseModel, frozen=True, strict=True, extra="forbid"):
    image: str | None = None  # a known one, by part and number
    name: str = "image"  # what to call an image that was sent
    layer: str = ""
    term: Term | None = None
    unit: int | None = None
    first: int = Field(0, ge=0)  # units that were given before
    limit: int | None = None  # training images to see


class _Question(BaseModel, frozen=True, strict=True, extra="forbid"):
    do: Literal["predict", "where", "layers", "maps", "unit", "lesson", "explain"]
    options: _Options = Field(_Options(), alias="with")


class _Images(list[bytes]):
    """Images that go with an answer, which names them by their numbers."""

    def embedded(self, address: str) -> int:
        """Take an embedded image, and return its number."""
        self.append(base64.b64decode(address.partition(",")[2]))
        return len(self) - 1

    def png(self, pixels: Pixels, side: int = _SIDE) -> int:
        """Take an image, smaller if it is larger than a side, and return its number."""
        return self.embedded(png_address(small(pixels, side)))


class InspectWorker(Answering):
    """One classifier, opened at the first question."""

    def __init__(self, model: str | os.PathLike[str], target: BinaryIO, memory: int = 0) -> None:
        self._model, self.target, self._memory = model, target, memory
        # The units of the layer that was asked about last.
        self._gallery: tuple[tuple[str, int | None], UnitGallery] | None = None

    @cached_property
    def _look(self) -> Inspection:
        look = Inspection(self._model, watcher=self)
        if self._memory:
            limit_process(self._memory)
        return look

    def _answer(self, do: str, asked: _Options, content: bytes, images: _Images) -> Header:
        look = self._look
        if do == "layers":
            return {"layers": [plain_data(layer) for layer in look.classifier.metadata.layers]}
        if do == "unit":
            key = asked.layer, asked.limit
            if self._gallery is None or self._gallery[0] != key:
                self._gallery = key, look.units(asked.layer, limit=asked.limit)
            return _unit(look, self._gallery[1], asked.unit or 0, images)
        answer = _predicted(look, asked, content)
        if do == "predict":
            return {name: value for name, value in vars(answer).items() if name != "pixels"}
        if do == "where":
            return _where(look, answer, content, images)
        if do == "maps":
            return _maps(look, answer, asked, images)
        if do == "explain":
            return _decision(look, answer, images)
        terms = look.terms()
        term = asked.term or next((one for one in terms if asked.layer in terms[one]), None)
        lesson = None if term is None else look.lesson(term, answer, asked.layer)
        return {"terms": terms, "lesson": lesson and _lesson(lesson, images)}

    def answer(self, asked: Header, content: bytes) -> tuple[object, Sequence[bytes]]:
        """What a question is answered, and the images that it names by number."""
        try:
            question = _Question.model_validate(asked)
        except ValidationError:
            raise RecipeError(f"{json.dumps(asked)[:160]} is no question") from None
        images = _Images()
        return self._answer(question.do, question.options, content, images), images


def _predicted(look: Inspection, asked: _Options, content: bytes) -> Prediction:
    if (asked.image is None) == (not content):
        raise RecipeError("One image is needed, known or sent")
    if asked.image is None:
        return look.predict(content, name=asked.name)
    if not _KNOWN.fullmatch(asked.image) or look.known.row_called(asked.image) is None:
        raise RecipeError(f"{asked.image[:80]!r} is no known image, such as test/0")
    return look.predict(asked.image)


def _maps(look: Inspection, answer: Prediction, asked: _Options, images: _Images) -> Header:
    """What a layer makes of an image: some of its strongest units, or one by its number."""
    started = time.monotonic()
    look.classifier.probabilities(answer.pixels[None])
    seconds = time.monotonic() - started
    (view,) = look.layers(answer, [asked.layer])
    size = (answer.pixels.shape[0], answer.pixels.shape[1])
    field, scale = look.network.receptive_field(asked.layer), scale_of_view(view)
    is_map = view.values.ndim == 3
    is_last = look.classifier.metadata.layers[-1].name == asked.layer
    some = view.order[asked.first : asked.first + _UNITS].tolist()
    units: list[Header] = []
    for number in some if asked.unit is None else [asked.unit]:
        if not 0 <= number < len(view.values):
            raise ModelFileError(f"This layer has no unit {number}; it has {len(view.values)}")
        values = np.nan_to_num(view.values[number])
        unit: Header = {"unit": number, "low": float(values.min()), "high": float(values.max())}
        if is_map:
            row, column = place = divmod(int(np.abs(values).argmax()), values.shape[1])
            address = indexed_address(scale.places(values), scale.colours)
            unit |= {
                "image": images.embedded(address),
                "mean": float(values.mean()),
                "place": place,
            }
            unit["box"] = (0, 0, *size) if field is None else field.box(row, column, size)
        units.append(unit)
    actual = look.actual(answer)
    in_short = {
        "name": answer.name,
        "label": answer.answer,
        "rejected": answer.rejected,
        "top": [[name, share] for name, share in answer.top(_TOP)],
        "actual": None if actual is None else look.classifier.classes[actual],
    }
    return {
        "answer": in_short,
        "size": size,
        "maps": is_map,
        "units": units,
        "names": look.classifier.classes if is_last else (),
        "seconds": seconds,
        "image": images.png(answer.pixels),
        "total": len(view.values),
        "sees": sees_in_words(field, size),
        "low": figure(scale.low),
        "high": figure(scale.high),
        "stops": list(STOPS[scale.colours]),
    }


def _unit(look: Inspection, gallery: UnitGallery, number: int, images: _Images) -> Header:
    unit, best = gallery.unit(number), []
    for top in unit.best:
        cut = top.box != (0, 0, *top.pixels.shape[:2])
        patch = images.embedded(png_address(top.patch)) if cut and top.patch.size else None
        best.append(
            {
                "image": images.png(top.pixels, _BEST_SIDE),
                "class": top.label,
                "patch": patch,
                "box": top.box if cut else None,
                "value": top.value,
            }
        )
    return {
        "best": best,
        "mix": list(unit.mix.items()),
        "constant": unit.constant,
        "images": gallery.images,
        "total": len(look.known.rows_of("train")),
    }


def _where(look: Inspection, answer: Prediction, content: bytes, images: _Images) -> Header:
    """How far hiding each part of a photograph lowers the answer's probability, drawn over it."""
    classifier, pixels = look.classifier, answer.pixels
    target = classifier.classes.index(answer.label)
    fill = fill_of(pixels, training_mean(classifier))
    heat = occlusion_map(classifier.probabilities, pixels, target, fill, seconds=_FINE)
    if content and not any(note.endswith(INVERTED) for note in answer.notes):
        pixels, _ = open_apart(content, answer.name, side=_LARGE)
        resize = classifier.metadata.preparation.resize
        heat = on_photograph(heat, resize, (pixels.shape[0], pixels.shape[1]))
    return {"image": images.png(overlay(pixels, heat), _LARGE)}


def on_photograph(heat: Floats, resize: Resize, size: tuple[int, int]) -> Floats:
    """Put a map of the network's pixels where they lie on a photograph (height, width)."""
    (high, wide), (height, width) = heat.shape, size
    prepared = Preparation(height=high, width=wide, channels=1, resize=resize)
    (along, down), (left, top, right, bottom) = placement(width, height, prepared)
    x, y = along / (right - left), down / (bottom - top)
    places = (x, 0, (wide - along) // 2 - left * x, 0, y, (high - down) // 2 - top * y)
    turned = Image.fromarray(heat).transform(
        (width, height), Image.Transform.AFFINE, places, Image.Resampling.BILINEAR
    )
    return np.asarray(turned)


def _decision(look: Inspection, answer: Prediction, images: _Images) -> Header:
    """Heat maps with their checks, what decides, and the training images most like it."""
    decision = look.explain(answer)
    said: Header = {
        "notes": list(decision.notes),
        "maps": [
            {
                "method": heat.method,
                "trusted": heat.verdict.trusted,
                "verdict": heat.verdict.words,
                "image": images.embedded(png_address(overlay(decision.pixels, heat.heat))),
                "notes": list(heat.notes),
            }
            for heat in decision.maps
        ],
    }
    if decision.maps:
        said["part"] = counterfactual_words(decision)
    if decision.counterfactual is not None:
        said["without"] = images.png(decision.counterfactual.pixels)
    if near := nearest_if_any(look, answer):
        said["near"] = neighbours_words(near, decision)
        said["nearest"] = [
            {"class": decision.classes[one.label], "image": images.png(one.pixels, _BEST_SIDE)}
            for one in near
        ]
    return said


def _lesson(lesson: Lesson, images: _Images) -> Header:
    drawn = [
        picture_of(title, values, boxes=boxes, written=False)
        for title, values, boxes in lesson.drawn
    ]
    numbers: Header = plain_data(lesson)
    return numbers | {
        "sentence": SENTENCES[lesson.term],
        "pictures": [
            {
                "title": one.title,
                "alt": one.words,
                "boxes": one.boxes,
                "image": images.embedded(one.address),
            }
            for one in drawn
        ],
    }


if __name__ == "__main__":
    output, memory = take_output(or_end=True), int((*sys.argv, "0")[2])
    InspectWorker(sys.argv[1], output, memory).answer_frames(sys.stdin.buffer)
