"""A heap is read once: what is new, changed, copied, broken or gone."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.backbones.backbone import Backbone, open_backbone
from opsin.data.sources import open_stream
from opsin.labelling.heap import Heap, read_heap


class Counted(opsin.Watcher):
    read = 0

    def begin(self, what: str, total: int, unit: str) -> None:
        self.read += total if what == "Photographs" else 0


@pytest.fixture(scope="module")
def network() -> Backbone:
    return open_backbone("efficientnet-lite0", offline=True)


@pytest.fixture
def folder(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(pictures, tmp_path / "heap"))


def read(folder: Path, network: Backbone) -> tuple[Heap, int]:
    watcher = Counted()
    return read_heap(open_stream(folder), network, watcher=watcher), watcher.read


def test_only_what_changed_is_read_again(folder: Path, network: Backbone) -> None:
    heap, count = read(folder, network)
    assert (len(heap), count) == (31, 32)
    assert np.allclose(np.linalg.norm(heap.points, axis=1), 1, atol=0.01)
    assert [name for name, _ in heap.unreadable] == ["broken.png"]
    copies = heap.names.index("dots-0.png"), heap.names.index("sub/copy.png")
    assert len({int(heap.first[row]) for row in copies}) == 1
    assert len(heap.random_rows) == 30
    again, count = read(folder, network)
    assert count == 1  # the broken one
    assert np.array_equal(again.digests, heap.digests)
    (folder / "lines-1.png").unlink()
    shutil.copy(folder / "plain-2.png", folder / "dots-3.png")
    os.utime(folder / "dots-3.png", ns=(1, 1))
    later, count = read(folder, network)
    assert (len(later), count) == (30, 2)
    assert len(later.random_rows) == 28
    # The random order of those that stay is the same.
    stays = [heap.digests[row].tobytes() for row in heap.random_rows]
    now = [later.digests[row].tobytes() for row in later.random_rows]
    assert now == [digest for digest in stays if digest in now]


def test_broken_files_are_left_out_with_reasons(folder: Path, network: Backbone) -> None:
    whole = (folder / "plain-2.png").read_bytes()
    kinds = [b"", b"no picture", whole[:20], whole[: len(whole) // 2], os.urandom(3000)]
    for number in range(60):
        (folder / f"bad-{number}.png").write_bytes(kinds[number % len(kinds)])
    heap, _ = read(folder, network)
    assert (len(heap), len(heap.unreadable)) == (31, 61)
    assert all(name not in reason for name, reason in heap.unreadable)
    assert read(folder, network)[1] == 61  # those may be mended meanwhile


def test_a_heap_without_photographs_says_so(folder: Path, network: Backbone) -> None:
    for file in folder.rglob("*.png"):
        if file.name != "broken.png":
            file.unlink()
    with pytest.raises(opsin.SourceError, match="can be read"):
        read(folder, network)


def test_points_are_kept_and_made_again_when_damaged(folder: Path, network: Backbone) -> None:
    first, _ = read(folder, network)
    assert isinstance(first.points, np.memmap)
    (kept,) = (folder.parent / "cache" / "heaps").glob("*/points.npy")
    whole = np.array(first.points)
    for damage in (b"", kept.read_bytes()[:-4], b"no array"):
        kept.write_bytes(damage)
        again, _ = read(folder, network)
        assert np.array_equal(again.points, whole)
    (folder / "dots-0.png").unlink()
    fewer, _ = read(folder, network)
    assert len(fewer.points) == 30
