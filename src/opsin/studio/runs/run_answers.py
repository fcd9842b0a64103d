"""The answers of a finished run to its test images, from its files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PredictedPart, RunPredictions
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import RunError
from opsin.core.metadata import Layer


@dataclass(frozen=True)
class RunAnswers:
    """A run's answers to its test images (or validation images)."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    confidence: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which of the answers are right, ``bool[N]``."""
        return np.equal(self.labels, self.answers)

    def of_cell(self, actual: int, predicted: int) -> list[int]:
        """Return the indices of the answers in a cell of the confusion matrix, the surest first."""
        places = np.flatnonzero((self.labels == actual) & (self.answers == predicted))
        return self._surest_first(places)

    def mistakes(self) -> list[int]:
        """Return the indices of the wrong answers, the most confident first."""
        return self._surest_first(np.flatnonzero(~self.right))

    def least_sure(self) -> list[int]:
        """Return the indices of the right answers, the least certain first."""
        return self._surest_first(np.flatnonzero(self.right))[::-1]

    def _surest_first(self, indices: NDArray[np.int64]) -> list[int]:
        order = np.argsort(-self.confidence[indices], kind="stable")
        return [int(index) for index in indices[order]]


def read_answers(directory: RunDirectory, split: PredictedPart) -> RunAnswers:
    """Read a run's ``predictions.npz``."""
    kept = RunPredictions.read(directory).of(split)
    return RunAnswers(kept.rows, kept.labels, kept.answers, kept.probabilities.max(axis=1))


@dataclass(frozen=True)
class RunResults:
    """A finished run's report and answers."""

    layers: list[Layer]
    part: str
    answers: RunAnswers


def read_judged(directory: RunDirectory) -> RunResults:
    """Read a run's report and its answers."""
    if not directory.classifier.is_file() or not directory.report.is_file():
        raise RunError("The run has no classifier yet", "Wait for its end, or resume it.")
    report = directory.read(Report)
    return RunResults(report.layers, report.split, read_answers(directory, report.split))
