"""Pixels of a scale that a network was not trained on are noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opsin.backbones.backbone import open_backbone
from opsin.backbones.preparation_check import doubt_about
from opsin.data.cache import digest_rows

from .small_networks import SIDE, network

ROWS = np.arange(40)


@pytest.fixture
def images() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Images of different colours and contrasts."""
    random = np.random.default_rng(3)
    level = random.uniform(60, 200, (40, 1, 1, 3))
    noise = random.normal(0, 1, (40, SIDE, SIDE, 3)) * random.uniform(5, 60, (40, 1, 1, 1))
    return (level + noise).clip(0, 255).astype(np.uint8)


def test_a_scale_that_makes_all_images_alike_is_doubted(
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], tmp_path: Path
) -> None:
    file = tmp_path / "scaled-within.onnx"
    file.write_bytes(network(inside="scaling"))
    doubt = doubt_about(open_backbone(file, prepare="-1..1"), images, digest_rows(images), ROWS)
    assert doubt is not None
    assert "--prepare=-1..1 is probably wrong" in doubt
    assert "--prepare=0..255" in doubt
    assert (
        doubt_about(open_backbone(file, prepare="0..255"), images, digest_rows(images), ROWS)
        is None
    )


def test_what_files_say_is_believed_and_few_images_tell_nothing(
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], tmp_path: Path
) -> None:
    file = tmp_path / "scaled-within.onnx"
    file.write_bytes(network(inside="scaling"))
    assert (
        doubt_about(open_backbone(file, prepare="-1..1"), images, digest_rows(images), ROWS[:5])
        is None
    )
    pixels = '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    (tmp_path / "preprocessor_config.json").write_text(pixels)
    assert doubt_about(open_backbone(file), images, digest_rows(images), ROWS) is None
