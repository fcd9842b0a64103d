"""What a tracker is given of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from opsin.core.artifacts.records import State
from opsin.core.artifacts.run_report import Report
from opsin.core.stored_json import Json


class Tracker(ABC):
    """Shows one run in a program that keeps experiments, in a process of its own."""

    #: What ``--track`` takes, and the extra that brings the package.
    name: ClassVar[str]
    title: ClassVar[str]
    #: What to do where it fails.
    advice: ClassVar[str]
    package: ClassVar[str] = ""
    #: Variables of its process, such as those that turn its own telemetry off.
    environment: ClassVar[Mapping[str, str]] = {}

    #: The run's id in the program, once it has begun; a resumed run continues under it.
    id: str | None = None
    #: Where the run can be looked at.
    address: str = ""

    @abstractmethod
    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:
        """Begin a run with the recipe's options, or continue the one with a known id."""

    @abstractmethod
    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Show an epoch's figures, by the names that ``history.jsonl`` has; some may be NaN."""

    @abstractmethod
    def rewind(self, epochs: int) -> None:
        """Only the first ``epochs`` epochs count from now on."""

    @abstractmethod
    def results(self, report: Report, figures: Mapping[str, float]) -> None:
        """Show the report's figures and the ends of their intervals: ``test/accuracy_low`` …."""

    @abstractmethod
    def picture(self, name: str, file: Path) -> None:
        """Show a PNG file under a name such as ``figures/confusion``."""

    @abstractmethod
    def end(self, state: State, cause: str | None) -> None:
        """Close the run: it is done, or was stopped or failed for a cause."""
