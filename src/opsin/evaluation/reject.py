"""When to answer "none of these", at a stated price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Share of images of the known classes that may be refused by mistake; and, where validation
#: images are too few to promise that, at most.
RATE, HIGHEST_RATE = 0.02, 0.05
# A length below which a vector has no direction, as in `opsin.onnx_files.postprocessing`.
_NO_LENGTH: Final = 1e-12
# Share of the usual deviation that every unit is taken to have.
_FLOOR: Final = 0.1


@dataclass(frozen=True)
class ClassPrototypes:
    """What the known classes look like to a classifier.

    Args:
        scales: What each unit of an embedding is multiplied by, ``float32[D]``: one over its
            deviation, so that no unit drowns the others. Units that hardly vary count as if they
            varied a tenth as much as the rest.
        directions: Direction of each class's mean scaled embedding, ``float32[K, D]`` of length 1;
            zeros for a class without images, so that nothing is near it.
    """

    scales: NDArray[np.float32]
    directions: NDArray[np.float32]

    @classmethod
    def of(
        cls, embeddings: NDArray[np.float32], labels: NDArray[np.int64], classes: int
    ) -> ClassPrototypes:
        """Learn it from training images."""
        exact = embeddings.astype(np.float64)
        variances = exact.var(axis=0)
        scales = 1 / np.sqrt(variances + max(_FLOOR**2 * float(variances.mean()), _NO_LENGTH))
        means = np.zeros((classes, exact.shape[1]))
        for number in np.unique(labels):
            means[number] = (exact[labels == number] * scales).mean(axis=0)
        return cls(scales.astype(np.float32), _directions(means).astype(np.float32))

    @classmethod
    def of_images(cls, embeddings: NDArray[np.float32]) -> ClassPrototypes:
        """Take each of some images for what is known: the nearest one counts.

        Y. Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022. For
        embeddings whose directions compare images well as they are.
        """
        scales = np.ones(embeddings.shape[1], np.float32)
        return cls(scales, _directions(embeddings).astype(np.float32))

    def ood_score(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return 1 less the cosine with the nearest class's direction, as the file does."""
        cosines = _directions(embeddings * self.scales) @ self.directions.T
        return np.asarray(1 - cosines.max(axis=1), np.float32)


def choose_threshold(values: NDArray[np.float32]) -> tuple[float, float] | None:
    """Choose the largest OOD score that gets an answer, so that few of the known are refused.

    By conformal prediction (V. Vovk et al., "Algorithmic learning in a random world", 2005): the
    k-th largest of n values is exceeded by a further one of the same kind with a probability of
    k / (n + 1), whatever their distribution is.
    """
    count = len(values)
    place = max(1, int(RATE * (count + 1) + 1e-9))
    rate = place / (count + 1)
    if rate > HIGHEST_RATE + 1e-9:
        return None
    return float(np.partition(values, count - place)[count - place]), rate


def _directions(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _NO_LENGTH))
