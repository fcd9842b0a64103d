"""95% confidence intervals.

Images of one group (a person, a film, copies of one image) are alike, so that many of them say
little more than one. Where there are such groups, they are what is resampled, not the images: each
is left out in turn, which gives the variance of any figure (the jackknife; R. G. Miller, "The
jackknife: a review", Biometrika 1974). Of that follows how many independent images would vary as
much, and the interval is Wilson's for so many, with the quantile of Student's t for so few groups
(E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number
of positive counts estimated from survey data", Survey Methodology 1998). The percentiles of a
bootstrap over 20 groups hold the truth in 88 to 92% of cases, these intervals in 93 to 97%.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Bools, Doubles, Ints
from opsin.core.errors import MissingExtraError

#: Two ends, the lower first.
Interval = tuple[float, float]

#: How much wider intervals are where models that share most of their images answer for another
#: that is fitted to all of them (`widened`).
OUT_OF_FOLD: Final = 1.25
#: Resamples of a bootstrap, and those below which its ends would be guesswork.
_RESAMPLES, FEWEST = 1000, 100
# Numbers looked at in all resamples of one figure together, about a second's work, and at once.
_WORK, _AT_ONCE = 100_000_000, 200_000
_SEED: Final = 0
# Added to the mistakes of a share when their clustering is judged: of one or two it is a guess,
# which leans to the side of groups that are right or wrong as a whole.
_ADDED: Final = 0.5


def scipy_stats() -> Any:
    """Import SciPy's statistics, which take a second to load."""
    try:
        from scipy import stats  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("evaluation", "evaluate") from error
    return stats


def wilson(right: int, count: int) -> Interval:
    """Return the 95% interval of a proportion, by Wilson's score.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA
    1927. Unlike the textbook's ±, it stays inside 0 to 1 and holds for small counts.
    """
    if not count:
        return 0.0, 1.0
    ends = scipy_stats().binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(ends.low), float(ends.high)


def widened(value: float, ends: Sequence[float], least: float = 0.0, most: float = 1.0) -> Interval:
    """Return the 95% interval of an out-of-fold figure from that of independent answers.

    The figure stands for a model that is fitted to all images, whose quality depends on these
    images, and the models that answered share most of theirs: intervals as of independent answers
    are too narrow (S. Bates, T. Hastie and R. Tibshirani, "Cross-validation: what does it
    estimate and how well does it do it?", JASA 2024). Over draws of photographs the accuracy was
    off by 1.1 to 1.2 times its standard error, so each end moves away by a quarter
    (`python -m benchmarks.out_of_fold`).
    """
    low, high = (value + OUT_OF_FOLD * (end - value) for end in ends)
    return max(least, low), min(most, high)


def number_groups(groups: NDArray[np.integer[Any]] | None) -> Ints | None:
    """Number groups from 0, or return ``None`` if every image is alone."""
    if groups is None:
        return None
    unique, numbers = np.unique(groups, return_inverse=True)
    return None if len(unique) == len(groups) else numbers.ravel()


def share(which: Bools, groups: Ints | None = None) -> Interval:
    """Return the 95% interval of the share of images that something holds for."""
    count, positive = len(which), int(which.sum())
    numbers = number_groups(groups)
    if numbers is None:
        return wilson(positive, count)
    sizes = np.bincount(numbers)
    if len(sizes) == 1:
        return 0.0, 1.0
    value, effective = positive / count, effective_groups(sizes)
    without = (positive - np.bincount(numbers, weights=which)) / (count - sizes)
    spread = value * (1 - value)
    inflation = _variance(value, without) * count / spread if spread else 1.0
    rarer = min(positive, count - positive)
    # Groups never make images worth more than independent ones.
    inflation = (max(1.0, inflation) * rarer + _ADDED * count / effective) / (rarer + _ADDED)
    low, high = _score(np.array(value), np.array(count / inflation), np.array(effective))
    return float(low), float(high)


def effective_groups(sizes: NDArray[np.integer[Any]], axis: int | None = None) -> Any:
    """Return the effective number of groups (L. Kish, 1965)."""
    exact = sizes.astype(np.float64)
    return exact.sum(axis) ** 2 / np.maximum(np.square(exact).sum(axis), 1)


def _variance(value: Any, without: Doubles) -> Any:
    """Return a figure's variance from its values without each group, the first axis."""
    return (len(without) - 1) / len(without) * np.square(without - value).sum(axis=0)


def _score(value: Doubles, size: Doubles, groups: Doubles) -> tuple[Doubles, Doubles]:
    """Return Wilson's interval of figures from 0 to 1 that rest on so many images and groups."""
    z = _quantile(groups)
    middle = (value + z**2 / (2 * size)) / (1 + z**2 / size)
    width = z / (1 + z**2 / size) * np.sqrt(value * (1 - value) / size + (z / (2 * size)) ** 2)
    return np.minimum(middle - width, value).clip(0), np.maximum(middle + width, value).clip(max=1)


def _quantile(groups: Doubles | float) -> Any:
    return scipy_stats().t.ppf(0.975, np.maximum(np.asarray(groups) - 1, 1))


def by_groups(value: Doubles, without: Doubles, groups: Doubles | float) -> tuple[Doubles, Doubles]:
    """Return the 95% intervals of figures from 0 to 1 by their values without each group."""
    groups = np.broadcast_to(np.asarray(groups, np.float64), value.shape)
    variance = _variance(value, without)
    # Figures that no group changes: as if each group were one image.
    size = np.where(variance > 0, value * (1 - value) / np.maximum(variance, 1e-300), groups)
    return _score(value, np.maximum(size, 1e-9), groups)


def pooled(groups: Ints, most: int) -> Ints:
    """Number groups from 0, at most so many: of more, several drawn at random become one.

    P. S. Kott, "The delete-a-group jackknife", Journal of Official Statistics 2001.
    """
    numbers = np.unique(groups, return_inverse=True)[1].ravel()
    count = int(numbers.max()) + 1
    if count <= most:
        return numbers
    return (np.random.default_rng(_SEED).permutation(count) % most)[numbers]


def resamples(size: int, least: int = 0) -> int:
    """Return how many resamples a bootstrap of ``size`` numbers may take; ``least`` if too few."""
    number = min(_RESAMPLES, _WORK // max(size, 1))
    return number if number >= FEWEST else least


def of_mean(values: NDArray[np.floating[Any]], groups: Ints | None = None) -> Interval | None:
    """Return the 95% interval of the mean of values from 0 on over images.

    By the bootstrap: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of
    Statistics 1979. Where there are too many values to resample, their mean is as good as normal.
    With groups, the logarithm of the mean has Student's t distribution; of one group nothing is
    known.
    """
    numbers, count, mean = number_groups(groups), len(values), float(values.mean())
    if numbers is not None:
        sizes = np.bincount(numbers)
        if len(sizes) == 1:
            return None
        without = (values.sum() - np.bincount(numbers, weights=values)) / (count - sizes)
        # A factor rather than a summand: losses are never negative, and a few are large.
        width = _quantile(effective_groups(sizes)) * float(_variance(mean, without)) ** 0.5
        factor = float(np.exp(width / mean)) if mean else 1.0
        return mean / factor, mean * factor
    number = resamples(count)
    if not number:
        width = 1.96 * float(values.std()) / count**0.5
        return mean - width, mean + width
    chance = np.random.default_rng(_SEED)
    means = [
        values[chance.integers(0, count, (some, count))].mean(axis=1)
        for some in _in_parts(number, count)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def of_counts(
    counts: Ints, figure: Callable[[Ints], Doubles], sizes: Doubles
) -> tuple[Doubles, Doubles]:
    """Return the 95% intervals of figures by how often each outcome came over ``sizes`` images."""
    chance = np.random.default_rng(_SEED)
    flat, total = counts.ravel(), int(counts.sum())
    there = np.flatnonzero(flat)
    values = []
    for some in _in_parts(resamples(counts.size, FEWEST), counts.size):
        again = np.zeros((some, counts.size), np.int64)
        again[:, there] = chance.multinomial(total, flat[there] / total, size=some)
        values.append(figure(again.reshape(some, *counts.shape)))
    ends = np.quantile(np.concatenate(values), [0.025, 0.975], axis=0)
    # Resamples without a mistake have none either: there it is Wilson's.
    low, high = np.where(ends[0] < ends[1], ends, _score(figure(counts), sizes, np.array(math.inf)))
    return low, high


def without_each_group(
    cells: Ints, shape: tuple[int, ...], numbers: Ints, figure: Callable[[Ints], Doubles]
) -> Doubles:
    """Return figures that follow from how often each outcome came, without each group in turn."""
    size = math.prod(shape)
    counts = np.bincount(cells, minlength=size)
    values, start = [], 0
    for some in _in_parts(int(numbers.max()) + 1, size):
        inside = (numbers >= start) & (numbers < start + some)
        places = (numbers[inside] - start) * size + cells[inside]
        of_groups = np.bincount(places, minlength=some * size).reshape(some, size)
        values.append(figure((counts - of_groups).reshape(some, *shape)))
        start += some
    return np.concatenate(values)


def _in_parts(number: int, size: int) -> list[int]:
    """Split resamples into parts that fit into memory."""
    most = max(1, _AT_ONCE // size)
    return [min(most, number - start) for start in range(0, number, most)]
