"""A run's layers and answers, from its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsin.core.artifacts.run_report import Report
from opsin.core.errors import RunError
from opsin.core.metadata import Layer
from opsin.studio.runs.run_answers import RunAnswers, read_answers

if TYPE_CHECKING:
    from opsin.core.artifacts.run_directory import RunDirectory


@dataclass(frozen=True)
class RunResults:
    """What is known of a finished run without asking its classifier."""

    layers: list[Layer]
    part: str
    answers: RunAnswers


def read_judged(directory: RunDirectory) -> RunResults:
    """Read a run's report and its answers."""
    if not directory.classifier.is_file() or not directory.report.is_file():
        raise RunError(
            "a run with a classifier", "this one has none yet", "Wait for its end, or resume it."
        )
    report = directory.read(Report)
    return RunResults(report.layers, report.split, read_answers(directory, report.split))
