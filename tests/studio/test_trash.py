"""What was removed is kept for a week, whichever version removed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsin.core.errors import StorageError
from opsin.studio.trash import Trash


def test_restoring_replaces_nothing(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "mine.txt").write_text(content)
        if content == "first":
            Trash(tmp_path).put("set")
    [removed] = Trash(tmp_path).removed()
    with pytest.raises(StorageError):
        Trash(tmp_path).restore(removed)
    assert (tmp_path / "set" / "mine.txt").read_text() == "second"
    assert Trash(tmp_path).removed() == [removed]
