"""A unit's values before and after they are brought to one mean and deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.stored_json import JsonObject
from opsin.inspection.lessons.lesson_layers import LessonLayer, fetch, plain
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.lesson_window import strongest_place
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute
from opsin.runtime.classifier import Classifier

# The standard's own, where an operator says nothing.
_EPSILON = 1e-5


@dataclass(frozen=True)
class BatchNormalisationLesson:
    """What batch normalisation does to each unit.

    Args:
        layer: Name of the layer.
        kind: What it is.
        unit: The unit whose largest number is shown in full.
        place: Row and column of that number; ``None``: the unit is one number.
        epsilon: What is added to the variance, so that it is never 0.
        mean: Of each unit, as measured in training, ``float32[C]``.
        variance: Likewise.
        scale: What each unit is multiplied by afterwards, as learnt, ``float32[C]``.
        shift: What is added then, ``float32[C]``.
        before: What comes in, ``float32[C, H, W]`` or ``float32[C]``.
        after: What comes out.
    """

    term: ClassVar[Term] = "batch-normalisation"
    layer: str
    kind: str
    unit: int
    place: tuple[int, int] | None
    epsilon: float
    mean: NDArray[np.float32] = field(repr=False)
    variance: NDArray[np.float32] = field(repr=False)
    scale: NDArray[np.float32] = field(repr=False)
    shift: NDArray[np.float32] = field(repr=False)
    before: NDArray[np.float32] = field(repr=False)
    after: NDArray[np.float32] = field(repr=False)

    @property
    def given(self) -> float:
        """The number that comes in."""
        return float(self.before[(self.unit, *(self.place or ()))])

    @property
    def output(self) -> float:
        """The number in the file that it becomes."""
        return float(self.after[(self.unit, *(self.place or ()))])

    @property
    def deviation(self) -> NDArray[np.float64]:
        """What each unit is divided by: the root of variance and epsilon, ``float64[C]``."""
        return np.sqrt(np.asarray(self.variance, np.float64) + self.epsilon)

    @property
    def normalised(self) -> float:
        """The number after its first half: less the mean, over the deviation."""
        return (self.given - float(self.mean[self.unit])) / float(self.deviation[self.unit])

    @property
    def total(self) -> float:
        """What it becomes, computed here; the file says ``output``."""
        return self.normalised * float(self.scale[self.unit]) + float(self.shift[self.unit])

    def spread(
        self, values: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean and the deviation of each unit over this image's places.

        Args:
            values: ``before`` or ``after``.
        """
        flat = values.reshape(len(values), -1).astype(np.float64)
        return flat.mean(axis=1), flat.std(axis=1)

    def rows(self, count: int | None = None) -> list[int]:
        """Return units, the strongest after the layer first, then by number.

        Args:
            count: How many (default: all).
        """
        peaks = self.after.reshape(len(self.after), -1).max(axis=1)
        return [int(unit) for unit in np.argsort(-peaks, kind="stable")[:count]]

    def to_json(self) -> JsonObject:
        """Return it as plain data, the whole maps left out."""
        means, deviations = self.spread(self.before)
        means_after, deviations_after = self.spread(self.after)
        units = [
            {
                "unit": unit,
                "mean": plain(self.mean[unit]),
                "deviation": plain(self.deviation[unit]),
                "scale": plain(self.scale[unit]),
                "shift": plain(self.shift[unit]),
                "before": {"mean": plain(means[unit]), "deviation": plain(deviations[unit])},
                "after": {
                    "mean": plain(means_after[unit]),
                    "deviation": plain(deviations_after[unit]),
                },
            }
            for unit in range(len(self.mean))
        ]
        return {
            "term": self.term,
            "layer": self.layer,
            "kind": self.kind,
            "unit": self.unit,
            "place": None if self.place is None else list(self.place),
            "epsilon": plain(np.asarray(self.epsilon)),
            "given": plain(np.asarray(self.given)),
            "normalised": plain(np.asarray(self.normalised)),
            "total": plain(np.asarray(self.total)),
            "output": plain(np.asarray(self.output)),
            "units": units,
        }


def batch_normalisation_lesson(
    classifier: Classifier,  # noqa: ARG001  of every lesson
    network: OnnxGraph,
    found: LessonLayer,
    pixels: NDArray[np.uint8],
) -> BatchNormalisationLesson:
    """Return what batch normalisation makes of an image.

    ONNX Runtime folds it into the convolution before it where nobody looks; its value is asked
    for here, so it is computed by itself.

    Args:
        classifier: An open classifier.
        network: Its network.
        found: The layer.
        pixels: A prepared image, ``uint8[H, W, C]``.

    Raises:
        ModelFileError: A value is infinite or no number.
    """
    node = found.node
    values = fetch(network, pixels, [*node.input, node.output[0]])
    before, scale, shift, mean, variance = (values[name] for name in node.input)
    after = values[node.output[0]]
    unit, row, column = strongest_place(after.reshape(len(after), -1, math.prod(after.shape[2:])))
    return BatchNormalisationLesson(
        layer=found.name,
        kind=found.kind,
        unit=unit,
        place=(row, column) if after.ndim == 3 else None,
        epsilon=float(attribute(node, "epsilon", _EPSILON)),
        mean=mean,
        variance=variance,
        scale=scale,
        shift=shift,
        before=before,
        after=after,
    )
