"""A heap whose classes are known: three clouds of directions, or small pictures of three kinds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.core.arrays import Floats, Ints
from opsin.labelling.heap import Heap

KINDS = ("dots", "lines", "plain")


def clouds(count: int = 300, spread: float = 0.35, seed: int = 0) -> tuple[Floats, Ints]:
    """Directions ``float32[N, 32]`` about three centres, and their classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    points = random.normal(0, spread, (count, 32))
    points[:, :3] += np.eye(3)[labels] * 2
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32), labels.astype(np.int64)


def heap_of(points: Floats) -> Heap:
    digests = np.zeros((len(points), 32), np.uint8)
    digests[:, :4] = np.arange(len(points), dtype=">u4").view(np.uint8).reshape(-1, 4)
    names = [str(row) for row in range(len(points))]
    return Heap("clouds", names, names, digests, points)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures in one folder, ten of each kind, with a copy and a broken file."""
    folder = tmp_path_factory.mktemp("heap")
    random = np.random.default_rng(0)
    for number in range(30):
        kind = KINDS[number % 3]
        pixels = np.full((48, 48, 3), 255, np.uint8)
        pixels[..., :] = random.integers(150, 255, 3)
        if kind == "dots":
            pixels[random.integers(0, 48, 200), random.integers(0, 48, 200)] = 0
        elif kind == "lines":
            pixels[:: int(random.integers(4, 9))] = 0
        Image.fromarray(pixels).save(folder / f"{kind}-{number}.png")
    (folder / "sub").mkdir()
    (folder / "sub" / "copy.png").write_bytes((folder / "dots-0.png").read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    return folder
