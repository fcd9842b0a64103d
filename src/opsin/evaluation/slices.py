"""Kinds of images on which a classifier is worse than on the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_report import Slice, Slices, Trait
from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.data import quality
from opsin.data.lazy_images import Images
from opsin.evaluation.comparison import holm
from opsin.evaluation.intervals import (
    Interval,
    effective_groups,
    number_groups,
    share,
    widened,
)

try:
    from scipy.stats import hypergeom
    from scipy.stats import t as student
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

#: Slices of fewer images are shown and not judged: at 30, the interval of 0.9 spans 0.2.
LEAST: Final = 30
_BINS: Final = 5
# A column with more values than this stands for no kinds of images, unless it holds numbers.
_VALUES: Final = 50
_LEVEL: Final = 0.05
_BLOCK_PIXELS: Final = 8_000_000


def measure_traits(
    images: Images,
    rows: NDArray[np.int64],
    sizes: NDArray[np.int32] | None = None,
    *,
    watcher: Watcher = SILENT,
) -> dict[str, NDArray[np.float64]]:
    """Measure what images can be sliced by."""
    _, height, width, _ = images.shape
    step = max(1, _BLOCK_PIXELS // (height * width))
    parts: list[tuple[NDArray[Any], ...]] = []
    watcher.begin("Measure", len(rows), "images")
    for start in range(0, len(rows), step):
        pixels = images[rows[start : start + step]]
        seen = quality.measure(pixels)
        light = pixels.reshape(len(pixels), -1).mean(axis=1)
        parts.append((light, seen.contrast, seen.sharpness))
        watcher.advance(start + len(pixels))
    watcher.end()
    names = ("brightness", "contrast", "sharpness")
    empty = np.zeros(0)
    traits = {
        name: np.concatenate([empty, *(part[place] for part in parts)])
        for place, name in enumerate(names)
    }
    if sizes is not None and len(np.unique(sizes[rows], axis=0)) > 1:
        traits["size"] = np.sqrt(sizes[rows].astype(np.float64).prod(axis=1))
    return traits


def slice_accuracy(
    right: NDArray[np.bool_],
    traits: Mapping[str, NDArray[np.float64]],
    columns: Mapping[str, Sequence[str]] | None = None,
    *,
    labels: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
    least: int = LEAST,
    too_weak: str = "",
    out_of_fold: bool = False,
) -> Slices:
    """Measure the accuracy of every slice, and name those that are shown to be worse.

    Numbers are cut at their quintiles, equal ones staying together; a column's values stand for
    themselves. A slice is *weak* when its 95% interval lies below the accuracy of all images,
    and so many mistakes in it would be drawn by chance from among all images with a probability
    below 0.05 (Fisher's exact test, one-sided), times the number of slices that compete for it:
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 1979. So with no real difference, a slice is named in at most one of twenty reports.
    Where images belong together, so many mistakes must also be rare among as many groups: those of
    one group alone show nothing.
    """
    expected = None if labels is None else _class_accuracy(right, labels)
    groups = number_groups(groups)

    def interval(rows: NDArray[np.int64]) -> Interval:
        ends = share(right[rows], None if groups is None else groups[rows])
        return widened(float(right[rows].mean()), ends) if out_of_fold else ends

    measured: dict[str, list[Slice]] = {}
    for members in _all_slices(traits, columns or {}):
        found = _measured(
            members, right, expected, groups, least=least, ends=interval(members.rows)
        )
        measured.setdefault(members.trait, []).append(found)
    found_traits = {name: slices for name, slices in measured.items() if len(slices) > 1}
    overall = float(right.mean())
    judged, shown = _judged(found_traits, overall, too_weak=bool(too_weak))
    weak = [each.model_copy(update={"trait": trait.name}) for trait in shown
            for each in trait.slices if each.weak]  # fmt: skip
    low, high = interval(np.arange(len(right)))
    return Slices(
        images=len(right),
        accuracy=overall,
        low=low,
        high=high,
        judged=judged,
        too_weak=too_weak,
        traits=shown,
        weakest=sorted(weak, key=lambda each: (each.explained, each.accuracy)),
    )


def _judged(
    traits: Mapping[str, Sequence[Slice]], overall: float, *, too_weak: bool
) -> tuple[int, list[Trait]]:
    """Correct the p-values for their number, which is returned, and say which slices are weak."""
    corrected = holm([each.p for slices in traits.values() for each in slices
                      if each.p is not None])  # fmt: skip
    pending = iter(corrected)

    def judge(each: Slice) -> Slice:
        if each.p is None:
            return each
        p = next(pending)
        weak = not too_weak and p < _LEVEL and each.high < overall
        return each.model_copy(update={"p": p, "weak": weak})

    return len(corrected), [
        Trait(name=name, slices=[judge(each) for each in slices]) for name, slices in traits.items()
    ]


@dataclass(frozen=True)
class _Members:
    """Images of one kind: ``limits`` are its ``start`` and ``to``, or its ``value``."""

    trait: str
    name: str
    rows: NDArray[np.int64]
    limits: Mapping[str, float | str]


def _measured(
    members: _Members,
    right: NDArray[np.bool_],
    expected: NDArray[np.float64] | None,
    groups: NDArray[np.int64] | None,
    *,
    least: int,
    ends: Interval,
) -> Slice:
    """Return the accuracy of a slice, and the probability of its mistakes by chance."""
    total, correct = len(right), int(right.sum())
    rows = members.rows
    count, hits = len(rows), int(right[rows].sum())
    low, high = ends
    p = None
    if least <= count < total:
        # As many mistakes, or more, among as many images drawn from all of them.
        p = float(hypergeom.sf(count - hits - 1, total, total - correct, count))
        if groups is not None:
            p = max(p, _chance_among_groups(rows, right, groups))
    by_class = None if expected is None else float(expected[rows].mean())
    found = Slice(
        name=members.name,
        images=count,
        right=hits,
        accuracy=hits / count,
        low=low,
        high=high,
        p=p,
        weak=False,
        expected=by_class,
        explained=by_class is not None and by_class <= high,
    )
    return found.model_copy(update=dict(members.limits))


def _chance_among_groups(
    rows: NDArray[np.int64], right: NDArray[np.bool_], groups: NDArray[np.int64]
) -> float:
    """Return the probability of a slice's mistakes by chance, from how much groups differ.

    Each group adds its part to the covariance of being in the slice and being right; the sum of
    the parts over the root of their squares has Student's t distribution (K.-Y. Liang and S. L.
    Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 1986).
    """
    inside = np.zeros(len(right))
    inside[rows] = 1
    parts = np.bincount(groups, weights=(inside - inside.mean()) * (right - right.mean()))
    squares = float(np.square(parts).sum())
    if not squares:
        return 1.0
    freedom = max(float(effective_groups(np.bincount(groups))) - 1, 1)
    return float(student.cdf(parts.sum() / squares**0.5, freedom))


def _class_accuracy(right: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the accuracy of each image's class, ``float64[N]``."""
    counts = np.maximum(np.bincount(labels), 1)
    accuracy: NDArray[np.float64] = np.bincount(labels, weights=right) / counts
    return accuracy[labels]


def _all_slices(
    traits: Mapping[str, NDArray[np.float64]], columns: Mapping[str, Sequence[str]]
) -> Iterator[_Members]:
    for name, values in traits.items():
        yield from _bins(name, values)
    for name, texts in columns.items():
        distinct = sorted(set(texts) - {""})
        if 1 < len(distinct) <= _VALUES:
            array = np.array(texts, object)
            by_text = {text: np.flatnonzero(array == text) for text in distinct}
            for text, rows in sorted(by_text.items(), key=lambda item: -len(item[1])):
                yield _Members(name, f"{name} {text}", rows, {"value": text})
        elif len(distinct) > _VALUES and (numbers := _as_numbers(texts)) is not None:
            yield from _bins(name, numbers)


def _as_numbers(texts: Sequence[str]) -> NDArray[np.float64] | None:
    """Return texts as numbers, ``nan`` for none; ``None`` where one is no number."""
    try:
        numbers = np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return None
    return None if np.isinf(numbers).any() else numbers


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _bins(name: str, values: NDArray[np.float64]) -> Iterator[_Members]:
    """Cut numbers at their quintiles; equal ones stay together, ``nan`` is in no bin."""
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return
    # Equal cuts become one, and a cut at the lowest value parts nothing.
    cuts = np.unique(np.quantile(values[known], np.arange(1, _BINS) / _BINS))
    places = np.searchsorted(cuts, values[known], side="right")
    for place in np.unique(places):
        rows = known[places == place]
        low, high = float(values[rows].min()), float(values[rows].max())
        span = _short(low) if low == high else f"{_short(low)} to {_short(high)}"
        yield _Members(name, f"{name} {span}", rows, {"start": low, "to": high})
