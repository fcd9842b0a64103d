"""Why an image got its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.events import SILENT, Watcher
from opsin.core.stored_json import JsonObject
from opsin.data.blank_images import has_no_contrast
from opsin.inspection.faithfulness import (
    DeletionCurves,
    FaithfulnessVerdict,
    RandomBaseline,
    assess_faithfulness,
    chance,
    curves_of,
    random_weights,
)
from opsin.inspection.hidden_pixels import fill_of, training_mean
from opsin.inspection.occlusion import Answer, Counterfactual, counterfactual, occlusion_map
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.subnetwork import Subnetwork
from opsin.runtime.classifier import Classifier

#: What is said of an image without contrast.
NO_MAPS: Final = "No heat maps: the image has no contrast, so no part of it stands out."
#: What is said of files without layers that could be drawn anew.
NO_WEIGHTS: Final = (
    "A model without weights cannot be compared with one of random weights: its map has passed or "
    "failed one check only."
)

# Pixels of the images that a network is asked about at once.
_PIXELS: Final = 1_000_000


@dataclass(frozen=True)
class MethodHeat:
    """A heat map before it is checked.

    Args:
        heat: ``float32[H, W]``; large values speak for the class, negative ones against it.
        random: The map of a network with random weights; ``None``: there is no such network.
        notes: What else should be known about the map, sentences.
    """

    heat: NDArray[np.float32]
    random: NDArray[np.float32] | None
    notes: tuple[str, ...] = ()


#: Draws the maps that need gradients. Takes the network, its file with random weights (``None``:
#: it has none), the pixels, the class and the fill; returns maps by method and why some are
#: missing. It is passed in, since gradients need PyTorch and this half runs without.
GradientMaps = Callable[
    [OnnxGraph, bytes | None, NDArray[np.uint8], int, NDArray[np.uint8]],
    tuple[dict[str, MethodHeat], list[str]],
]


@dataclass(frozen=True)
class HeatMap:
    """What one method says about an image and a class.

    Args:
        method: ``saliency``, ``grad-cam``, ``integrated-gradients`` or ``occlusion``.
        heat: ``float32[H, W]``; large values speak for the class, negative ones against it.
        random_heat: The same from a network with random weights; ``None``: it cannot be made.
        curves: Its deletion and insertion curves.
        by_chance: Those of the same map at places that have nothing to do with the image.
        verdict: Whether it may be trusted.
        notes: What else should be known about it, sentences.
    """

    method: str
    heat: NDArray[np.float32]
    random_heat: NDArray[np.float32] | None
    curves: DeletionCurves
    by_chance: RandomBaseline
    verdict: FaithfulnessVerdict
    notes: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """Return it as plain data, the map as lists of rows."""
        return {
            "method": self.method,
            **self.verdict.to_json(),
            "deletion_area": self.curves.deletion_area,
            "insertion_area": self.curves.insertion_area,
            "deletion_chance": list(self.by_chance.deletion_area),
            "insertion_chance": list(self.by_chance.insertion_area),
            "notes": list(self.notes),
            "heat": [[float(f"{value:.5g}") for value in row] for row in self.heat.tolist()],
        }


@dataclass(frozen=True)
class Decision:
    """Why an image got its answer.

    Args:
        pixels: The image, ``uint8[H, W, C]``.
        classes: Names of the classes.
        target: The class that is explained, a place among them.
        answer: The answer, a place among them.
        probabilities: Of each class, ``float32[K]``.
        fill: What hidden pixels become, ``uint8[C]``.
        maps: One a method.
        counterfactual: The smallest part found whose hiding changes the answer, if there is one.
        notes: What could not be done, and how to get it, sentences.
    """

    pixels: NDArray[np.uint8]
    classes: tuple[str, ...]
    target: int
    answer: int
    probabilities: NDArray[np.float32]
    fill: NDArray[np.uint8]
    maps: tuple[HeatMap, ...]
    counterfactual: Counterfactual | None
    notes: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """Return it as plain data, the image left out."""
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
            "maps": [each.to_json() for each in self.maps],
            "counterfactual": changed,
            "notes": list(self.notes),
        }


def explain(
    classifier: Classifier,
    network: OnnxGraph,
    pixels: NDArray[np.uint8],
    *,
    target: int | None = None,
    gradient_maps: GradientMaps | None = None,
    seed: int = 0,
    watcher: Watcher = SILENT,
) -> Decision:
    """Return what several methods say about one image and one class, and whether to believe them.

    Occlusion works with every file; the other methods come from ``gradient_maps``. Where one is
    missing, ``notes`` says why.

    Args:
        classifier: An open classifier.
        network: The network in its file.
        pixels: A prepared image, ``uint8[H, W, C]``.
        target: The class to explain, a place among the classifier's (default: the answer).
        gradient_maps: Draws the maps that need gradients (default: none are drawn).
        seed: Decides random places and random weights.
        watcher: Receives the progress of the work.

    Example:
        >>> import tempfile, opsin
        >>> data = opsin.load("digits")
        >>> run = opsin.train(data, model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> file = run.classifier()
        >>> network = OnnxGraph(file.content)
        >>> decision = explain(file, network, data.images[0])
        >>> [each.method for each in decision.maps], decision.maps[0].heat.shape
        (['occlusion'], (8, 8))
    """
    answer = classifier.probabilities
    (row,) = answer(pixels[None])
    best = int(row.argmax())
    wanted = best if target is None else target
    fill = fill_of(pixels, training_mean(classifier, network.weights))
    if has_no_contrast(pixels):
        return Decision(pixels, classifier.classes, wanted, best, row, fill, (), None, (NO_MAPS,))
    watcher.doing("heat maps")
    asked = _Asked(answer, pixels, wanted, fill)
    drawn = random_weights(network, seed=seed)
    found: dict[str, MethodHeat] = {}
    notes: list[str] = []
    if gradient_maps is not None:
        found, notes = gradient_maps(network, drawn, pixels, wanted, fill)
    found["occlusion"] = occluded = asked.occlusion(drawn, watcher)
    watcher.doing("checks of the heat maps")
    maps = tuple(asked.checked(method, each, seed) for method, each in found.items())
    if drawn is None:
        notes.append(NO_WEIGHTS)
    watcher.doing("smallest part that decides")
    own = occluded.heat if wanted == best else occlusion_map(answer, pixels, best, fill)
    changed = counterfactual(answer, pixels, own, fill)
    return Decision(
        pixels, classifier.classes, wanted, best, row, fill, maps, changed, tuple(notes)
    )


@dataclass(frozen=True)
class _Asked:
    """A class of an image that is explained, and what hides its pixels."""

    answer: Answer
    pixels: NDArray[np.uint8]
    target: int
    fill: NDArray[np.uint8]

    def occlusion(self, random_file: bytes | None, watcher: Watcher) -> MethodHeat:
        asked = self.pixels, self.target, self.fill
        heat = occlusion_map(self.answer, *asked, watcher=watcher)
        random = None if random_file is None else occlusion_map(_answering(random_file), *asked)
        return MethodHeat(heat, random)

    def checked(self, method: str, drawn: MethodHeat, seed: int) -> HeatMap:
        asked = self.answer, self.pixels, drawn.heat, self.target, self.fill
        curves, by_chance = curves_of(*asked, seed=seed), chance(*asked, seed=seed)
        verdict = assess_faithfulness(drawn.heat, curves, by_chance, drawn.random)
        return HeatMap(method, drawn.heat, drawn.random, curves, by_chance, verdict, drawn.notes)


def _answering(content: bytes) -> Answer:
    """Return what asks a file that lies in memory."""
    part = Subnetwork(content)
    place = part.outputs.index("probabilities")

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = max(8, _PIXELS // (images.shape[1] * images.shape[2]))
        batches = part.stream(images, None, size)
        return np.concatenate([batch.values[place] for batch in batches])

    return answer
