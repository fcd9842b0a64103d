"""A drawing that cannot be is refused before the image is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsin.commands.answer_figure import check_drawing
from opsin.core.errors import RecipeError, StorageError


def test_its_ending_and_its_place_are_checked(tmp_path: Path) -> None:
    assert check_drawing(tmp_path / "new" / "plot.PNG") == tmp_path / "new" / "plot.PNG"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RecipeError, match=r"\.png, \.svg, \.pdf"):
        check_drawing(tmp_path / "plot.gif")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="not a directory"):
        check_drawing(tmp_path / "file" / "plot.png")
