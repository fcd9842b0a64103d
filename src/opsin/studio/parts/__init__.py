"""What pages are put together from."""

from __future__ import annotations

import importlib
import pkgutil


def styles() -> list[str]:
    """Return the style of each part: its module's ``CSS``, where it has one."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return [str(getattr(module, "CSS", "")) for module in modules]
