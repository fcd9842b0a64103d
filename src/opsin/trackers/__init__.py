"""Experiment trackers, one module each."""

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
from opsin.core.recipe_options import split_names

if TYPE_CHECKING:
    from opsin.core.artifacts.records import State
    from opsin.core.stored_json import Json


class Tracker(ABC):
    """Logs one run to an experiment tracker, in a separate process."""

    name: ClassVar[str]  # for ``--track``, and of the extra with its package
    title: ClassVar[str]
    advice: ClassVar[str]  # if it fails
    package: ClassVar[str] = ""
    environment: ClassVar[Mapping[str, str]] = {}  # of its process, such as to stop telemetry

    id: str | None = None  # the tracker's of the run, once begun; a resumed run keeps it
    address: str = ""  # where the run is shown

    @abstractmethod
    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:
        """Begin a run with the recipe's options, or continue one by its id."""

    @abstractmethod
    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log an epoch's figures, named as in ``history.jsonl``; epochs may repeat.

        At the end those of the report with their intervals: ``test/accuracy``,
        ``test/accuracy_low`` …. Some may be NaN.
        """

    def results(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log the report's figures at the end, beside those of the last epoch."""
        self.log(epoch, figures)

    @abstractmethod
    def end(self, state: State, cause: str | None) -> None:
        """Close the run, which is done, stopped or failed."""


@functools.cache
def trackers() -> dict[str, type[Tracker]]:
    """The trackers by name: each module here with a ``TRACKER`` is one."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return {module.TRACKER.name: module.TRACKER for module in modules if hasattr(module, "TRACKER")}


def is_installed(tracker: type[Tracker]) -> bool:
    """Whether a tracker's package is installed, without loading it."""
    try:
        spec = importlib.util.find_spec(tracker.package or __name__)
    except ValueError:  # its import is blocked
        return False
    return spec is not None and spec.origin is not None  # not merely a folder of that name


def chosen_trackers(names: str | Sequence[str] | None) -> list[type[Tracker]]:
    """Trackers by their names, separated by commas or one by one."""
    texts = [names] if isinstance(names, str) else names or ()
    wanted = dict.fromkeys(name for text in texts for name in split_names(text))
    known = trackers()
    for name in wanted:
        if name not in known:
            raise RecipeError(f"{name} is no tracker; there are {', '.join(known)}")
        if not is_installed(known[name]):
            raise MissingExtraError(f"tracking with {known[name].title}", name)
    return [known[name] for name in wanted]
