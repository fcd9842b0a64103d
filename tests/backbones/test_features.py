"""Features are computed once, whatever comes between."""

import threading
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from opsin.backbones import features
from opsin.backbones.backbone import Backbone, open_backbone
from opsin.backbones.features import FeatureCache, compute
from opsin.core.errors import StorageError
from opsin.core.events import SILENT, Watcher
from tests.conftest import Notes

from .small_networks import SIDE, network

Images = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    file = tmp_path / "small.onnx"
    file.write_bytes(network())
    return open_backbone(file, prepare="0..1")


@pytest.fixture
def images() -> Images:
    random = np.random.default_rng(11)
    drawn = random.integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)
    return drawn, random.integers(0, 256, (20, 32), np.uint8)


def test_what_was_computed_before_a_stop_stays(
    backbone: Backbone, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "KEPT", 8)
    stop, again = threading.Event(), Notes()

    class Stopping(Watcher):
        def advance(self, done: int, **figures: float) -> None:
            if done >= 8:
                stop.set()

    with pytest.raises(KeyboardInterrupt):
        compute(backbone, *images, ("whole",), watcher=Stopping(), stop=stop)
    found = compute(backbone, *images, ("whole",), watcher=again)
    assert again.totals == [12]
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


def test_only_what_is_new_is_computed(backbone: Backbone, images: Images) -> None:
    pixels, digests = images
    first = compute(backbone, pixels[:15], digests[:15], ("whole", "mirrored"), watcher=SILENT)
    order = np.random.default_rng(0).permutation(20)
    counted = Notes()
    found = compute(backbone, pixels[order], digests[order], ("whole", "mirrored"), watcher=counted)
    assert counted.totals == [5]
    back = np.argsort(order)
    np.testing.assert_array_equal(found[back][:15], first)
    views = [compute(backbone, *images, (view,), watcher=SILENT) for view in ("whole", "mirrored")]
    np.testing.assert_array_equal(found[back], np.mean(views, axis=0))


def test_another_preparation_is_another_network(tmp_path: Path, images: Images) -> None:
    file = tmp_path / "small.onnx"
    file.write_bytes(network())
    answers = [
        compute(open_backbone(file, prepare=prepare), *images, ("whole",), watcher=SILENT)
        for prepare in ("0..1", "0..1,bgr", "-1..1", "imagenet")
    ]
    for place, one in enumerate(answers):
        assert all(np.abs(one - other).max() > 1e-3 for other in answers[:place])


def test_the_cpu_keeps_its_own_features(backbone: Backbone, images: Images, stand_in: str) -> None:
    pixels, digests = images[0], images[1] ^ np.uint8(5)
    elsewhere = compute(backbone, pixels, digests, ("whole",), watcher=SILENT, device=stand_in)
    counted = Notes()
    exact = compute(backbone, pixels, digests, ("whole",), watcher=counted)
    assert counted.totals == [20]
    np.testing.assert_allclose(exact, elsewhere, atol=1e-3)


def test_a_full_disk_costs_the_cache_and_not_the_features(
    backbone: Backbone, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Mock(side_effect=StorageError("The disk is full", "Free some space."))
    monkeypatch.setattr(features, "atomic_file", full)
    found = compute(backbone, images[0], images[1] ^ np.uint8(7), ("whole",), watcher=SILENT)
    assert np.isfinite(found).all() and found.std() > 0 and full.called


UNITS = 5
Kept = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Kept:
    """Digests and features of 300 images, in a cache that no other test has."""
    random = np.random.default_rng(len(request.node.name))
    digests = random.integers(0, 256, (300, 32), np.uint8)
    digests[1, :8] = digests[0, :8]  # two whose names begin alike
    features = random.normal(size=(300, UNITS)).astype(np.float32)
    cache = FeatureCache(request.node.name, UNITS)
    for start in (0, 150):
        rows = slice(start, start + 150)
        cache.keep(digests[rows], features[rows])
    return digests, features


def find(cache: FeatureCache, digest: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    found = np.zeros((1, UNITS), np.float32)
    return None if len(cache.add_to(found, digest[None])) else found[0]


def test_images_are_found_by_their_pixels(kept: Kept, request: pytest.FixtureRequest) -> None:
    digests, features = kept
    cache = FeatureCache(request.node.name, UNITS)
    for row in (0, 1, 149, 150, 299):
        np.testing.assert_array_equal(find(cache, digests[row]), features[row])
    wanted = np.concatenate([digests[[7, 200, 7]], digests[:1] ^ np.uint8(1)])
    found = np.zeros((4, UNITS), np.float32)
    cache.keep(digests[190:210], features[190:210])  # a second time, as two processes may
    assert cache.add_to(found, wanted).tolist() == [3]
    np.testing.assert_array_equal(found[:3], features[[7, 200, 7]])


@pytest.mark.parametrize("damage", ["cut", "bit", "text", "empty"])
def test_damage_costs_own_images(damage: str, kept: Kept, request: pytest.FixtureRequest) -> None:
    digests, features = kept
    cache = FeatureCache(request.node.name, UNITS)
    first = next(
        path
        for path in cache.folder.glob("*.npz")
        if np.load(path)["digests"][0, 9] == digests[0, 9]
    )
    content = bytearray(first.read_bytes())
    if damage == "bit":
        content[content.find(features[4].tobytes())] ^= 1
    damaged = {"cut": content[:-200], "bit": content, "text": b"no arrays", "empty": b""}
    first.write_bytes(bytes(damaged[damage]))
    assert find(cache, digests[4]) is None
    np.testing.assert_array_equal(find(cache, digests[160]), features[160])
    found = np.zeros((300, UNITS), np.float32)
    assert cache.add_to(found, digests).tolist() == list(range(150))
    cache.keep(digests[:150][::-1], features[:150][::-1])  # computed again, kept under another name
    again = FeatureCache(request.node.name, UNITS)
    np.testing.assert_array_equal(find(again, digests[4]), features[4])


ROUNDS = 10


def _keep(key: str, seed: int) -> None:
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    for _ in range(ROUNDS):
        for random in (shared, own):
            digests = random.integers(0, 256, (16, 32), np.uint8)
            FeatureCache(key, UNITS).keep(digests, digests[:, :UNITS].astype(np.float32))


def test_processes_keep_at_the_same_time(request: pytest.FixtureRequest) -> None:
    key = request.node.name
    processes = [get_context("spawn").Process(target=_keep, args=(key, seed)) for seed in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    cache = FeatureCache(key, UNITS)
    for seed in (0, 1, 2):
        random = np.random.default_rng(seed)
        for digests in (random.integers(0, 256, (16, 32), np.uint8) for _ in range(ROUNDS)):
            np.testing.assert_array_equal(find(cache, digests[5]), digests[5, :UNITS])
