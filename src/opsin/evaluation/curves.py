"""How well each class is distinguished from the rest, at every threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_report import ClassCurves, Curves
from opsin.core.errors import MissingExtraError
from opsin.evaluation.intervals import (
    Interval,
    by_groups,
    effective_groups,
    in_parts,
    middle_of,
    pooled,
    resamples,
)

try:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
    from sklearn.metrics import roc_curve as roc_points
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

#: Classes whose curves are kept; of more, the areas alone.
_DRAWN: Final = 25
# Points of a curve that is kept, and decimals: an eye sees no more.
_POINTS, _DECIMALS = 60, 4
_SEED: Final = 0


def measure_curves(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    groups: NDArray[np.int64] | None = None,
) -> tuple[Curves, dict[str, Interval]]:
    """Measure how well the probability of each class finds its images."""
    found = [
        _curves_of(name, probabilities[:, number], labels == number, drawn=len(classes) <= _DRAWN)
        for number, name in enumerate(classes)
    ]
    aurocs = [each.auroc for each in found if each.auroc is not None]
    precisions = [each.average_precision for each in found if each.average_precision is not None]
    curves = Curves(
        classes=found,
        macro_auroc=float(np.mean(aurocs)) if aurocs else None,
        macro_average_precision=float(np.mean(precisions)) if precisions else None,
    )
    return curves, _intervals(probabilities, labels, groups) if aurocs else {}


def _curves_of(
    name: str, scores: NDArray[np.float32], own: NDArray[np.bool_], *, drawn: bool
) -> ClassCurves:
    """Measure the curves of a class, with their points where they are drawn."""
    if not own.any() or own.all():
        return ClassCurves(name=name, auroc=None, average_precision=None)
    areas = ClassCurves(
        name=name,
        auroc=float(roc_auc_score(own, scores)),
        average_precision=float(average_precision_score(own, scores)),
    )
    if not drawn:
        return areas
    false, true, _ = roc_points(own, scores)
    precision, recall, _ = precision_recall_curve(own, scores)
    return areas.model_copy(
        update={
            "roc": _thinned(false, true),
            "precision_recall": _thinned(recall[::-1], precision[::-1]),
        }
    )


def _thinned(across: NDArray[np.float64], up: NDArray[np.float64]) -> list[list[float]]:
    """Keep as many points of a curve as an eye can tell apart, evenly along its length."""
    steps = np.hypot(np.diff(across), np.diff(up))
    along = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _POINTS)))
    return [line[places].round(_DECIMALS).tolist() for line in (across, up)]


def _intervals(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
) -> dict[str, Interval]:
    """Resample the mean of each area over the classes."""
    number = resamples(4 * probabilities.size)  # sums, sorts and gathers
    if not number:
        return {}
    numbers = None if groups is None else pooled(groups, number)
    if numbers is not None:
        number = int(numbers.max()) + 2  # each group is left out in turn, at last none
    chance = np.random.default_rng(_SEED)
    count, classes = probabilities.shape
    sums = np.zeros((2, number))
    there = np.zeros(number)
    start, even = 0, np.full(count, 1 / count)
    for some in in_parts(number, count):
        part = slice(start, start := start + some)
        weights = (
            chance.multinomial(count, even, size=some)
            if numbers is None
            else np.arange(part.start, start)[:, None] != numbers
        ).astype(np.int32)
        for name in range(classes):
            own = labels == name
            if own.any() and not own.all():
                areas = _areas(weights, probabilities[:, name], own)
                # A resample may lack a class.
                sums[:, part] += np.nan_to_num(areas)
                there[part] += np.isfinite(areas[0])
    means = sums[:, there > 0] / there[there > 0]
    names = ("macro_auroc", "macro_average_precision")
    if numbers is None:
        return dict(zip(names, map(middle_of, means), strict=True))
    left_out = means[:, :-1].T
    if len(left_out) < 2:
        return {}
    low, high = by_groups(means[:, -1], left_out, effective_groups(np.bincount(numbers)))
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)}


def _areas(
    weights: NDArray[np.integer[Any]], scores: NDArray[np.float32], own: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return area under ROC and average precision of weighted images, ``float64[2, R]``."""
    order = np.argsort(-scores, kind="stable")
    ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = np.cumsum(weights[:, order] * own[order], axis=1)[:, ties].astype(np.float64)
    both = np.cumsum(weights[:, order], axis=1)[:, ties]
    false = both - true
    with np.errstate(invalid="ignore"):
        recall = np.pad(true / true[:, -1:], ((0, 0), (1, 0)))
        fall_out = np.pad(false / false[:, -1:], ((0, 0), (1, 0)))
    precision = true / np.maximum(both, 1)
    roc = np.trapezoid(recall, fall_out, axis=1)
    average = np.sum(np.diff(recall, axis=1) * precision, axis=1)
    return np.where(np.isfinite(roc), np.stack([roc, average]), np.nan)
