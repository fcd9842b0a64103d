"""Photos of a telephone: a class of HEIC alone is read, or named; it never vanishes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opsin.data.dataset import look_at
from tests.conftest import write_shapes

HEIC = base64.b64decode((Path(__file__).parents[1] / "data" / "telephone.heic.txt").read_bytes())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = write_shapes(tmp_path / "photos", count=10)
    (root / "telephone").mkdir()
    for number in range(10):
        # Bytes behind the last box change no pixel, and make each file another one.
        (root / "telephone" / f"IMG_{number}.HEIC").write_bytes(
            HEIC + b"\0\0\0\x09free" + bytes([number])
        )
    return root


def opsin(*words: str, cwd: Path, reader: bool = True) -> subprocess.CompletedProcess[str]:
    without = cwd / "without"
    (without / "pi_heif").mkdir(parents=True, exist_ok=True)
    (without / "pi_heif" / "__init__.py").write_text("raise ImportError")
    environment = {**os.environ, "OPSIN_CACHE": str(cwd / "cache")}
    if not reader:
        environment["PYTHONPATH"] = str(without)
    return subprocess.run(
        [sys.executable, "-m", "opsin", *words],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def test_a_class_of_heic_alone_is_read_or_said_to_need_its_reader(
    photos: Path, tmp_path: Path
) -> None:
    refused = opsin("data", "photos", cwd=tmp_path, reader=False)
    assert refused.returncode == 1
    assert "telephone/IMG_0.HEIC: HEIC needs pi-heif" in refused.stderr
    assert "10 of " in refused.stderr and "pip install pi-heif" in refused.stderr
    # Once it is installed, what was refused is read.
    read = opsin("data", "photos", "--json", "--no-draw", cwd=tmp_path)
    counts = json.loads(read.stdout)["counts"]
    assert sum(counts["telephone"].values()) == 10


def test_the_same_photo_is_the_same_by_python(photos: Path) -> None:
    data = look_at(photos)
    rows = np.flatnonzero(data.labels == data.classes.index("telephone"))
    middle = data.images[rows[0]][16, 32].astype(int)
    assert middle[0] > 200 > middle[1]  # the red half is on top
