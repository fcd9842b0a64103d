"""Images whose label is probably wrong."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

#: How cleanlab chooses and ranks: chosen by measurement (benchmarks/label_errors.py).
FILTER: Final = "low_self_confidence"
RANK: Final = "self_confidence"


@dataclass(frozen=True)
class SuspectedLabels:
    """Images whose label is probably wrong, the most doubtful first.

    Args:
        rows: Their places among the images that were looked at, ``int64[M]``.
        suggested: The class that the answers suggest instead, never the label, ``int64[M]``.
        scores: Doubt in the label, ``float32[M]``: 1 less its probability by the answer. With the
            default order they fall.
        looked_at: N, the number of images that were looked at.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    scores: NDArray[np.float32]
    looked_at: int

    @classmethod
    def none(cls, looked_at: int) -> SuspectedLabels:
        """Return an empty list of suspects, with the number of images looked at."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, np.zeros(0, np.float32), looked_at)

    def __len__(self) -> int:
        return len(self.rows)


def suspects(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    filter_by: str = FILTER,
    rank_by: str = RANK,
) -> SuspectedLabels:
    """Find labels that answers contradict more surely than the classifier's own mistakes explain.

    Confident learning: the mean probability of a class over the images that bear its label is
    the threshold above which an answer counts as sure; sure answers against the label estimate how
    many labels are wrong, and so many are returned. C. G. Northcutt, L. Jiang, I. Chuang,
    "Confident learning: estimating uncertainty in dataset labels", JAIR 2021; by cleanlab.
    """
    exact = probabilities.astype(np.float64)
    usable = np.isfinite(exact).all(axis=1)
    exact, own = exact[usable], labels[usable]
    if len(np.unique(own)) < 2:
        return SuspectedLabels.none(len(labels))
    exact /= exact.sum(axis=1, keepdims=True)
    rows = _doubted(exact, own, filter_by, rank_by)
    return SuspectedLabels(
        rows=np.flatnonzero(usable)[rows],
        suggested=exact.argmax(axis=1)[rows],
        scores=(1 - exact[rows, own[rows]]).astype(np.float32),
        looked_at=len(labels),
    )


def _doubted(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], filter_by: str, rank_by: str
) -> NDArray[np.int64]:
    """Return the rows whose labels cleanlab doubts, the most doubtful first."""
    try:
        with warnings.catch_warnings():
            # In a notebook, what it imports complains that a package of progress bars is missing.
            warnings.simplefilter("ignore")
            from cleanlab.filter import find_label_issues  # noqa: PLC0415  takes a second to load
            from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415  likewise
    except ImportError as error:
        raise MissingExtraError("suspected label errors", "evaluate") from error
    # One process: the work takes a second, and forks beside ONNX Runtime's threads can hang.
    marked = find_label_issues(labels, probabilities, filter_by=filter_by, n_jobs=1)
    rows = np.flatnonzero(marked & (probabilities.argmax(axis=1) != labels))
    if not rows.size:
        return rows
    quality = get_label_quality_scores(labels[rows], probabilities[rows], method=rank_by)
    return rows[np.argsort(quality, kind="stable")]


def clear_examples(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], label: int, count: int = 3
) -> NDArray[np.int64]:
    """Return rows to show beside a suspect: typical images of a class, for comparison."""
    rows = np.flatnonzero((labels == label) & (probabilities.argmax(axis=1) == label))
    order = np.argsort(-probabilities[rows, label], kind="stable")
    return rows[order][:count]
