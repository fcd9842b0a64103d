"""A head is chosen by cross-validation, wherever there is something to tell heads apart by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.core.errors import ModelFileError
from tests.backbones.small_networks import network


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    file = tmp_path / "small.onnx"
    file.write_bytes(network())
    return file


def coloured(counts: tuple[int, ...], groups: tuple[str, ...] = ()) -> opsin.Dataset:
    """Return noise in the colour of each class."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    tone = np.array([(200, 60, 40), (40, 60, 200), (60, 190, 80)])[labels]
    images = random.normal(tone[:, None, None], 50, (len(labels), 16, 16, 3)).clip(0, 255)
    return opsin.from_arrays(images.astype(np.uint8), labels, groups=groups)


def trained(data: opsin.Dataset, backbone: Path, runs: Path, **options: Any) -> opsin.Run:
    given: dict[str, Any] = {"prepare": "-1..1", **options}
    return opsin.train(data, backbone=backbone, runs=runs, quiet=True, **given)


def test_one_image_of_a_rare_class_does_not_decide_the_head(backbone: Path, tmp_path: Path) -> None:
    data = coloured((40, 40, 3))
    assert np.bincount(data.labels[data.split.train])[2] == 1
    run = trained(data, backbone, tmp_path / "runs")
    assert "by cross-validation on the training images" in run.report.reasons["Head"]
    assert run.report.judged.accuracy > 0.8


@pytest.mark.parametrize("films", [3, 4])
def test_few_groups_of_many_images(films: int, backbone: Path, tmp_path: Path) -> None:
    groups = tuple(f"{label}-{number // 20}" for label in "ab" for number in range(20 * films))
    data = coloured((20 * films, 20 * films), groups)
    run = trained(data, backbone, tmp_path / "runs")
    assert "nearest class mean" not in run.report.reasons["Head"]
    assert run.report.judged.accuracy > 0.8


def test_features_that_are_not_finite_are_refused(backbone: Path, tmp_path: Path) -> None:
    pixels = tmp_path / "pixels.json"
    pixels.write_text(json.dumps({"image_mean": [0] * 3, "image_std": [1e-38] * 3}))
    with pytest.raises(ModelFileError, match="small gives others for some images"):
        trained(coloured((20, 20)), backbone, tmp_path / "runs", prepare=str(pixels))
