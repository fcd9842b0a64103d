"""The answers to a run's validation and test images: ``predictions.npz``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError

#: ``out_of_fold``: all images, each answered by a model that had not seen it.
PredictedPart = Literal["val", "test", "out_of_fold"]
#: What the images of a part are called.
PART_WORDS: Final[dict[PredictedPart, str]] = {
    "test": "test", "val": "validation", "out_of_fold": "held-out"
}  # fmt: skip
_PARTS: Final[tuple[PredictedPart, ...]] = ("val", "test", "out_of_fold")


@dataclass(frozen=True)
class PartPredictions:
    """The answers to one part of the images."""

    #: Each image's row among those of the run, and its class, ``int64[N]``.
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    #: The calibrated answers, ``float32[N, K]``.
    probabilities: NDArray[np.float32]
    #: Dissimilarity of each image to the training images, 0 to 2, ``float32[N]``.
    ood_score: NDArray[np.float32] | None = None
    #: The labels before the user's corrections, ``int64[N]``; ``None`` without any.
    source_labels: NDArray[np.int64] | None = None
    #: Images with the same number belong together: copies, groups of the source, ``int64[N]``.
    groups: NDArray[np.int64] | None = None

    @cached_property
    def answers(self) -> NDArray[np.int64]:
        """The most probable class of each image, ``int64[N]``."""
        answers: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return answers

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Which of the answers are right, ``bool[N]``."""
        right: NDArray[np.bool_] = self.answers == self.labels
        return right

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """The probability of each answer, ``float32[N]``."""
        confidence: NDArray[np.float32] = self.probabilities.max(axis=1)
        return confidence

    def surest(self, chosen: NDArray[np.bool_]) -> list[int]:
        """The indices of chosen images, ``bool[N]``, the most confident answers first."""
        indices = np.flatnonzero(chosen)
        order = np.argsort(-self.confidence[indices], kind="stable")
        return [int(index) for index in indices[order]]


@dataclass(frozen=True)
class RunPredictions:
    """The answers to each part of a run's images."""

    parts: Mapping[PredictedPart, PartPredictions]

    @classmethod
    def read(cls, directory: RunDirectory) -> RunPredictions:
        """Read a run's ``predictions.npz``."""
        arrays = directory.load_arrays(directory.predictions)
        parts: dict[PredictedPart, PartPredictions] = {}
        for part in _PARTS:
            columns: dict[str, NDArray[Any]] = {
                field.name: arrays[name]
                for field in fields(PartPredictions)
                if (name := f"{part}_{field.name}") in arrays
            }
            if {"rows", "labels", "probabilities"} <= columns.keys():
                parts[part] = PartPredictions(**columns)
        return cls(parts)

    def write(self, directory: RunDirectory) -> None:
        """Write ``predictions.npz`` into a run."""
        arrays = {
            f"{part}_{field.name}": array
            for part, answers in self.parts.items()
            for field in fields(PartPredictions)
            if (array := getattr(answers, field.name)) is not None
        }
        directory.save_arrays(directory.predictions, **arrays)

    def of(self, part: PredictedPart) -> PartPredictions:
        """The answers to one part."""
        if part not in self.parts:
            raise RunError(f"predictions.npz has no answers to the {part} images", "Train again.")
        return self.parts[part]

    def __iter__(self) -> Iterator[tuple[PredictedPart, PartPredictions]]:
        return iter(self.parts.items())
