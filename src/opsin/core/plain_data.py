"""Results as plain data, for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np


def plain_data(value: Any, digits: int | None = None) -> Any:
    """Return a JSON value: lists for arrays, numbers of Python for NumPy's, texts for paths.

    An object is written as the attributes that its ``JSON`` names, ``"row class=label.name"`` with
    ``label.name`` as ``class``, and its numbers to ``DIGITS`` significant digits.
    """
    if hasattr(value, "JSON"):
        digits = getattr(value, "DIGITS", None)
        pairs = (name.partition("=")[::2] for name in value.JSON.split())
        return {key: plain_data(attrgetter(path or key)(value), digits) for key, path in pairs}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: plain_data(item, digits) for key, item in value.items()}
    if isinstance(value, np.generic | np.ndarray) and not value.ndim:
        value = value.item()
    if isinstance(value, list | tuple | np.ndarray):
        return [plain_data(item, digits) for item in value]
    if isinstance(value, float) and digits is not None:
        return float(f"{value:.{digits}g}")
    return str(value) if isinstance(value, Path) else value
