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
from opsin.core.recipe_options import split_names

if TYPE_CHECKING:
    from opsin.core.artifacts.records import State
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
    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Show the figures of an epoch, which may come again, by their names in ``history.jsonl``.

        At the end those of the report with their intervals: ``test/accuracy``,
        ``test/accuracy_low`` …. Some may be NaN.
        """

    @abstractmethod
    def end(self, state: State, cause: str | None) -> None:
        """Close the run: it is done, or was stopped or failed for a cause."""


@functools.cache
def trackers() -> dict[str, type[Tracker]]:
    """The trackers by name: each module here with a ``TRACKER`` is one."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return {module.TRACKER.name: module.TRACKER for module in modules if hasattr(module, "TRACKER")}


def is_installed(tracker: type[Tracker]) -> bool:
    """Whether a tracker's package is there, which is not loaded."""
    try:
        spec = importlib.util.find_spec(tracker.package or __name__)
    except ValueError:  # it was made impossible to import
        return False
    return spec is not None and spec.origin is not None  # not just a folder of that name


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
