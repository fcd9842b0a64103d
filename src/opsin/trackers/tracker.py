"""What a tracker is: how it is called, what it needs, and what it is given of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opsin.core.artifacts.epoch import Epoch
from opsin.core.artifacts.run_report import Report
from opsin.core.artifacts.run_status import State
from opsin.core.stored_json import Json


class Tracker(ABC):
    """Shows one run in a program that keeps experiments.

    Its methods are called in a process of its own, one after another, and may take their time; an
    exception ends the tracking with a warning, and never the run.
    """

    #: What the program calls the run, once it has begun; the run goes on under it when it resumes.
    id: str | None = None
    #: Where the run can be looked at.
    address: str = ""

    @abstractmethod
    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:
        """Begin, or go on with, a run.

        Args:
            run: The run directory, whose name is the run's.
            options: The recipe's, by the names that the command line has.
            known: What the program called the run before, if it did.
        """

    @abstractmethod
    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Show an epoch's figures, by the names that ``history.jsonl`` has; some may be NaN."""

    @abstractmethod
    def rewind(self, epochs: int) -> None:
        """Only the first ``epochs`` epochs count from now on."""

    @abstractmethod
    def results(self, report: Report, figures: Mapping[str, float]) -> None:
        """Show how good the run is.

        Args:
            report: All that was measured.
            figures: The figures of the part that it was judged by, and the ends of their 95%
                intervals: ``test/accuracy``, ``test/accuracy_low`` ….
        """

    @abstractmethod
    def picture(self, name: str, file: Path) -> None:
        """Show a picture, a PNG file, under a name such as ``figures/confusion``."""

    @abstractmethod
    def end(self, state: State, cause: str | None) -> None:
        """Close the run: it is done, or was stopped or failed for a cause."""


@dataclass(frozen=True)
class TrackerKind:
    """A tracker, as its module's ``KIND`` describes it; `opsin.trackers.trackers` finds it there.

    Args:
        name: What ``--track`` takes, and the extra that brings its package.
        title: What people call it.
        open: Makes one, which loads the package.
        advice: What to do where it fails.
        package: The package that it needs; nothing where Opsin's own are enough.
        environment: Variables that its process has unless they are set, such as those that turn
            its own reports on its use off.
    """

    name: str
    title: str
    open: Callable[[], Tracker]
    advice: str
    package: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def figures_of_epoch(epoch: Epoch) -> dict[str, float]:
    """Return the figures of an epoch by their names; norms of layers as ``norms/NAME``.

    Example:
        >>> line = {"epoch": 1, "epochs": 2, "step": 9, "train_loss": 0.7, "train_accuracy": 0.8,
        ...         "val_loss": None, "val_accuracy": 0.9, "rate": 0.1, "seconds": 3.0,
        ...         "images_per_second": 500.0, "best": True, "norms": {"head": 2.0}}
        >>> figures = figures_of_epoch(Epoch.model_validate(line))
        >>> figures["val_accuracy"], figures["val_loss"], figures["norms/head"]
        (0.9, nan, 2.0)
    """
    figures = {name: value for name, value in epoch if isinstance(value, float)}
    return figures | {f"norms/{layer}": norm for layer, norm in epoch.norms.items()}
