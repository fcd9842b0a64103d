"""Options of the data are checked by name."""

from __future__ import annotations

from typing import Any

import pytest

from opsin.core.errors import RecipeError
from opsin.core.recipe import DataRecipe


@pytest.mark.parametrize("options", [{"val_fraction": 1.0}, {"size": (2, 2)}, {"colour": True}])
def test_impossible_data_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        DataRecipe.of("digits", **options)
