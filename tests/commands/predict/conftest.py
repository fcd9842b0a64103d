"""Files to sort, and where to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def write_source(root: Path, count: int = 5) -> Path:
    """Write files of which some share their names, each with a content of its own."""
    for number in range(count):
        path = root / f"{number % 2}" / f"{number // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"image {number}")
        os.utime(path, (1_000_000 + number, 1_000_000 + number))
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sorted"
