"""What was removed is kept for a week, whichever version removed it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from opsin.core.errors import StorageError
from opsin.studio.trash import KEPT, Trash


def test_what_earlier_versions_removed_is_restored_and_swept(tmp_path: Path) -> None:
    now, trash = time.time(), Trash(tmp_path)
    names = {f"{now - 60:.3f}-run-1": "run-1", f"{int((now - 30) * 1e9)}-aa": "aa"}
    for name in (*names, f"{now - KEPT - 60:.3f}-old", "somebody's", ".hidden"):
        (tmp_path / ".deleted" / name).mkdir(parents=True)
    found = {each.token: each.folder for each in trash.removed()}
    assert [round(now - each.when) for each in trash.removed()[:2]] == [30, 60]
    assert list(found.values()) == ["aa", "run-1", "old"]
    assert names.items() <= found.items()
    trash.sweep()
    assert {each.name for each in trash.path.iterdir()} == {*names, "somebody's"}
    for each in trash.removed():
        trash.restore(each)
    assert {place.name for place in tmp_path.iterdir()} == {".deleted", "run-1", "aa"}


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
