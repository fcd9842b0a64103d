"""Answers of the process that looks inside a classifier: plain data, and images by number."""

from __future__ import annotations

import base64
from typing import Final

import numpy as np

from opsin.commands.inspect_model import Inspection, nearest_if_any
from opsin.core.child_process import Header
from opsin.core.errors import ModelFileError
from opsin.core.plain_data import plain_data
from opsin.data.pixel_values import png_address
from opsin.inspection.lessons.lesson_terms import SENTENCES
from opsin.inspection.lessons.windows import Lesson
from opsin.inspection.units import UnitGallery
from opsin.report.inside.decision_sections import counterfactual_words, neighbours_words, overlay
from opsin.report.inside.layer_sections import figure, picture_of, scale_of_view, sees_in_words
from opsin.report.maps import STOPS, indexed_address, small
from opsin.runtime.prediction import Prediction

# Longest side of an image beside maps, and of a photograph that activates a unit, in pixels.
_SIDE, _BEST_SIDE = 512, 192
# Probabilities with an answer.
_TOP: Final = 5


class Images(list[bytes]):
    """Images that go with an answer; it names them by their numbers."""

    def add(self, address: str) -> int:
        """Take an embedded image, and return its number."""
        self.append(base64.b64decode(address.partition(",")[2]))
        return len(self) - 1


def answer_of(look: Inspection, answer: Prediction) -> Header:
    """The classifier's answer to an image."""
    actual = look.actual(answer)
    return {
        "name": answer.name, "label": answer.answer, "confidence": answer.confidence,
        "top": [[name, share] for name, share in answer.top(_TOP)],
        "actual": None if actual is None else look.classifier.classes[actual],
    }  # fmt: skip


def maps_of(
    look: Inspection, answer: Prediction, layer: str, chosen: slice | int, images: Images
) -> Header:
    """What a layer makes of an image: some of its strongest units, or one by its number."""
    (view,) = look.layers(answer, [layer])
    size = (answer.pixels.shape[0], answer.pixels.shape[1])
    field, scale = look.network.receptive_field(layer), scale_of_view(view)
    is_map, is_last = view.values.ndim == 3, look.classifier.metadata.layers[-1].name == layer
    units: list[Header] = []
    for number in [chosen] if isinstance(chosen, int) else view.order[chosen].tolist():
        if not 0 <= number < len(view.values):
            raise ModelFileError(f"This layer has no unit {number}; it has {len(view.values)}")
        values = np.nan_to_num(view.values[number])
        unit: Header = {"unit": number, "low": float(values.min()), "high": float(values.max())}
        if is_map:
            row, column = place = divmod(int(np.abs(values).argmax()), values.shape[1])
            address = indexed_address(scale.places(values), scale.colours)
            unit |= {"image": images.add(address), "mean": float(values.mean()), "place": place}
            unit["box"] = (0, 0, *size) if field is None else field.box(row, column, size)
        units.append(unit)
    return {
        "answer": answer_of(look, answer), "size": size, "maps": is_map, "units": units,
        "names": look.classifier.classes if is_last else (),
        "image": images.add(png_address(small(answer.pixels, _SIDE))), "total": len(view.values),
        "sees": sees_in_words(field, size),
        "low": figure(scale.low), "high": figure(scale.high), "stops": list(STOPS[scale.colours]),
    }  # fmt: skip


def unit_of(look: Inspection, gallery: UnitGallery, number: int, images: Images) -> Header:
    """The training images that activate a unit most."""
    unit, best = gallery.unit(number), []
    for top in unit.best:
        pixels = top.pixels
        cut = top.box != (0, 0, *pixels.shape[:2])
        best.append({
            "image": images.add(png_address(small(pixels, _BEST_SIDE))), "class": top.label,
            "patch": images.add(png_address(top.patch)) if cut and top.patch.size else None,
            "box": top.box if cut else None, "value": top.value,
        })  # fmt: skip
    return {
        "best": best, "mix": list(unit.mix.items()), "constant": unit.constant,
        "images": gallery.images, "total": len(look.known.rows_of("train")),
    }  # fmt: skip


def decision_of(look: Inspection, answer: Prediction, images: Images) -> Header:
    """Heat maps with their checks, what decides, and the training images most like it."""
    decision = look.explain(answer)
    said: Header = {"notes": list(decision.notes), "maps": [
        {"method": heat.method, "trusted": heat.verdict.trusted, "verdict": heat.verdict.words,
         "image": images.add(png_address(overlay(decision.pixels, heat.heat))),
         "notes": list(heat.notes)}
        for heat in decision.maps
    ]}  # fmt: skip
    if decision.maps:
        said["part"] = counterfactual_words(decision)
    if decision.counterfactual is not None:
        said["without"] = images.add(png_address(small(decision.counterfactual.pixels, _SIDE)))
    if near := nearest_if_any(look, answer):
        said["near"] = neighbours_words(near, decision)
        said["nearest"] = [
            {"class": decision.classes[other.label],
             "image": images.add(png_address(small(other.pixels, _BEST_SIDE)))} for other in near
        ]  # fmt: skip
    return said


def lesson_of(lesson: Lesson, images: Images) -> Header:
    """A lesson's numbers and maps."""
    drawn = [picture_of(title, values, boxes=boxes, written=False)
             for title, values, boxes in lesson.drawn]  # fmt: skip
    numbers: Header = plain_data(lesson)
    return numbers | {
        "sentence": SENTENCES[lesson.term],
        "pictures": [{"title": one.title, "alt": one.words, "image": images.add(one.address),
                      "boxes": one.boxes} for one in drawn],
    }  # fmt: skip
