"""Options of servers: sizes are given in millions."""

from __future__ import annotations

import pytest

from opsin.cli.server_options import in_units
from opsin.core.errors import RecipeError


def test_sizes() -> None:
    assert in_units("--max-megabytes", 20.0, 1_000_000) == 20_000_000
    assert in_units("--max-megapixels", 0.3, 1_000_000) == 300_000


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-1", "1e300"])
def test_sizes_that_are_none(value: str) -> None:
    with pytest.raises(RecipeError, match=r"--max-megabytes .* 0"):
        in_units("--max-megabytes", float(value), 1_000_000)
