"""The pictures that stand for a class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassRecord:
    """What is known of a class with N pictures.

    Args:
        rows: The pictures' numbers, ``int64[N]``.
        scores: The probability of this class for each, ``float32[N]``.
        distances: Of each embedding from the class's mean: 1 less the cosine of the angle
            between them, 0 to 2, ``float64[N]``. Euclidean distances would tell how long an
            embedding is: the surest pictures have the longest, and would be far from any mean.
        surest: Places in ``rows``, the highest score first.
        nearest: Places, the nearest to the mean first.
        mean: The mean picture, ``uint8[H, W, C]``.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    distances: NDArray[np.float64]
    surest: NDArray[np.int64]
    nearest: NDArray[np.int64]
    mean: NDArray[np.uint8]


@dataclass
class ClassCounter:
    """Takes the pictures of one class batch by batch; it keeps their embeddings, not their pixels.

    Args:
        label: Place of the class among the outputs.

    Example:
        >>> counter = ClassCounter(0)
        >>> images = np.zeros((2, 1, 1, 1), np.uint8) + np.uint8([10, 20])[:, None, None, None]
        >>> shares = np.float32([[0.9, 0.1], [0.9, 0.1]])
        >>> logits = np.float32([[3, 1], [9, 7.5]])
        >>> counter.add(np.array([4, 5]), images, shares, logits, np.float32([[0], [2]]))
        >>> record = counter.record()
        >>> record.rows[record.surest].tolist(), record.mean.item()
        ([4, 5], 15)
    """

    label: int
    _rows: list[NDArray[np.int64]] = field(default_factory=list)
    _scores: list[NDArray[np.float32]] = field(default_factory=list)
    _leads: list[NDArray[np.float64]] = field(default_factory=list)
    _embeddings: list[NDArray[np.float32]] = field(default_factory=list)
    _sum: NDArray[np.int64] | None = None

    def add(
        self,
        rows: NDArray[np.int64],
        images: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
        logits: NDArray[Any],
        embedding: NDArray[np.float32],
    ) -> None:
        """Take some pictures of this class.

        Args:
            rows: Their numbers, ``int64[B]``.
            images: ``uint8[B, H, W, C]``
            probabilities: ``float32[B, K]``
            logits: What the last layer says, ``float32[B, K]``.
            embedding: ``float32[B, D]``
        """
        self._rows.append(rows)
        self._scores.append(probabilities[:, self.label])
        self._leads.append(_lead(logits, self.label))
        self._embeddings.append(embedding)
        total = images.sum(axis=0, dtype=np.int64)
        self._sum = total if self._sum is None else self._sum + total

    def record(self) -> ClassRecord | None:
        """Return what is known, or ``None`` where no picture has come."""
        if self._sum is None:
            return None
        rows, scores = np.concatenate(self._rows), np.concatenate(self._scores)
        middle = np.sum([b.sum(axis=0, dtype=np.float64) for b in self._embeddings], axis=0)
        # Batch by batch: in double precision, all at once would take three times the memory.
        distances = np.concatenate([_angle(batch, middle) for batch in self._embeddings])
        return ClassRecord(
            rows=rows,
            scores=scores,
            distances=distances,
            surest=np.lexsort((rows, -np.concatenate(self._leads), -scores)),
            nearest=np.lexsort((rows, distances)),
            mean=(self._sum / len(rows)).round().astype(np.uint8),
        )


def _angle(embedding: NDArray[np.float32], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 less the cosine between each embedding and another one, ``float64[B]``."""
    double = embedding.astype(np.float64)
    lengths = np.linalg.norm(double, axis=1) * np.linalg.norm(middle)
    cosine = np.divide(double @ middle, lengths, out=np.zeros(len(double)), where=lengths > 0)
    return np.asarray(1 - cosine)


def _lead(logits: NDArray[Any], label: int) -> NDArray[np.float64]:
    """Return the lead of a class's logit over all others together, ``float64[B]``.

    It orders pictures as the probability does, and goes on where that is rounded to 1.
    """
    others = np.delete(logits.astype(np.float64), label, axis=1)
    top = np.maximum(others.max(axis=1), np.finfo(np.float64).min)
    rest = top + np.log(np.exp(others - top[:, None]).sum(axis=1).clip(1e-300))
    lead: NDArray[np.float64] = logits[:, label] - rest
    return lead
