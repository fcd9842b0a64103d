"""Programs that keep experiments, which a run can be shown in: one module each."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from opsin.core.errors import MissingExtraError, RecipeError

if TYPE_CHECKING:
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


@functools.cache
def trackers() -> dict[str, type[Tracker]]:
    """Return the trackers by name: each module here with a ``TRACKER`` is one."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return {module.TRACKER.name: module.TRACKER for module in modules if hasattr(module, "TRACKER")}


def is_installed(tracker: type[Tracker]) -> bool:
    """Tell whether a tracker's package is there, without loading it."""
    if not tracker.package:
        return True
    try:
        spec = importlib.util.find_spec(tracker.package)
    except ValueError:  # it was made impossible to import
        return False
    return spec is not None and spec.origin is not None  # not just a folder of that name


def chosen_trackers(names: str | Sequence[str] | None) -> list[type[Tracker]]:
    """Return trackers by their names, separated by commas or one by one."""
    written = [names] if isinstance(names, str) else list(names or ())
    wanted = dict.fromkeys(word.strip() for text in written for word in text.split(","))
    wanted.pop("", None)
    known = trackers()
    if unknown := [name for name in wanted if name not in known]:
        raise RecipeError(
            f"trackers among {', '.join(known)}", f"got {', '.join(unknown)}", "Choose there."
        )
    for name in wanted:
        if not is_installed(known[name]):
            raise MissingExtraError(f"tracking with {known[name].title}", name)
    return [known[name] for name in wanted]
