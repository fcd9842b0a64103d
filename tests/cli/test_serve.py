"""Options of servers: sizes are given in millions."""

from __future__ import annotations

import pytest

from opsin.cli.serve import _millions
from opsin.core.errors import RecipeError


def test_sizes() -> None:
    assert _millions("--max-megabytes", 20.0) == 20_000_000
    assert _millions("--max-megapixels", 0.3) == 300_000


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-1", "1e300"])
def test_sizes_that_are_none(value: str) -> None:
    with pytest.raises(RecipeError, match=r"--max-megabytes .* 0"):
        _millions("--max-megabytes", float(value))
