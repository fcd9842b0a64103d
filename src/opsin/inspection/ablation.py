"""Accuracy with a unit switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from opsin.core.arrays import Doubles, Floats, Ints
from opsin.core.errors import ModelFileError
from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import ReferenceSet
from opsin.evaluation.comparison import DifferenceTest, decide, difference_interval, holm
from opsin.evaluation.intervals import scipy_stats
from opsin.onnx_files.onnx_graph import OnnxGraph, Subnetwork
from opsin.onnx_files.postprocessing import PROBABILITIES
from opsin.runtime.classifier import Classifier

# Significance level of a change.
_LEVEL: Final = 0.05
#: The rest of a network: from values, the layer's first, to answers, ``int64[B]``.
Rest = Callable[[Sequence[Floats]], Ints]


@dataclass(frozen=True)
class UnitEffect:
    """The effect of switching off a unit."""

    JSON: ClassVar = "unit lost gained change low high p shown classes matters_to accuracy_by_class"
    unit: int
    lost: int  # images that are right only with it
    gained: int  # images that are right only without it
    change: float  # accuracy without it less that with it, and the 95% interval of that
    low: float
    high: float
    p: float  # exact McNemar test, two-sided, adjusted for all units tried (Holm)
    shown: bool  # by this test and the interval, the change is more than chance
    lost_by_class: dict[str, int]
    gained_by_class: dict[str, int]
    p_by_class: dict[str, float]  # of the same test, adjusted for all units and classes
    accuracy_by_class: dict[str, float | None]  # without the unit; None: no images

    @property
    def losses(self) -> dict[str, int]:
        """Net loss of right answers of each class without it, the largest first."""
        loss = {
            name: lost - self.gained_by_class[name] for name, lost in self.lost_by_class.items()
        }
        ranked = sorted(loss, key=lambda name: -loss[name])
        return {name: loss[name] for name in ranked if loss[name] > 0}

    @property
    def matters_to(self) -> tuple[str, ...]:
        """Classes that lose right answers without it significantly, the most first."""
        return tuple(name for name in self.losses if self.p_by_class[name] < _LEVEL)

    @property
    def classes(self) -> dict[str, dict[str, float]]:
        """Lost and gained images and p of each class that changes."""
        return {
            name: {"lost": lost, "gained": gained, "p": self.p_by_class[name]}
            for name, lost in self.lost_by_class.items()
            if (gained := self.gained_by_class[name]) or lost
        }


@dataclass(frozen=True)
class Ablation:
    """The effect of each unit of a layer on validation images, the largest loss first."""

    JSON: ClassVar = "layer split accuracy images right effects"
    split: ClassVar = "val"
    layer: str
    images: dict[str, int]  # of each class, and those that the whole network has right
    right: dict[str, int]
    effects: tuple[UnitEffect, ...]

    @property
    def accuracy(self) -> float:
        """Accuracy of the whole network on these images, 0 to 1."""
        return sum(self.right.values()) / sum(self.images.values())

    def of(self, unit: int) -> UnitEffect | None:
        """The effect of a unit, if it was tried."""
        return next((effect for effect in self.effects if effect.unit == unit), None)


def ablate(
    classifier: Classifier,
    network: OnnxGraph,
    known: ReferenceSet,
    layer: str,
    *,
    units: Sequence[int] | None = None,
    watcher: Watcher = SILENT,
) -> Ablation:
    """Switch off units of a layer, by default all, one after the other, and count what changes."""
    scipy_stats()  # fails before minutes of work, if it is missing
    count = network.layer(layer).shape[0]
    chosen = np.arange(count) if units is None else np.unique(np.asarray(units, np.int64))
    wrong = [int(unit) for unit in chosen if not 0 <= unit < count]
    if wrong or not len(chosen):
        chosen_words = f"unit {', '.join(map(str, wrong))}" if wrong else "units to switch off"
        raise ModelFileError(f"{layer} has no {chosen_words}; its units are 0 to {count - 1}")
    rows = known.rows_of("val")
    content, inputs = network.after(layer)
    rest = Subnetwork(content)

    def answer(values: Sequence[Floats]) -> Ints:
        found = rest.run(dict(zip(inputs, values, strict=True)))
        return np.asarray(found[PROBABILITIES].argmax(axis=1))

    off = SwitchedOff(answer, chosen, len(classifier.classes))
    watcher.begin(f"Without units of {layer}", len(rows) * len(chosen), "answers")
    done = 0
    for some, found in network.stream(inputs, known.images, rows):
        for _ in off.add([found[name] for name in inputs], known.labels[some]):
            watcher.advance(done := done + len(some))
    watcher.end()
    return _tested_effects(layer, classifier.classes, off)


def _tested_effects(layer: str, classes: Sequence[str], off: SwitchedOff) -> Ablation:
    total = int(off.images.sum())
    lost, gained = off.lost.sum(axis=1), off.gained.sum(axis=1)
    tests = []
    for fewer, more, p in zip(lost, gained, _mcnemar(lost, gained), strict=True):
        low, high = difference_interval(int(fewer), int(more), total)
        tests.append(DifferenceTest(low=low, high=high, p=float(p)))
    within = np.reshape(holm(_mcnemar(off.lost, off.gained).ravel().tolist()), off.lost.shape)

    def by_class(counts: Ints) -> dict[str, int]:
        return dict(zip(classes, map(int, counts), strict=True))

    images, right = by_class(off.images), by_class(off.right)
    effects = [
        UnitEffect(
            int(unit),
            int(lost[index]),
            int(gained[index]),
            (int(gained[index]) - int(lost[index])) / total,
            test.low,
            test.high,
            test.p_adjusted,
            test.better is not None,
            by_class(off.lost[index]),
            by_class(off.gained[index]),
            dict(zip(classes, map(float, within[index]), strict=True)),
            {
                name: count / images[name] if images[name] else None
                for name, count in by_class(off.right + off.gained[index] - off.lost[index]).items()
            },
        )
        for index, (unit, test) in enumerate(zip(off.units, decide(tests), strict=True))
    ]
    effects.sort(key=lambda effect: (effect.change, -effect.lost, effect.unit))
    return Ablation(layer, images, right, tuple(effects))


def _mcnemar(lost: Ints, gained: Ints) -> Doubles:
    fewer: Doubles = scipy_stats().binom.cdf(np.minimum(lost, gained), lost + gained, 0.5)
    return np.minimum(1.0, 2 * fewer)


class SwitchedOff:
    """Counts, batch by batch, of the images that turn wrong or right without each of U units.

    A unit is switched off by a 0 at all its places, as if its weights and its bias were 0 and
    nothing else had changed (A. Morcos et al., "On the importance of single directions for
    generalization", ICLR 2018). Nothing is fitted and nothing drawn: the counts are exact.
    """

    def __init__(self, answer: Rest, units: Ints, classes: int) -> None:
        self._answer = answer
        self.units = units
        # Images of each class, and those of them that the whole network has right, [K].
        self.images = np.zeros(classes, np.int64)
        self.right = np.zeros(classes, np.int64)
        # Images of each class that are right only with the unit, or only without, [U, K].
        self.lost = np.zeros((len(units), classes), np.int64)
        self.gained = np.zeros((len(units), classes), np.int64)

    def add(self, values: Sequence[Floats], labels: Ints) -> Iterator[int]:
        """Take some images, and yield the number of each unit once it is done with them."""
        classes = len(self.images)
        right = np.asarray(self._answer(values) == labels, np.bool_)
        self.images += np.bincount(labels, minlength=classes)
        self.right += np.bincount(labels[right], minlength=classes)
        layer, *past = values
        active = (layer != 0).reshape(*layer.shape[:2], -1).max(axis=2)
        for index, unit in enumerate(self.units):
            rows = np.flatnonzero(active[:, unit])  # if the unit is 0 already, nothing changes
            if len(rows):
                changed, of = layer[rows], labels[rows]
                changed[:, unit] = 0
                still = self._answer([changed, *(value[rows] for value in past)]) == of
                self.lost[index] += np.bincount(of[right[rows] & ~still], minlength=classes)
                self.gained[index] += np.bincount(of[~right[rows] & still], minlength=classes)
            yield int(unit)
