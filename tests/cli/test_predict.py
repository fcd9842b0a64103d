"""What makes an answer worthless is said before it."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from opsin.data.network_pixels import NO_CONTRAST
from tests.conftest import Cli


def test_an_image_without_contrast(cli: Cli, nearest_mean: Path, tmp_path: Path) -> None:
    file = tmp_path / "white.png"
    Image.new("RGB", (40, 40), "white").save(file)
    first, second, *_ = cli("predict", nearest_mean, file).stdout.splitlines()
    assert NO_CONTRAST in first and "%" in second
    (answer,) = json.loads(cli("predict", nearest_mean, file, "--json").stdout)["predictions"]
    assert answer["warning"] == NO_CONTRAST
    several = cli("predict", nearest_mean, tmp_path).stdout
    assert f"({NO_CONTRAST})" in several


def test_a_device_that_is_not_there(cli: Cli, nearest_mean: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "boot.png")
    told = cli("predict", nearest_mean, "boot.png", "--device", "tensorrt", status=1)
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in told.stderr
    told = cli("predict", nearest_mean, "boot.png", "--device", "gpu", status=2)
    assert "auto, cpu, cuda" in told.stderr
