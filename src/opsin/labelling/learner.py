"""What the labels of some photographs say about the others of their heap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from opsin.core.arrays import Bools, Floats, Ints
from opsin.core.errors import MissingExtraError

try:
    from scipy.linalg import solve
    from scipy.sparse import csr_array, diags_array
    from scipy.special import softmax
except ImportError as error:
    raise MissingExtraError("labelling", "evaluate") from error

# Images that the kernel is spanned by, and images of the heap that teach, at most.
_CENTRES, _OWN_CENTRES, _TAUGHT = 1_000, 500, 1_500
# Rounds in which more and more of the heap teaches; the share of it that does in the last one, and
# how much such an image counts beside a label.
_ROUNDS: Final = 3
_TRUSTED, _WEIGHT = 0.8, 0.15
# Inverse strength of the labels, and the distance of targets, as of kernel ridge among the heads.
_STRENGTH: Final = 100.0
_APART: Final = 10.0
# Share of the system's mean diagonal that rounding may take.
_ROUNDING: Final = 1e-5
# Neighbours of an image; how far labels spread; images and classes for which that pays.
_NEIGHBOURS, _SPREAD, _STEPS = 8, 0.95, 30
_CONNECTED, _SPREAD_CLASSES = 20_000, 100
_BLOCK: Final = 1_024
# Cells of directions that are searched for neighbours; directions each is compared with at least.
_CELLS, _COMPARED = 100, 3_000


class HeapLearner:
    """A classifier of a heap's images, fitted to few labels in tenths of a second.

    Kernel ridge regression on at most 1,000 centres (C. Williams and M. Seeger, "Using the Nyström
    method to speed up kernel machines", NeurIPS 2000). The images without labels teach as well:
    those that it is surest of, the same share of each class, join in three rounds under its own
    answers (D. Yarowsky, ACL 1995), which are joined by those that labels spread over nearest
    neighbours give (D. Zhou et al., "Learning with local and global consistency", NeurIPS 2003).
    """

    def __init__(self, points: Floats, seed: int = 0) -> None:
        self.points, self._seed = points, seed
        self.gamma = 1 / max(2 * float(points.var(axis=0).sum()), 1e-6)

    def fit(
        self,
        rows: Ints,
        labels: Ints,
        classes: int,
        *,
        without: Ints | None = None,
        spread: bool = False,
    ) -> FittedLearner:
        """Fit it to labels, ``int64[L]`` below ``classes``, of the images at ``rows``.

        ``without`` are images that must not teach, since they are to judge. ``spread`` lets labels
        spread over neighbours, where the heap is not too large for that.
        """
        random = np.random.default_rng(self._seed)
        teaching = np.ones(len(self.points), bool)
        teaching[rows] = False
        if without is not None:
            teaching[without] = False
        others = random.permutation(np.flatnonzero(teaching))[:_TAUGHT]
        fitted = self._fitted(rows, labels, np.ones(len(rows), np.float32), classes, random)
        enough = len(rows) >= _CENTRES  # the heap adds nothing that could be measured
        if not len(others) or len(np.unique(labels)) < 2 or enough:
            return fitted
        spreads = spread and self.can_spread(classes)
        shares = self._spread(rows, labels, classes) if spreads else None
        for number in range(_ROUNDS):
            answers = fitted.of(others)
            if shares is not None:
                answers = (answers + shares[others]) / 2
            sure = _surest(answers, _TRUSTED * (number + 1) / _ROUNDS)
            learnt = np.concatenate([rows, others[sure]])
            known = np.concatenate([labels, answers[sure].argmax(axis=1)])
            weights = np.full(len(learnt), _WEIGHT, np.float32)
            weights[: len(rows)] = 1
            fitted = self._fitted(learnt, known, weights, classes, random)
        return fitted

    def _fitted(
        self, rows: Ints, labels: Ints, weights: Floats, classes: int, random: np.random.Generator
    ) -> FittedLearner:
        labelled, taught = np.flatnonzero(weights == 1), np.flatnonzero(weights < 1)
        some = np.concatenate([random.permutation(labelled), random.permutation(taught)])
        some = some[: max(_OWN_CENTRES, min(len(labelled), _CENTRES))]
        centres = self.points[rows[some]]
        kernel = likeness(self.points[rows], centres, self.gamma)
        targets = np.full((len(rows), classes), -_APART / classes, np.float32)
        targets[np.arange(len(rows)), labels] += _APART
        weighted = (kernel * weights[:, None]).T
        system = (weighted @ kernel + kernel[some] / np.float32(_STRENGTH)).astype(np.float64)
        system[np.diag_indices_from(system)] += _ROUNDING * np.trace(system) / len(system)
        coefficients = solve(system, weighted @ targets, assume_a="pos", check_finite=False)
        return FittedLearner(self.points, self.gamma, centres, np.asarray(coefficients, np.float32))

    def can_spread(self, classes: int) -> bool:
        """Whether labels of so many classes spread over neighbours in reasonable time."""
        return 1 < len(self.points) <= _CONNECTED and classes <= _SPREAD_CLASSES

    def _spread(self, rows: Ints, labels: Ints, classes: int) -> Floats:
        """Each image's share of what spreads from the labels of each class, ``float32[N, K]``."""
        known = np.zeros((len(self.points), classes), np.float32)
        known[rows, labels] = 1
        shares = known.copy()
        for _ in range(_STEPS):
            shares = np.float32(_SPREAD) * (self._graph @ shares) + np.float32(1 - _SPREAD) * known
        shares /= shares.sum(axis=0) + np.float32(1e-12)
        return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12), np.float32)

    @cached_property
    def _graph(self) -> Any:
        """The weights of nearest neighbours, normalised on both sides."""
        count = len(self.points)
        near = min(_NEIGHBOURS, count - 1)
        places, values = nearest(self.points, near)
        weights = np.maximum(values, 0) ** 4
        ends = np.arange(0, count * near + 1, near)
        graph = csr_array((weights.ravel(), places.ravel(), ends), shape=(count, count))
        graph = graph.maximum(graph.T)
        scale = diags_array(1 / np.sqrt(graph.sum(axis=1) + np.float32(1e-9)))
        return (scale @ graph @ scale).tocsr()


@dataclass(frozen=True, eq=False)
class FittedLearner:
    """Answers of a fitted `HeapLearner`."""

    points: Floats
    gamma: float
    centres: Floats
    coefficients: Floats

    def of(self, rows: Ints) -> Floats:
        """The probabilities of images, ``float32[M, K]``."""
        parts = [np.zeros((0, self.coefficients.shape[1]), np.float32)]
        for start in range(0, len(rows), _BLOCK):
            points = self.points[rows[start : start + _BLOCK]]
            parts.append(
                softmax(likeness(points, self.centres, self.gamma) @ self.coefficients, axis=1)
            )
        return np.concatenate(parts)


def nearest(points: Floats, count: int) -> tuple[Ints, Floats]:
    """The nearest other directions of each, ``int64[N, count]``, and their cosines.

    Of very many, each is compared with those in the cells about its own (as an inverted file does;
    H. Jégou, M. Douze and C. Schmid, "Product quantization for nearest neighbor search", 2011).
    """
    places = np.empty((len(points), count), np.int64)
    values = np.empty((len(points), count), np.float32)
    centres = points[:: max(1, len(points) // _CELLS)] if len(points) > _COMPARED else points[:1]
    cell = (points @ centres.T).argmax(axis=1)
    sizes = np.bincount(cell, minlength=len(centres))
    between = centres @ centres.T
    np.fill_diagonal(between, np.inf)  # its own cell first, though others have its direction
    for number, around in enumerate(np.argsort(-between, axis=1)):
        enough = int(np.searchsorted(np.cumsum(sizes[around]), _COMPARED)) + 1
        others = np.flatnonzero(np.isin(cell, around[:enough]))
        compared, own = points[others], np.flatnonzero(cell == number)
        for start in range(0, len(own), _BLOCK):
            rows = own[start : start + _BLOCK]
            part = points[rows] @ compared.T
            part[np.arange(len(rows)), np.searchsorted(others, rows)] = -np.inf
            found = np.argpartition(part, -count, axis=1)[:, -count:]
            places[rows] = others[found]
            values[rows] = np.take_along_axis(part, found, axis=1)
    return places, values


def margins(answers: Floats) -> Floats:
    """How much likelier the best class of each answer is than the next, ``float32[N]``."""
    if answers.shape[1] < 2:
        return np.ones(len(answers), np.float32)
    best = np.partition(answers, -2, axis=1)
    return np.asarray(best[:, -1] - best[:, -2], np.float32)


def _surest(answers: Floats, part: float) -> Bools:
    """The same part of the answers of each class: those with the largest margin, ``bool[N]``."""
    margin, best, sure = margins(answers), answers.argmax(axis=1), np.zeros(len(answers), bool)
    for label in np.unique(best):
        rows = np.flatnonzero(best == label)
        sure[rows[np.argsort(-margin[rows])[: int(part * len(rows))]]] = True
    return sure


def likeness(left: Floats, right: Floats, gamma: float) -> Floats:
    """The Gaussian of the distances of directions, ``float32[N, M]``."""
    values = left @ right.T
    values -= 1
    values *= 2 * gamma
    return np.asarray(np.exp(np.minimum(values, 0, out=values), out=values), np.float32)
