"""Programs that keep experiments, which a run can be shown in: one module each."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opsin.core.errors import MissingExtraError, RecipeError

if TYPE_CHECKING:
    from opsin.trackers.tracker import Tracker


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
