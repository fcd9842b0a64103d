"""A unit's values before and after they are brought to one mean and deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from opsin.core.arrays import Doubles, Floats, Pixels
from opsin.inspection.lessons.lesson_layers import Lesson, LessonLayer, fetch
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.windows import strongest_place
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute

# The standard's own, where an operator does not state it.
_EPSILON = 1e-5


@dataclass(frozen=True)
class BatchNormalisationLesson(Lesson):
    """What batch normalisation does to each of C units; one number is shown in full."""

    term: ClassVar[Term] = "batch-normalisation"
    JSON: ClassVar = "term layer kind unit place epsilon given normalised total output units"
    layer: str
    kind: str
    unit: int
    place: tuple[int, int] | None  # None: each unit is one number
    epsilon: float  # keeps the variance above 0
    mean: Floats = field(repr=False)  # [C], as are the next three
    variance: Floats = field(repr=False)
    scale: Floats = field(repr=False)
    shift: Floats = field(repr=False)
    before: Floats = field(repr=False)  # [C, H, W] or [C]
    after: Floats = field(repr=False)

    @classmethod
    def of(cls, network: OnnxGraph, found: LessonLayer, pixels: Pixels) -> BatchNormalisationLesson:
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
    def deviation(self) -> Doubles:
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

    def spread(self, values: Floats) -> tuple[Doubles, Doubles]:
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

    @property
    def units(self) -> list[dict[str, object]]:
        """The figures of each unit by name, before and after."""
        units = []
        for unit, figures in sorted(self.rows()):
            mean_before, spread_before, mean, deviation, scale, shift, *after = figures
            units.append({
                "unit": unit, "mean": mean, "deviation": deviation, "scale": scale, "shift": shift,
                "before": {"mean": mean_before, "deviation": spread_before},
                "after": {"mean": after[0], "deviation": after[1]},
            })  # fmt: skip
        return units
