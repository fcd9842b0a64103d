"""Exports to one file."""

from __future__ import annotations

import os
from typing import Any

import opsin


def shipped(model: str | os.PathLike[str], to: str, **options: Any) -> opsin.Shipped:
    result = opsin.export_model(model, to, **options)
    assert isinstance(result, opsin.Shipped)
    return result
