"""What is kept is found again, and what is damaged is not."""

from __future__ import annotations

from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from opsin.backbones.features import FeatureCache

UNITS = 5
Kept = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Kept:
    """Digests, sources and features of 300 images, in a cache that no other test has."""
    random = np.random.default_rng(len(request.node.name))
    names = random.integers(0, 256, (2, 300, 32), np.uint8)
    names[:, 1, :8] = names[:, 0, :8]  # two whose names begin alike
    features = random.normal(size=(300, UNITS)).astype(np.float32)
    cache = FeatureCache(request.node.name, UNITS)
    for start in (0, 150):
        rows = slice(start, start + 150)
        cache.keep(names[0, rows], features[rows], names[1, rows])
    return names[0], names[1], features


def test_images_are_found_by_pixels_and_by_files(
    kept: Kept, request: pytest.FixtureRequest
) -> None:
    digests, sources, features = kept
    cache = FeatureCache(request.node.name, UNITS)
    for row in (0, 1, 149, 150, 299):
        for names, by in ((digests, "digests"), (sources, "sources")):
            found = cache.find(names[row].tobytes(), by)  # type: ignore[arg-type]
            assert found is not None
            assert found.digest == digests[row].tobytes()
            np.testing.assert_array_equal(found.features, features[row])
    assert cache.find(sources[3].tobytes(), "digests") is None
    assert cache.find(bytes(32), "sources") is None


def test_many_are_filled_in_at_once(kept: Kept, request: pytest.FixtureRequest) -> None:
    digests, _, features = kept
    wanted = np.concatenate([digests[[7, 200, 7]], digests[:1] ^ np.uint8(1)])
    found = np.zeros((4, UNITS), np.float32)
    missing = FeatureCache(request.node.name, UNITS).fill(found, wanted)
    assert missing.tolist() == [3]
    np.testing.assert_array_equal(found[:3], features[[7, 200, 7]])


@pytest.mark.parametrize("damage", ["cut", "bit", "text", "empty"])
def test_a_damaged_file_costs_its_own_images(
    damage: str, kept: Kept, request: pytest.FixtureRequest
) -> None:
    digests, _, features = kept
    cache = FeatureCache(request.node.name, UNITS)
    first = next(
        path
        for path in cache.folder.glob("*.npz")
        if np.load(path)["digests"][0, 9] == digests[0, 9]
    )
    content = bytearray(first.read_bytes())
    if damage == "bit":
        place = content.find(features[4].tobytes())
        content[place] ^= 1
    first.write_bytes(
        {
            "cut": bytes(content[:-200]),
            "bit": bytes(content),
            "text": b"no arrays",
            "empty": b"",
        }[damage]
    )
    assert cache.find(digests[4].tobytes(), "digests") is None
    whole = cache.find(digests[160].tobytes(), "digests")
    assert whole is not None
    np.testing.assert_array_equal(whole.features, features[160])
    found = np.zeros((300, UNITS), np.float32)
    assert cache.fill(found, digests).tolist() == list(range(150))
    cache.keep(digests[:150][::-1], features[:150][::-1])  # computed again, kept under another name
    again = FeatureCache(request.node.name, UNITS)
    known = again.find(digests[4].tobytes(), "digests")
    assert known is not None
    np.testing.assert_array_equal(known.features, features[4])


def _keep(key: str, seed: int) -> None:
    """Keep what another process keeps at the same time, and something of one's own."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    for _ in range(30):
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
        for digests in (random.integers(0, 256, (16, 32), np.uint8) for _ in range(30)):
            found = cache.find(digests[5].tobytes(), "digests")
            assert found is not None
            np.testing.assert_array_equal(found.features, digests[5, :UNITS])
