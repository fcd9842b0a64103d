"""Accuracy by slices, to find weak ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Bools, Doubles, Ints
from opsin.core.artifacts.run_report import Slice, Slices, Trait
from opsin.core.events import SILENT, Watcher, watched
from opsin.data.audit import measure
from opsin.data.lazy_images import Images
from opsin.evaluation.comparison import LEVEL, holm
from opsin.evaluation.intervals import (
    Interval,
    effective_groups,
    number_groups,
    scipy_stats,
    share,
    widened,
)

#: Slices of fewer images are shown and not judged: at 30, the interval of 0.9 spans 0.2.
LEAST: Final = 30
_BINS: Final = 5
# A column with more values than this stands for no kinds of images, unless it holds numbers.
_VALUES: Final = 50
_BLOCK_PIXELS: Final = 8_000_000

#: Name of a slice, its images, and its ``start`` and ``to``, or its ``value``.
_Members = tuple[str, Ints, dict[str, float | str]]


def measure_traits(
    images: Images, rows: Ints, sizes: NDArray[np.int32] | None = None, *, watcher: Watcher = SILENT
) -> dict[str, Doubles]:
    """Measure traits of images to slice by."""
    step = max(1, _BLOCK_PIXELS // (images.shape[1] * images.shape[2]))
    names = ("brightness", "contrast", "sharpness")
    parts = [np.zeros((len(names), 0))]
    pieces = (images[rows[start : start + step]] for start in range(0, len(rows), step))
    for pixels in watched(watcher, "Measure", len(rows), pieces, size=len):
        seen = measure(pixels)
        brightness = pixels.reshape(len(pixels), -1).mean(axis=1)
        parts.append(np.stack([brightness, seen.contrast, seen.sharpness]))
    traits = dict(zip(names, np.concatenate(parts, axis=1), strict=True))
    if sizes is not None and len(np.unique(sizes[rows], axis=0)) > 1:
        traits["size"] = np.sqrt(sizes[rows].astype(np.float64).prod(axis=1))
    return traits


def slice_accuracy(
    right: Bools,
    traits: Mapping[str, Doubles],
    columns: Mapping[str, Sequence[str]] | None = None,
    *,
    labels: Ints | None = None,
    groups: Ints | None = None,
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
    groups, overall = number_groups(groups), float(right.mean())
    class_accuracy = None
    if labels is not None:
        counts = np.maximum(np.bincount(labels), 1)
        class_accuracy = (np.bincount(labels, weights=right) / counts)[labels]

    def interval(rows: Ints) -> Interval:
        ends = share(right[rows], None if groups is None else groups[rows])
        return widened(float(right[rows].mean()), ends) if out_of_fold else ends

    def measured(name: str, rows: Ints, limits: dict[str, float | str]) -> Slice:
        hits = int(right[rows].sum())
        low, high = interval(rows)
        expected = None if class_accuracy is None else float(class_accuracy[rows].mean())
        result = Slice(
            name=name,
            images=len(rows),
            right=hits,
            accuracy=hits / len(rows),
            low=low,
            high=high,
            p=_chance_of(rows, right, groups) if LEAST <= len(rows) < len(right) else None,
            weak=False,
            expected=expected,
            explained=expected is not None and expected <= high,
        )
        return result.model_copy(update=limits)

    by_trait: dict[str, list[Slice]] = {}
    for trait, members in _all_slices(traits, columns or {}):
        by_trait.setdefault(trait, []).append(measured(*members))
    by_trait = {name: slices for name, slices in by_trait.items() if len(slices) > 1}
    # One test for each slice that is large enough.
    tested = [entry.p for slices in by_trait.values() for entry in slices if entry.p is not None]
    corrected = iter(holm(tested))
    for slices in by_trait.values():
        for index, entry in enumerate(slices):
            if entry.p is not None:
                p = next(corrected)
                weak = not too_weak and p < LEVEL and entry.high < overall
                slices[index] = entry.model_copy(update={"p": p, "weak": weak})
    weakest = [
        entry.model_copy(update={"trait": name})
        for name, slices in by_trait.items()
        for entry in slices
        if entry.weak
    ]
    low, high = interval(np.arange(len(right)))
    return Slices(
        images=len(right),
        accuracy=overall,
        low=low,
        high=high,
        judged=len(tested),
        too_weak=too_weak,
        traits=[Trait(name=name, slices=slices) for name, slices in by_trait.items()],
        weakest=sorted(weakest, key=lambda entry: (entry.explained, entry.accuracy)),
    )


def _chance_of(rows: Ints, right: Bools, groups: Ints | None) -> float:
    """Return the probability that a slice has so many mistakes by chance.

    Of as many images drawn from all of them; and where images come in groups, from how much these
    differ: each group adds its part to the covariance of being in the slice and being right; the
    sum of the parts over the root of their squares has Student's t distribution (K.-Y. Liang and
    S. L. Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 1986).
    """
    stats = scipy_stats()
    total, correct, count = len(right), int(right.sum()), len(rows)
    mistakes = count - int(right[rows].sum())
    p = float(stats.hypergeom.sf(mistakes - 1, total, total - correct, count))
    if groups is None:
        return p
    inside = np.zeros(total)
    inside[rows] = 1
    parts = np.bincount(groups, weights=(inside - inside.mean()) * (right - right.mean()))
    squares = float(np.square(parts).sum())
    if not squares:
        return 1.0
    freedom = max(float(effective_groups(np.bincount(groups))) - 1, 1)
    return max(p, float(stats.t.cdf(parts.sum() / squares**0.5, freedom)))


def _all_slices(
    traits: Mapping[str, Doubles], columns: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, _Members]]:
    """Yield the slices, each behind the name of its trait."""
    for name, values in traits.items():
        for members in _bins(name, values):
            yield name, members
    for name, texts in columns.items():
        distinct = sorted(set(texts) - {""})
        if 1 < len(distinct) <= _VALUES:
            array = np.array(texts, object)
            by_text = {text: np.flatnonzero(array == text) for text in distinct}
            for text, rows in sorted(by_text.items(), key=lambda item: -len(item[1])):
                yield name, (f"{name} {text}", rows, {"value": text})
        elif len(distinct) > _VALUES:
            try:
                numbers = np.array([float(text) if text else np.nan for text in texts])
            except ValueError:  # names rather than numbers
                continue
            if not np.isinf(numbers).any():
                for members in _bins(name, numbers):
                    yield name, members


def _bins(name: str, values: Doubles) -> Iterator[_Members]:
    """Cut numbers at their quintiles; equal ones stay together, ``nan`` is in no bin."""

    def short(number: float) -> str:
        return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"

    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return
    # Equal cuts become one, and a cut at the lowest value parts nothing.
    cuts = np.unique(np.quantile(values[known], np.arange(1, _BINS) / _BINS))
    indices = np.searchsorted(cuts, values[known], side="right")
    for index in np.unique(indices):
        rows = known[indices == index]
        low, high = float(values[rows].min()), float(values[rows].max())
        span = short(low) if low == high else f"{short(low)} to {short(high)}"
        yield f"{name} {span}", rows, {"start": low, "to": high}
