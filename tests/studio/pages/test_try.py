"""Photographs that came since the newest training are counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("nicegui")

from opsin.studio.pages.try_ import newer_images


def test_photographs_that_came_since_are_counted(tmp_path: Path) -> None:
    assert newer_images(tmp_path / "gone", 0) == (0, 0)
    for number, name in enumerate(("cat/a.png", "cat/b.jpg", "dog/c.png", ".trash/d.png", "e.png")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (number, number))
    (tmp_path / "cat" / "notes.txt").write_text("")
    assert newer_images(tmp_path, 0.5) == (2, 3)
    assert newer_images(tmp_path, 9) == (0, 3)
