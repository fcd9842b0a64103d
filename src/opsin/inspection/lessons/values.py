"""Lessons on values: batch normalisation, dropout, softmax."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from opsin.core.arrays import Bools, Doubles, Floats, Pixels
from opsin.core.metadata import LayerOp
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.windows import DrawnMap, Lesson, LessonLayer, fetch, strongest_place
from opsin.onnx_files.onnx_graph import OnnxGraph, Subnetwork, attribute
from opsin.onnx_files.postprocessing import PROBABILITIES

#: Number of answers with dropout on.
ANSWERS: Final = 20


@dataclass(frozen=True)
class BatchNormalisationLesson(Lesson):
    """Batch normalisation of each of C units; one number is shown in full."""

    term: ClassVar[Term] = "batch-normalisation"
    JSON: ClassVar = "term layer kind unit place epsilon given normalised total output units"
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
    def of(cls, network: OnnxGraph, layer: LessonLayer, pixels: Pixels) -> BatchNormalisationLesson:
        """The lesson about one image."""
        node = layer.node
        values = fetch(network, pixels, [*node.input, node.output[0]])
        before, scale, shift, mean, variance = (values[name] for name in node.input)
        after = values[node.output[0]]
        maps = after.reshape(len(after), -1, math.prod(after.shape[2:]))
        unit, row, column = strongest_place(maps)
        at, epsilon = ((row, column) if after.ndim == 3 else None, attribute(node, "epsilon", 1e-5))
        statistics = (mean, variance, scale, shift)
        return cls(layer.name, layer.kind, unit, at, float(epsilon), *statistics, before, after)

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
        """The divisor of each unit: the root of variance and epsilon, ``float64[C]``."""
        return np.sqrt(np.asarray(self.variance, np.float64) + self.epsilon)

    @property
    def normalised(self) -> float:
        """The number less the mean, over the deviation."""
        return (self.given - float(self.mean[self.unit])) / float(self.deviation[self.unit])

    @property
    def total(self) -> float:
        """The output, computed here; ``output`` is the file's."""
        return self.normalised * float(self.scale[self.unit]) + float(self.shift[self.unit])

    @property
    def drawn(self) -> list[DrawnMap]:  # noqa: D102
        if self.place is None:
            return []
        both = ("Before", self.before), ("After", self.after)
        return [(title, values[self.unit], [(self.place, (1, 1))]) for title, values in both]

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
            *self.spread(self.before),
            self.mean,
            self.deviation,
            self.scale,
            self.shift,
            *self.spread(self.after),
        )
        peaks = self.after.reshape(len(self.after), -1).max(axis=1)
        order = np.argsort(-peaks, kind="stable")[:count]
        return [(int(unit), [float(column[unit]) for column in columns]) for unit in order]

    @property
    def units(self) -> list[dict[str, object]]:
        """The figures of each unit by name, before and after."""
        names = ("mean", "deviation", "scale", "shift")
        return [
            {
                "unit": unit,
                **dict(zip(names, figures[2:6], strict=True)),
                "before": dict(zip(names, figures[:2], strict=False)),
                "after": dict(zip(names, figures[6:], strict=False)),
            }
            for unit, figures in sorted(self.rows())
        ]


@dataclass(frozen=True)
class DropoutLesson(Lesson):
    """The effect of dropout on the answers to one image, K classes."""

    term: ClassVar[Term] = "dropout"
    JSON: ClassVar = (
        "term layer kind rate assumed added values=values.size off=_off on=_on examples=_examples"
    )
    rate: float
    assumed: bool  # the file does not say the rate
    added: bool  # the network has no dropout: it is put in front of its last layer
    classes: tuple[str, ...]
    # Input of dropout, [V, …]: mostly V=1, but some networks see several views of one image.
    values: Floats = field(repr=False)
    kept: Bools = field(repr=False)  # [20, V, …]
    off: Floats = field(repr=False)  # the probabilities without dropout, [K]
    on: Floats = field(repr=False)  # those with it, [20, K]

    @classmethod
    def of(
        cls, network: OnnxGraph, layer: LessonLayer, pixels: Pixels, classes: tuple[str, ...]
    ) -> DropoutLesson:
        """The lesson about one image, by the file alone.

        Once training is over, dropout passes everything on; so values are set to 0 where it
        stands, and the rest of the network answers (N. Srivastava et al., "Dropout: a simple way to
        prevent neural networks from overfitting", JMLR 2014). Other dropout layers stay off.
        """
        content, inputs = network.after(layer.value)
        values = fetch(network, pixels, inputs, whole=True)
        acted_on = values[layer.value]
        stated = re.fullmatch(r"\S*Dropout\S* (0(?:\.\d+)?)", layer.kind)
        rate = float(stated[1]) if stated else 0.5
        random = np.random.default_rng(0)
        # Dropout of whole maps, as PyTorch and Keras call it, decides once for all places of a map.
        by_map = re.match(r"(Spatial)?Dropout2d", layer.kind, re.IGNORECASE) and acted_on.ndim == 4
        drawn = (*acted_on.shape[:2], 1, 1) if by_map else acted_on.shape
        kept = np.stack(
            [np.broadcast_to(random.random(drawn) >= rate, acted_on.shape) for _ in range(ANSWERS)]
        )
        rest = Subnetwork(content)

        def answer(changed: Floats) -> Floats:
            return np.asarray(rest.run({**values, layer.value: changed})[PROBABILITIES][0])

        factor = np.float32(1 / (1 - rate))
        on = np.stack([answer(np.where(mask, acted_on * factor, 0)) for mask in kept])
        added = LayerOp.of(layer.kind) is not LayerOp.DROPOUT
        return cls(
            layer.name,
            layer.kind,
            rate,
            stated is None,
            added,
            classes,
            acted_on,
            kept,
            answer(acted_on),
            on,
        )

    @property
    def label(self) -> str:
        """The answer without dropout."""
        return self.classes[int(self.off.argmax())]

    @property
    def answers(self) -> list[tuple[str, float, int]]:
        """Label, confidence and number of dropped values of each answer with dropout."""
        return [
            (self.classes[int(row.argmax())], float(row.max()), int(kept.size - kept.sum()))
            for row, kept in zip(self.on, self.kept, strict=True)
        ]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Counts of the labels of answers with dropout, the most frequent first."""
        return Counter(label for label, *_ in self.answers).most_common()

    @property
    def in_its_favour(self) -> Floats:
        """The probability of `label` in each answer with dropout, ``[20]``."""
        return np.asarray(self.on[:, int(self.off.argmax())])

    def examples(self, count: int = 8) -> list[tuple[int, float, float]]:
        """Some nonzero values: their index, value without dropout, and in the first answer."""
        flat, kept = self.values.ravel(), self.kept[0].ravel()
        active = np.flatnonzero(flat)
        chosen = active[np.linspace(0, len(active) - 1, min(count, len(active))).astype(np.int64)]
        scaled = np.where(kept, flat / (1 - self.rate), 0)
        return [(int(index), float(flat[index]), float(scaled[index])) for index in chosen]

    @property
    def _off(self) -> dict[str, object]:
        return dict(zip(self.classes, self.off, strict=True))

    @property
    def _on(self) -> list[dict[str, object]]:
        return [
            {
                "label": label,
                "confidence": share,
                "dropped": dropped,
                "probabilities": dict(zip(self.classes, row, strict=True)),
            }
            for (label, share, dropped), row in zip(self.answers, self.on, strict=True)
        ]

    @property
    def _examples(self) -> list[dict[str, float]]:
        return [{"place": k, "before": off, "after": on} for k, off, on in self.examples()]


@dataclass(frozen=True)
class SoftmaxLesson(Lesson):
    """The softmax of an image's logits, K classes."""

    term: ClassVar[Term] = "softmax"
    JSON: ClassVar = "term layer kind temperature classes=rows"
    classes: tuple[str, ...]
    logits: Floats = field(repr=False)  # [K]
    temperature: float  # 1, or what calibration found
    mix: Floats = field(repr=False)  # what the class mix adds, [K]; mostly 0
    probabilities: Floats = field(repr=False)  # those in the file, [K]

    @classmethod
    def of(
        cls, network: OnnxGraph, layer: LessonLayer, pixels: Pixels, classes: tuple[str, ...]
    ) -> SoftmaxLesson:
        """The lesson about one image."""
        # Calibration puts a division and an addition between the network and its softmax.
        logits, temperature, mix = layer.node.input[0], "", ""
        added = network.maker(logits)
        if added is not None and added.op_type == "Add" and added.input[1] in network.weights:
            logits, mix = added.input
        divided = network.maker(logits)
        if divided is not None and divided.op_type == "Div" and divided.input[1] in network.weights:
            logits, temperature = divided.input
        elif mix:  # a bias of the network's own
            logits, mix = layer.node.input[0], ""
        values = fetch(network, pixels, [logits, temperature, mix, PROBABILITIES])
        count = len(classes)
        return cls(
            layer.name,
            layer.kind,
            classes,
            values[logits].reshape(count),
            temperature=float(values[temperature].ravel()[0]) if temperature else 1.0,
            mix=np.broadcast_to(values[mix].ravel(), count) if mix else np.zeros(count, np.float32),
            probabilities=values[PROBABILITIES],
        )

    @property
    def order(self) -> list[int]:
        """Places of the classes, the most probable first."""
        return [int(index) for index in np.argsort(-self.probabilities, kind="stable")]

    def at(self, temperature: float) -> Doubles:
        """The probabilities at another temperature; below 1 the answer is surer, ``float64[K]``."""
        weights = self.exponentials(temperature)
        return np.asarray(weights / weights.sum())

    def exponentials(self, temperature: float) -> Doubles:
        """The exponential of each logit over a temperature, the largest as 1, ``float64[K]``."""
        put = np.asarray(self.logits, np.float64) / temperature + self.mix
        return np.asarray(np.exp(put - put.max()))

    @property
    def rows(self) -> list[dict[str, object]]:
        """The numbers of each class by name, the most probable class first."""
        now, uncalibrated = self.at(self.temperature), self.at(1)
        return [
            {
                "class": self.classes[k],
                "logit": self.logits[k],
                "mix": self.mix[k],
                "total": now[k],
                "probability": self.probabilities[k],
                "uncalibrated": uncalibrated[k],
            }
            for k in self.order
        ]
