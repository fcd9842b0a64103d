"""The architectures by name: every module of `opsin.models.architectures` is one."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

from opsin.models import architectures
from opsin.models.model_spec import ModelSpec

_MODULES: Final = pkgutil.iter_modules(architectures.__path__, f"{architectures.__name__}.")
_SPECS: Final[list[ModelSpec]] = [importlib.import_module(module.name).SPEC for module in _MODULES]
_SPECS.sort(key=lambda spec: spec.cost(spec.defaults["hidden"], (32, 32, 3), 10))
#: The architectures by name, the cheapest first.
MODELS: Final = {spec.name: spec for spec in _SPECS}


def names() -> str:
    """Return the names for a sentence."""
    *others, last = MODELS
    return f"{', '.join(others)} or {last}"
