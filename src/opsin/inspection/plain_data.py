"""Results as plain data, for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from opsin.core.stored_json import JsonObject


class PlainData:
    """A result with some attributes as plain data."""

    #: Their names: ``"row class=label.name"`` writes ``label.name`` as ``class``.
    JSON: ClassVar[str]
    #: Significant digits of its numbers; ``None``: all.
    DIGITS: ClassVar[int | None] = None

    def to_json(self) -> JsonObject:
        """Return the attributes that `JSON` names."""
        pairs = (name.partition("=")[::2] for name in self.JSON.split())
        return {key: plain(attrgetter(path or key)(self), self.DIGITS) for key, path in pairs}


def plain(value: Any, digits: int | None = None) -> Any:
    """Return a JSON value: lists for arrays, numbers of Python for NumPy's."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: plain(item, digits) for key, item in value.items()}
    if isinstance(value, np.generic | np.ndarray) and not value.ndim:
        value = value.item()
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item, digits) for item in value]
    if isinstance(value, float) and digits is not None:
        return float(f"{value:.{digits}g}")
    return value
