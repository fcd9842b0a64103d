"""What excites each unit of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Pictures that are kept for each unit.
KEPT: Final = 100
# Share of the mean activity below which a deviation is rounding.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class UnitRecord:
    """What is known of a layer's U units after N pictures of K classes.

    Args:
        rows: The pictures that excite each unit most, the strongest first, ``int64[U, T]``.
        values: The largest value of the unit's map on each, ``float32[U, T]``.
        places: Where in the map that is, counted row by row, ``int64[U, T]``.
        mix: How many of these are of each class, ``int64[U, K]``.
        counts: Pictures of each class, ``int64[K]``.
        mean: Mean activity: of the map's mean over the pictures of a class, ``float64[U, K]``;
            not a number for a class without pictures.
        deviation: Standard deviation of the map's mean over all pictures, ``float64[U]``.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    places: NDArray[np.int64]
    mix: NDArray[np.int64]
    counts: NDArray[np.int64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def rest(self) -> NDArray[np.float64]:
        """Return the mean activity over the pictures of all other classes, ``float64[U, K]``."""
        totals = np.where(self.counts, self.mean, 0) * self.counts
        others = self.counts.sum() - self.counts
        with np.errstate(invalid="ignore", divide="ignore"):
            rest: NDArray[np.float64] = (totals.sum(axis=1, keepdims=True) - totals) / others
        return rest

    def selectivity(self) -> NDArray[np.float64]:
        """Return how far each class lifts each unit, in deviations, ``float64[U, K]``.

        It is the mean activity for the class less that for all other pictures, over the standard
        deviation of all pictures: a standardised difference of means (J. Cohen, "Statistical power
        analysis for the behavioral sciences", 1988). 0 for a unit that never changes, and where
        there is no picture of the class, or no other.
        """
        apart = np.nan_to_num(self.mean - self.rest())
        width, moves = self.deviation[:, None], ~self.steady()[:, None]
        return np.divide(apart, width, out=np.zeros_like(apart), where=moves)

    def steady(self) -> NDArray[np.bool_]:
        """Tell which units are the same on all pictures, as dead ones are, ``bool[U]``."""
        rounding: NDArray[np.float64] = _ROUNDING * np.abs(np.nan_to_num(self.mean)).max(axis=1)
        return self.deviation <= rounding


class UnitCounter:
    """Takes a layer's maps batch by batch and keeps what a `UnitRecord` says.

    The memory that it takes does not depend on the number of pictures, and its answer not on the
    size of the batches: of equal values the lowest rows are kept. A value that is no number counts
    as none.

    Args:
        units: U, how many units the layer has.
        classes: K.
        keep: Pictures to keep for each unit.

    Example:
        >>> counter = UnitCounter(units=2, classes=2, keep=1)
        >>> counter.add(np.float32([[1, 0], [5, 2]]), np.array([7, 8]), np.array([0, 1]))
        >>> counter.add(np.float32([[5, 3]]), np.array([9]), np.array([1]))
        >>> record = counter.record()
        >>> record.rows.tolist(), record.mean.tolist()
        ([[8], [9]], [[1.0, 5.0], [0.0, 2.5]])
    """

    def __init__(self, units: int, classes: int, *, keep: int = KEPT) -> None:
        self._units, self._keep = units, keep
        self._counts = np.zeros(classes, np.int64)
        self._mean = np.zeros((classes, units))
        self._squares = np.zeros(units)
        # Candidates, each with unit, value, row, place and class; thinned out now and then.
        self._found: list[tuple[NDArray[Any], ...]] = []
        self.waiting = 0
        # What a picture must beat to be kept: the weakest that is.
        self._least = np.full(units, -np.inf, np.float32)
        self._last = np.full(units, np.iinfo(np.int64).max)

    def add(
        self, maps: NDArray[np.float32], rows: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> None:
        """Take some pictures.

        Args:
            maps: What the layer puts out, ``float32[B, U]`` or ``float32[B, U, H, W]``.
            rows: Numbers of the pictures, ``int64[B]``; each may come once.
            labels: Their classes, ``int64[B]``.
        """
        flat = maps.reshape(len(maps), self._units, -1)
        largest = flat.max(axis=2)
        largest[np.isnan(largest)] = -np.inf
        means = flat.mean(axis=2).astype(np.float64)
        self._add_activity(means, labels)
        ahead = largest > self._least
        ahead |= (largest == self._least) & (rows[:, None] < self._last)
        which, units = np.nonzero(ahead)
        places = np.zeros(len(which), np.int64)
        if flat.shape[2] > 1:
            places = flat[which, units].argmax(axis=1)
        self._found.append((units, largest[which, units], rows[which], places, labels[which]))
        self.waiting += len(which)
        if self.waiting > self._units * self._keep:
            self._thin_out()

    def _add_activity(self, means: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        order = np.argsort(labels, kind="stable")
        present, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        self._counts[present] += counts
        self._mean[present] += np.add.reduceat(means[order], starts, axis=0)
        self._squares += np.einsum("bu,bu->u", means, means)

    def _thin_out(self) -> tuple[NDArray[Any], ...]:
        """Keep the strongest of each unit only, and return them, unit by unit."""
        units, values, rows, places, labels = map(np.concatenate, zip(*self._found, strict=True))
        order = np.lexsort((rows, -values, units))
        units = units[order]
        rank = np.arange(len(units)) - np.searchsorted(units, units)
        order = order[rank < self._keep]
        units = units[rank < self._keep]
        kept = (units, values[order], rows[order], places[order], labels[order])
        full = np.flatnonzero(np.bincount(units, minlength=self._units) == self._keep)
        last = np.searchsorted(units, full, side="right") - 1
        self._least[full], self._last[full] = kept[1][last], kept[2][last]
        self._found, self.waiting = [kept], 0
        return kept

    def record(self) -> UnitRecord:
        """Return what is known so far; at least one picture must have come."""
        kept = self._thin_out()
        shape = (self._units, -1)
        classes = len(self._counts)
        pairs = kept[0] * classes + kept[4]
        counts = self._counts
        with np.errstate(invalid="ignore"):
            mean = (self._mean / counts[:, None]).T
        overall = self._mean.sum(axis=0) / counts.sum()
        variance = self._squares / counts.sum() - overall**2
        return UnitRecord(
            rows=kept[2].reshape(shape),
            values=kept[1].reshape(shape),
            places=kept[3].reshape(shape),
            mix=np.bincount(pairs, minlength=self._units * classes).reshape(-1, classes),
            counts=counts.copy(),
            mean=np.ascontiguousarray(mean),
            deviation=np.sqrt(np.maximum(variance, 0)),
        )
