"""How the accuracy changes when a unit is switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError
from opsin.core.events import SILENT, Watcher
from opsin.core.stored_json import JsonObject
from opsin.data.reference_set import ReferenceSet
from opsin.evaluation.comparison import DifferenceTest, decide, difference_interval, holm
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.subnetwork import Subnetwork, batch_size
from opsin.runtime.classifier import Classifier

# A change counts as shown where chance alone makes one as large less often than this.
_LEVEL: Final = 0.05
#: The rest of a network: takes values, the layer's first, and returns answers, ``int64[B]``.
Rest = Callable[[Sequence[NDArray[np.float32]]], NDArray[np.int64]]


@dataclass(frozen=True)
class UnitEffect:
    """What becomes of the answers without a unit.

    Args:
        unit: Its number.
        lost: Images that are right only with it.
        gained: Images that are right only without it.
        change: Accuracy without it less that with it, -1 to 1.
        low: Lower end of the change's 95% interval.
        high: Upper end.
        p: Of the exact McNemar test, two-sided, adjusted for all units tried (Holm).
        shown: Whether the change is shown, by this test and the interval, to be more than chance.
        lost_by_class: The first for each class.
        gained_by_class: The second for each class.
        p_by_class: Of the same test within each class, adjusted for all units and classes.
    """

    unit: int
    lost: int
    gained: int
    change: float
    low: float
    high: float
    p: float
    shown: bool
    lost_by_class: dict[str, int]
    gained_by_class: dict[str, int]
    p_by_class: dict[str, float]

    @property
    def losses(self) -> dict[str, int]:
        """Right answers that each class loses without it, on balance; the most first."""
        loss = {
            name: lost - self.gained_by_class[name] for name, lost in self.lost_by_class.items()
        }
        ranked = sorted(loss, key=lambda name: -loss[name])
        return {name: loss[name] for name in ranked if loss[name] > 0}

    @property
    def matters_to(self) -> tuple[str, ...]:
        """Classes that are shown to lose right answers without it, the most first."""
        return tuple(name for name in self.losses if self.p_by_class[name] < _LEVEL)

    def to_json(self) -> JsonObject:
        """Return it as plain data; classes where nothing changes are left out."""
        by_class = {
            name: {
                "lost": self.lost_by_class[name],
                "gained": self.gained_by_class[name],
                "p": self.p_by_class[name],
            }
            for name in self.lost_by_class
            if self.lost_by_class[name] or self.gained_by_class[name]
        }
        plain = ("unit", "lost", "gained", "change", "low", "high", "p", "shown")
        return {
            **{name: getattr(self, name) for name in plain},
            "classes": by_class,
            "matters_to": list(self.matters_to),
        }


@dataclass(frozen=True)
class Ablation:
    """What each unit of a layer is worth, on validation images.

    Args:
        layer: Name of the layer.
        images: Images of each class.
        right: Those of them that the whole network has right.
        effects: One for each unit that was tried, the largest loss first.
    """

    layer: str
    images: dict[str, int]
    right: dict[str, int]
    effects: tuple[UnitEffect, ...]

    @property
    def accuracy(self) -> float:
        """Accuracy of the whole network on these images, 0 to 1."""
        return sum(self.right.values()) / sum(self.images.values())

    def of(self, unit: int) -> UnitEffect | None:
        """Return the effect of a unit, if it was tried."""
        return next((effect for effect in self.effects if effect.unit == unit), None)

    def accuracy_by_class(self, effect: UnitEffect) -> dict[str, float | None]:
        """Return the accuracy for each class without a unit; ``None``: no images."""
        return {
            name: (self.right[name] - effect.lost_by_class[name] + effect.gained_by_class[name])
            / count
            if count
            else None
            for name, count in self.images.items()
        }

    def to_json(self) -> JsonObject:
        """Return all of it as plain data."""
        return {
            "layer": self.layer,
            "split": "val",
            "accuracy": self.accuracy,
            "images": self.images,
            "right": self.right,
            "effects": [
                {**effect.to_json(), "accuracy_by_class": self.accuracy_by_class(effect)}
                for effect in self.effects
            ],
        }


def ablate(
    classifier: Classifier,
    network: OnnxGraph,
    known: ReferenceSet,
    layer: str,
    *,
    units: Sequence[int] | None = None,
    watcher: Watcher = SILENT,
) -> Ablation:
    """Switch off the units of a layer, one after the other, and count what changes.

    All validation images are asked; the numbers are exact. It takes about as long as answering
    all of them once for each unit, less what lies before the layer.

    Args:
        classifier: An open classifier.
        network: Its graph.
        known: The images.
        layer: Name of the layer.
        units: Numbers of the units (default: all).
        watcher: Receives the progress of the work.

    Raises:
        ModelFileError: There is no such layer, or no such unit.
        SourceError: There are no validation images.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> found = opsin.Inspection(run).ablation("relu1", units=[0, 1])
        >>> sorted(effect.unit for effect in found.effects)
        [0, 1]
    """
    chosen = _units(layer, network.layer(layer).shape[0], units)
    rows = known.rows_of("val")
    content, inputs = network.after(layer)
    rest = Subnetwork(content)

    def answer(values: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
        (probabilities,) = rest.run(dict(zip(inputs, values, strict=True)))
        return np.asarray(probabilities.argmax(axis=1))

    off = SwitchedOff(answer, chosen, len(classifier.classes))
    watcher.begin(f"Without units of {layer}", len(rows) * len(chosen), "answers")
    done = 0
    for batch in Subnetwork(network.up_to(inputs)).stream(
        known.images, rows, batch_size(network.layers)
    ):
        for _ in off.add(batch.values, known.labels[batch.rows]):
            watcher.advance(done := done + len(batch.rows))
    watcher.end()
    return _tested_effects(layer, classifier.classes, off)


def _units(layer: str, count: int, units: Sequence[int] | None) -> NDArray[np.int64]:
    """Check the numbers of units and return them, each once, in order."""
    if units is None:
        return np.arange(count)
    wrong = [unit for unit in units if not 0 <= unit < count]
    if wrong or not len(units):
        raise ModelFileError(
            f"units of {layer}, 0 to {count - 1}",
            f"got {', '.join(map(str, wrong)) or 'none'}",
            "Choose there.",
        )
    return np.unique(np.asarray(units, np.int64))


def _tested_effects(layer: str, classes: Sequence[str], off: SwitchedOff) -> Ablation:
    """Return the counts with their tests, the largest loss first."""
    total = int(off.images.sum())
    all_lost, all_gained = off.lost.sum(axis=1), off.gained.sum(axis=1)
    tests = []
    for lost, gained, p in zip(all_lost, all_gained, _tested(all_lost, all_gained), strict=True):
        low, high = difference_interval(int(lost), int(gained), total)
        tests.append(DifferenceTest(low=low, high=high, p=float(p)))
    within = np.reshape(holm(_tested(off.lost, off.gained).ravel().tolist()), off.lost.shape)

    def by_class(counts: NDArray[np.int64]) -> dict[str, int]:
        return dict(zip(classes, map(int, counts), strict=True))

    effects = [
        UnitEffect(
            unit=int(unit),
            lost=int(lost.sum()),
            gained=int(gained.sum()),
            change=(int(gained.sum()) - int(lost.sum())) / total,
            low=test.low,
            high=test.high,
            p=found.p_adjusted,
            shown=found.better is not None,
            lost_by_class=by_class(lost),
            gained_by_class=by_class(gained),
            p_by_class=dict(zip(classes, map(float, p), strict=True)),
        )
        for unit, lost, gained, test, found, p in zip(
            off.units, off.lost, off.gained, tests, decide(tests), within, strict=True
        )
    ]
    effects.sort(key=lambda effect: (effect.change, -effect.lost, effect.unit))
    return Ablation(layer, by_class(off.images), by_class(off.right), tuple(effects))


def _tested(lost: NDArray[np.int64], gained: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the p-values of McNemar's exact test, two-sided, in the shape of the counts."""
    from scipy.stats import binom  # noqa: PLC0415

    fewer = binom.cdf(np.minimum(lost, gained), lost + gained, 0.5)
    return np.minimum(1.0, 2 * fewer)


class SwitchedOff:
    """Counts, batch by batch, which images turn wrong or right without a unit.

    A unit is switched off by a 0 at all its places, as if its weights and its bias were 0 and
    nothing else had changed (A. Morcos et al., "On the importance of single directions for
    generalization", ICLR 2018). Nothing is fitted and nothing drawn: the counts are exact.

    Args:
        answer: The rest of the network.
        units: Numbers of the units, ``int64[U]``.
        classes: K.

    Example:
        >>> off = SwitchedOff(lambda values: values[0].argmax(axis=1), np.array([0, 1]), 2)
        >>> list(off.add([np.float32([[1, 2], [3, 1]])], np.array([1, 0])))
        [0, 1]
        >>> off.lost.tolist(), off.gained.sum()
        ([[1, 0], [0, 1]], np.int64(0))
    """

    def __init__(self, answer: Rest, units: NDArray[np.int64], classes: int) -> None:
        self._answer = answer
        self.units = units
        #: Images of each class, and those of them that the whole network has right, ``int64[K]``.
        self.images = np.zeros(classes, np.int64)
        self.right = np.zeros(classes, np.int64)
        #: Images of each class that are right only with the unit, or only without, ``[U, K]``.
        self.lost = np.zeros((len(units), classes), np.int64)
        self.gained = np.zeros((len(units), classes), np.int64)

    def add(
        self, values: Sequence[NDArray[np.float32]], labels: NDArray[np.int64]
    ) -> Iterator[int]:
        """Take some images, and yield the number of each unit once it is done with them.

        Args:
            values: What goes into the rest of the network: the layer's output, ``float32[B, C]``
                or ``float32[B, C, H, W]``, and the values that lead past it.
            labels: The right classes, ``int64[B]``.
        """
        classes = len(self.images)
        right = np.asarray(self._answer(values) == labels, np.bool_)
        self.images += np.bincount(labels, minlength=classes)
        self.right += np.bincount(labels[right], minlength=classes)
        layer, *past = values
        active = (layer != 0).reshape(*layer.shape[:2], -1).max(axis=2)
        # One copy is changed and mended unit by unit: a copy each would cost more than small rests.
        changed = layer.copy()
        for place, unit in enumerate(self.units):
            # Where the unit is 0 already, nothing changes.
            rows = np.flatnonzero(active[:, unit])
            if len(rows) == len(layer):
                changed[:, unit] = 0
                now = self._answer([changed, *past])
                changed[:, unit] = layer[:, unit]
            elif len(rows):
                some = layer[rows]
                some[:, unit] = 0
                now = self._answer([some, *(value[rows] for value in past)])
            if len(rows):
                still, before, of = now == labels[rows], right[rows], labels[rows]
                self.lost[place] += np.bincount(of[before & ~still], minlength=classes)
                self.gained[place] += np.bincount(of[~before & still], minlength=classes)
            yield int(unit)
