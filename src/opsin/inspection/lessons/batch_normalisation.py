"""A unit's values before and after they are brought to one mean and deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.stored_json import JsonObject
from opsin.inspection.lessons.lesson_layers import LessonLayer, fetch, lesson_json
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.lesson_window import strongest_place
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute

# The standard's own, where an operator does not state it.
_EPSILON = 1e-5


@dataclass(frozen=True)
class BatchNormalisationLesson:
    """What batch normalisation does to each of C units; one number is shown in full."""

    term: ClassVar[Term] = "batch-normalisation"
    layer: str
    kind: str
    unit: int
    place: tuple[int, int] | None  # None: each unit is one number
    epsilon: float  # keeps the variance above 0
    mean: NDArray[np.float32] = field(repr=False)  # [C], as are the next three
    variance: NDArray[np.float32] = field(repr=False)
    scale: NDArray[np.float32] = field(repr=False)
    shift: NDArray[np.float32] = field(repr=False)
    before: NDArray[np.float32] = field(repr=False)  # [C, H, W] or [C]
    after: NDArray[np.float32] = field(repr=False)

    @classmethod
    def of(
        cls, network: OnnxGraph, found: LessonLayer, pixels: NDArray[np.uint8]
    ) -> BatchNormalisationLesson:
        """The lesson about one image."""
        node = found.node
        values = fetch(network, pixels, [*node.input, node.output[0]])
        before, scale, shift, mean, variance = (values[name] for name in node.input)
        after = values[node.output[0]]
        maps = after.reshape(len(after), -1, math.prod(after.shape[2:]))
        unit, row, column = strongest_place(maps)
        return cls(
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
        """The number less the mean, over the deviation."""
        return (self.given - float(self.mean[self.unit])) / float(self.deviation[self.unit])

    @property
    def total(self) -> float:
        """What it becomes, computed here; the file says ``output``."""
        return self.normalised * float(self.scale[self.unit]) + float(self.shift[self.unit])

    @property
    def steps(self) -> list[tuple[str, float]]:
        """From the number that comes in to the one that goes out, by name."""
        return [
            ("Before", self.given),
            ("− mean in training", float(self.mean[self.unit])),
            ("÷ deviation in training", float(self.deviation[self.unit])),
            ("= normalised", self.normalised),
            ("× scale", float(self.scale[self.unit])),
            ("+ shift", float(self.shift[self.unit])),
            ("= after", self.total),
            ("In the file", self.output),
        ]

    def spread(
        self, values: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of each unit over the places of ``before`` or ``after``."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        return flat.mean(axis=1), flat.std(axis=1)

    def rows(self, count: int | None = None) -> list[tuple[int, list[float]]]:
        """Units, the strongest after the layer first, with the eight figures of each."""
        columns = (
            *self.spread(self.before), self.mean, self.deviation, self.scale, self.shift,
            *self.spread(self.after),
        )  # fmt: skip
        peaks = self.after.reshape(len(self.after), -1).max(axis=1)
        order = np.argsort(-peaks, kind="stable")[:count]
        return [(int(unit), [float(column[unit]) for column in columns]) for unit in order]

    def to_json(self) -> JsonObject:
        """Plain data, the whole maps left out."""
        units = []
        for unit, figures in sorted(self.rows()):
            mean_before, spread_before, mean, deviation, scale, shift, *after = figures
            units.append({
                "unit": unit, "mean": mean, "deviation": deviation, "scale": scale, "shift": shift,
                "before": {"mean": mean_before, "deviation": spread_before},
                "after": {"mean": after[0], "deviation": after[1]},
            })  # fmt: skip
        names = "unit place epsilon given normalised total output units"
        return lesson_json(self, names, units=units)
