"""How far a figure could be from the truth: 95% intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

try:
    from scipy.stats import binomtest
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

#: Two ends, the lower first.
Interval = tuple[float, float]

# Resamples of a bootstrap, and those below which its ends would be guesswork.
_RESAMPLES, _FEWEST = 1000, 100
# Numbers looked at in all resamples of one figure together, about a second's work, and at once.
_WORK, _AT_ONCE = 100_000_000, 200_000
_SEED: Final = 0


def wilson(right: int, count: int) -> Interval:
    """Return the 95% interval of a proportion, by Wilson's score.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA
    1927. Unlike the textbook's ±, it stays inside 0 to 1 and holds for small counts.

    Args:
        right: Number of successes.
        count: Number of trials; of none, nothing is known (0 to 1).

    Example:
        >>> [round(end, 4) for end in wilson(9214, 10000)]
        [0.916, 0.9265]
    """
    if not count:
        return 0.0, 1.0
    ends = binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(ends.low), float(ends.high)


def resamples(size: int) -> int:
    """Return how many resamples a bootstrap of ``size`` numbers may take; 0 where too few.

    Example:
        >>> resamples(10_000), resamples(10_000_000)
        (1000, 0)
    """
    number = min(_RESAMPLES, _WORK // max(size, 1))
    return number if number >= _FEWEST else 0


def of_mean(values: NDArray[np.floating[Any]]) -> Interval:
    """Return the 95% interval of a mean over images, by the bootstrap.

    B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979. Where
    there are too many values to resample, their mean is as good as normal.

    Args:
        values: One for each image, ``float[N]``.

    Example:
        >>> low, high = of_mean(np.arange(100.0))
        >>> bool(low < 49.5 < high)
        True
    """
    number = resamples(len(values))
    if not number:
        middle, width = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
        return middle - width, middle + width
    chance = np.random.default_rng(_SEED)
    means = [
        values[chance.integers(0, len(values), (some, len(values)))].mean(axis=1)
        for some in in_parts(number, len(values))
    ]
    return middle_of(np.concatenate(means))


def of_counts(
    counts: NDArray[np.int64], figure: Callable[[NDArray[np.int64]], NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95% intervals of figures that follow from how often each outcome came.

    Drawing images again is drawing these counts from a multinomial distribution, so that the
    images themselves are not needed.

    Args:
        counts: How often each outcome came, ``int64[...]``.
        figure: Makes figures, ``float64[R, F]``, from resampled counts, ``int64[R, ...]``.

    Returns:
        The lower and the upper ends, ``float64[F]`` each.
    """
    chance = np.random.default_rng(_SEED)
    flat, total = counts.ravel(), int(counts.sum())
    there = np.flatnonzero(flat)
    number = max(_FEWEST, resamples(counts.size))
    values = []
    for some in in_parts(number, counts.size):
        again = np.zeros((some, counts.size), np.int64)
        again[:, there] = chance.multinomial(total, flat[there] / total, size=some)
        values.append(figure(again.reshape(some, *counts.shape)))
    low, high = np.quantile(np.concatenate(values), [0.025, 0.975], axis=0)
    return low, high


def in_parts(number: int, size: int) -> list[int]:
    """Split resamples into parts that memory has room for.

    Example:
        >>> in_parts(100, 4_000)
        [50, 50]
    """
    most = max(1, _AT_ONCE // size)
    return [min(most, number - start) for start in range(0, number, most)]


def middle_of(values: NDArray[np.float64]) -> Interval:
    """Return the ends of the middle 95% of some values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
