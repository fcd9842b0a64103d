"""Features are computed once, whatever comes between."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.backbones import features
from opsin.backbones.backbone import Backbone, open_backbone
from opsin.backbones.features import compute
from opsin.core.errors import StorageError
from opsin.core.events import SILENT, Watcher

from .small_networks import SIDE, network

Images = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


class Counted(Watcher):
    """Notes how many images are computed, and stops after some of them."""

    def __init__(self, stop: threading.Event | None = None, after: int = 0) -> None:
        self.asked: list[int] = []
        self._stop, self._after = stop, after

    def begin(self, what: str, total: int, unit: str) -> None:
        self.asked.append(total)

    def advance(self, done: int, **figures: float) -> None:
        if self._stop is not None and done >= self._after:
            self._stop.set()


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    file = tmp_path / "small.onnx"
    file.write_bytes(network())
    return open_backbone(file, prepare="0..1")


@pytest.fixture
def images() -> Images:
    """Images that no other test has, and their digests."""
    random = np.random.default_rng(11)
    drawn = random.integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)
    return drawn, random.integers(0, 256, (20, 32), np.uint8)


def test_what_was_computed_before_a_stop_stays(
    backbone: Backbone, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "KEPT", 8)
    stop = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        compute(backbone, *images, ("whole",), watcher=Counted(stop, 8), stop=stop)
    again = Counted()
    found = compute(backbone, *images, ("whole",), watcher=again)
    assert again.asked == [12]
    fresh = compute(backbone, images[0], images[1] ^ np.uint8(1), ("whole",), watcher=SILENT)
    np.testing.assert_array_equal(found, fresh)


@pytest.mark.parametrize("writable", [True, False])
def test_features_too_large_for_the_memory_lie_on_the_disk(
    writable: bool,
    backbone: Backbone,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the disk refuses them, the memory has to do; the file goes with the array."""
    expected = compute(backbone, *images, ("whole",), watcher=SILENT)
    monkeypatch.setattr(features, "_IN_MEMORY", 0)
    cache = tmp_path / "cache"
    if not writable:
        cache.touch()
    monkeypatch.setenv("OPSIN_CACHE", str(cache))
    found = compute(backbone, *images, ("whole",), watcher=SILENT)
    assert isinstance(found, np.memmap) == writable
    np.testing.assert_array_equal(found, expected)
    if writable:
        assert [each.name for each in cache.iterdir()] == ["features"]


def test_other_labels_orders_and_more_images_compute_only_what_is_new(
    backbone: Backbone, images: Images
) -> None:
    pixels, digests = images
    first = compute(backbone, pixels[:15], digests[:15], ("whole", "mirrored"), watcher=SILENT)
    order = np.random.default_rng(0).permutation(20)
    counted = Counted()
    found = compute(backbone, pixels[order], digests[order], ("whole", "mirrored"), watcher=counted)
    assert counted.asked == [5]
    back = np.argsort(order)
    np.testing.assert_array_equal(found[back][:15], first)


def test_another_preparation_is_another_network(tmp_path: Path, images: Images) -> None:
    file = tmp_path / "small.onnx"
    file.write_bytes(network())
    answers = [
        compute(open_backbone(file, prepare=prepare), *images, ("whole",), watcher=SILENT)
        for prepare in ("0..1", "0..1,bgr", "-1..1", "imagenet")
    ]
    for place, one in enumerate(answers):
        assert all(np.abs(one - other).max() > 1e-3 for other in answers[:place])


def test_features_of_the_cpu_stay_those_of_the_cpu(
    backbone: Backbone, images: Images, stand_in: str
) -> None:
    pixels, digests = images[0], images[1] ^ np.uint8(5)
    elsewhere = compute(backbone, pixels, digests, ("whole",), watcher=SILENT, device=stand_in)
    counted = Counted()
    exact = compute(backbone, pixels, digests, ("whole",), watcher=counted)
    assert counted.asked == [20]
    np.testing.assert_allclose(exact, elsewhere, atol=1e-3)


def test_a_full_disk_costs_the_cache_and_not_the_features(
    backbone: Backbone, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise StorageError("room on the disk", "it is full", "Make some.")

    monkeypatch.setattr(features, "atomic_file", refuse)
    found = compute(backbone, *images, ("whole",), watcher=SILENT)
    assert np.isfinite(found).all()
    assert found.std() > 0
