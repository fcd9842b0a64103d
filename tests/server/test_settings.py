"""Unsafe settings cannot be made."""

from __future__ import annotations

import pytest

from opsin.core.errors import RecipeError
from opsin.server import ServerSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", -1), ("port", 65_536), ("max_bytes", 0), ("queue", 0),
     ("deadline", 0), ("deadline", float("nan")), ("deadline", float("inf")), ("workers", 0),
     ("max_pixels", 50_000_001), ("batch", -3), ("port", 80.5), ("queue", 1.5),
     ("host", ""), ("device", "gpu")],
)  # fmt: skip
def test_values_out_of_range(name: str, value: float | str) -> None:
    with pytest.raises(RecipeError, match=name):
        ServerSettings(**{name: value})  # type: ignore[arg-type]
