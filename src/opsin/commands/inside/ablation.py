"""What becomes of the accuracy when a unit is switched off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.reference_set import ReferenceSet
from opsin.runtime.classifier import Classifier

if TYPE_CHECKING:
    from opsin.inspection.ablation import SwitchedOff
    from opsin.inspection.network import Network

# A change counts as shown where chance alone makes one as large less often than this.
_LEVEL: Final = 0.05


@dataclass(frozen=True)
class Effect:
    """What becomes of the answers without a unit.

    Args:
        unit: Its number.
        lost: Pictures that are right only with it.
        gained: Pictures that are right only without it.
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

    def to_json(self) -> dict[str, Any]:
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
    """What each unit of a layer is worth, on validation pictures.

    Args:
        layer: Name of the layer.
        images: Pictures of each class.
        right: Those of them that the whole network has right.
        effects: One for each unit that was tried, the largest loss first.
    """

    layer: str
    images: dict[str, int]
    right: dict[str, int]
    effects: tuple[Effect, ...]

    @property
    def accuracy(self) -> float:
        """Accuracy of the whole network on these pictures, 0 to 1."""
        return sum(self.right.values()) / sum(self.images.values())

    def of(self, unit: int) -> Effect | None:
        """Return the effect of a unit, if it was tried."""
        return next((effect for effect in self.effects if effect.unit == unit), None)

    def accuracy_by_class(self, effect: Effect) -> dict[str, float | None]:
        """Return the accuracy for each class without a unit; ``None``: no pictures."""
        return {
            name: (self.right[name] - effect.lost_by_class[name] + effect.gained_by_class[name])
            / count
            if count
            else None
            for name, count in self.images.items()
        }

    def to_json(self) -> dict[str, Any]:
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
    network: Network,
    known: ReferenceSet,
    layer: str,
    *,
    units: Sequence[int] | None = None,
    watcher: Watcher = SILENT,
) -> Ablation:
    """Switch off the units of a layer, one after the other, and count what changes.

    All validation pictures are asked; the numbers are exact. It takes about as long as answering
    all of them once for each unit, less what lies before the layer.

    Args:
        classifier: An open classifier.
        network: Its graph.
        known: The pictures.
        layer: Name of the layer.
        units: Numbers of the units (default: all).
        watcher: Is told how far the work is.

    Raises:
        ModelFileError: There is no such layer, or no such unit.
        SourceError: There are no validation pictures.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> found = opsin.Inspection(run).ablation("relu1", units=[0, 1])
        >>> sorted(effect.unit for effect in found.effects)
        [0, 1]
    """
    from opsin.inspection.ablation import SwitchedOff  # noqa: PLC0415
    from opsin.inspection.part import Part, batch_size, layer_called, up_to  # noqa: PLC0415

    chosen = _units(layer, layer_called(network, layer).shape[0], units)
    rows = np.sort(known.val)
    if not len(rows):
        raise SourceError(
            "validation pictures", f"{known.source} has none", "Give other pictures: --data SOURCE."
        )
    content, inputs = network.after(layer)
    rest = Part(content)

    def answer(values: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
        (probabilities,) = rest.run(dict(zip(inputs, values, strict=True)))
        return np.asarray(probabilities.argmax(axis=1))

    off = SwitchedOff(answer, chosen, len(classifier.classes))
    watcher.begin(f"Without units of {layer}", len(rows) * len(chosen), "answers")
    done = 0
    for batch in Part(up_to(network, inputs)).stream(known.images, rows, batch_size(network)):
        for _ in off.add(batch.values, known.labels[batch.rows]):
            watcher.advance(done := done + len(batch.rows))
    watcher.end()
    return _told(layer, classifier.classes, off)


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


def _told(layer: str, classes: Sequence[str], off: SwitchedOff) -> Ablation:
    """Return the counts with their tests, the largest loss first."""
    from opsin.evaluation.comparison import decide, difference_interval, holm  # noqa: PLC0415

    total = int(off.images.sum())
    all_lost, all_gained = off.lost.sum(axis=1), off.gained.sum(axis=1)
    tests = []
    for lost, gained, p in zip(all_lost, all_gained, _tested(all_lost, all_gained), strict=True):
        low, high = difference_interval(int(lost), int(gained), total)
        tests.append({"p": float(p), "low": low, "high": high})
    tests = decide(tests)
    within = np.reshape(holm(_tested(off.lost, off.gained).ravel().tolist()), off.lost.shape)

    def by_class(counts: NDArray[np.int64]) -> dict[str, int]:
        return dict(zip(classes, map(int, counts), strict=True))

    effects = [
        Effect(
            unit=int(unit),
            lost=int(lost.sum()),
            gained=int(gained.sum()),
            change=(int(gained.sum()) - int(lost.sum())) / total,
            low=test["low"],
            high=test["high"],
            p=test["p_adjusted"],
            shown=test["better"] is not None,
            lost_by_class=by_class(lost),
            gained_by_class=by_class(gained),
            p_by_class=dict(zip(classes, map(float, p), strict=True)),
        )
        for unit, lost, gained, test, p in zip(
            off.units, off.lost, off.gained, tests, within, strict=True
        )
    ]
    effects.sort(key=lambda effect: (effect.change, -effect.lost, effect.unit))
    return Ablation(layer, by_class(off.images), by_class(off.right), tuple(effects))


def _tested(lost: NDArray[np.int64], gained: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the p-values of McNemar's exact test, two-sided, in the shape of the counts."""
    from scipy.stats import binom  # noqa: PLC0415

    fewer = binom.cdf(np.minimum(lost, gained), lost + gained, 0.5)
    return np.minimum(1.0, 2 * fewer)
