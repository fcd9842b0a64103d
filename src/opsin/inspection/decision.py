"""Why an image got its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from opsin.core.arrays import Floats, Pixels
from opsin.core.events import SILENT, Watcher
from opsin.core.stored_json import JsonObject
from opsin.data.network_pixels import has_no_contrast
from opsin.inspection.faithfulness import (
    DeletionCurves,
    FaithfulnessVerdict,
    RandomBaseline,
    assess_faithfulness,
    chance,
    curves_of,
    random_weights,
)
from opsin.inspection.occlusion import (
    Answer,
    Counterfactual,
    counterfactual,
    fill_of,
    occlusion_map,
    training_mean,
)
from opsin.onnx_files.onnx_graph import OnnxGraph, Subnetwork
from opsin.onnx_files.postprocessing import IMAGES, PROBABILITIES
from opsin.runtime.classifier import Classifier

NO_MAPS: Final = "No heat maps: the image has no contrast, so no part of it stands out."
NO_WEIGHTS: Final = (
    "A model without weights cannot be compared with one of random weights: its map has passed or "
    "failed one check only."
)

# Pixels of the images that a network is asked about at once.
_PIXELS: Final = 1_000_000


@dataclass(frozen=True)
class MethodHeat:
    """A heat map before it is checked, and that of a network with random weights, if any."""

    heat: Floats  # [H, W]; large values speak for the class, negative against it
    random: Floats | None
    notes: tuple[str, ...] = ()


#: Draws the maps that need gradients. Takes the network, its file with random weights (``None``:
#: it has none), the pixels, the class and the fill; returns maps by method and why some are
#: missing. It is passed in, since gradients need PyTorch and this half runs without.
GradientMaps = Callable[
    [OnnxGraph, bytes | None, Pixels, int, Pixels],
    tuple[dict[str, MethodHeat], list[str]],
]


@dataclass(frozen=True)
class HeatMap:
    """The heat map of one method for an image and a class, with its checks."""

    method: str  # ``saliency``, ``grad-cam``, ``integrated-gradients`` or ``occlusion``
    heat: Floats
    random_heat: Floats | None
    curves: DeletionCurves
    by_chance: RandomBaseline
    verdict: FaithfulnessVerdict
    notes: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """Plain data, the map as lists of rows."""
        curves, chance = self.curves, self.by_chance
        return {
            "method": self.method, **self.verdict.to_json(),
            "deletion_area": curves.deletion_area, "insertion_area": curves.insertion_area,
            "deletion_chance": list(chance.deletion_area),
            "insertion_chance": list(chance.insertion_area), "notes": list(self.notes),
            "heat": [[float(f"{value:.5g}") for value in row] for row in self.heat.tolist()],
        }  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """Why an image got its answer; ``target`` and ``answer`` are places among the classes."""

    pixels: Pixels  # [H, W, C]
    classes: tuple[str, ...]
    target: int  # the class that is explained
    answer: int
    probabilities: Floats  # [K]
    fill: Pixels  # what hidden pixels become, [C]
    maps: tuple[HeatMap, ...]
    counterfactual: Counterfactual | None  # the smallest part found that changes the answer
    notes: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """Plain data, the image left out."""
        changed = None
        if self.counterfactual is not None:
            changed = self.counterfactual.to_json() | {
                "before": self.classes[self.counterfactual.before],
                "after": self.classes[self.counterfactual.after],
            }
        return {
            "class": self.classes[self.target],
            "probability": float(self.probabilities[self.target]),
            "answer": self.classes[self.answer],
            "maps": [heat_map.to_json() for heat_map in self.maps],
            "counterfactual": changed,
            "notes": list(self.notes),
        }


def explain(
    classifier: Classifier, network: OnnxGraph, pixels: Pixels, *, target: int | None = None,
    gradient_maps: GradientMaps | None = None, seed: int = 0, watcher: Watcher = SILENT,
) -> Decision:  # fmt: skip
    """Heat maps of several methods for one image and one class, each checked."""
    answer, classes = classifier.probabilities, classifier.classes
    (row,) = answer(pixels[None])
    best = int(row.argmax())
    wanted = best if target is None else target
    fill = fill_of(pixels, training_mean(classifier))
    if has_no_contrast(pixels):
        return Decision(pixels, classes, wanted, best, row, fill, (), None, (NO_MAPS,))
    watcher.doing("heat maps")
    drawn = random_weights(network, seed=seed)
    by_method: dict[str, MethodHeat] = {}
    notes: list[str] = []
    if gradient_maps is not None:
        by_method, notes = gradient_maps(network, drawn, pixels, wanted, fill)
    heat = occlusion_map(answer, pixels, wanted, fill, watcher=watcher)
    random = None if drawn is None else occlusion_map(_asking(drawn), pixels, wanted, fill)
    by_method["occlusion"] = MethodHeat(heat, random)
    watcher.doing("checks of the heat maps")
    maps = []
    for method, raw in by_method.items():
        curves = curves_of(answer, pixels, raw.heat, wanted, fill, seed=seed)
        by_chance = chance(answer, pixels, raw.heat, wanted, fill, seed=seed)
        verdict = assess_faithfulness(raw.heat, curves, by_chance, raw.random)
        maps.append(HeatMap(method, raw.heat, raw.random, curves, by_chance, verdict, raw.notes))
    if drawn is None:
        notes.append(NO_WEIGHTS)
    watcher.doing("smallest part that decides")
    answer_heat = heat if wanted == best else occlusion_map(answer, pixels, best, fill)
    changed = counterfactual(answer, pixels, answer_heat, fill)
    return Decision(pixels, classes, wanted, best, row, fill, tuple(maps), changed, tuple(notes))


def _asking(content: bytes) -> Answer:
    part = Subnetwork(content)
    index = part.outputs.index(PROBABILITIES)

    def answer(images: Pixels) -> Floats:
        size = max(8, _PIXELS // (images.shape[1] * images.shape[2]))
        parts = (images[start : start + size] for start in range(0, len(images), size))
        return np.concatenate([part.run({IMAGES: some})[index] for some in parts])

    return answer
