"""A collection's prepared pixels in one .npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.events import Watcher
from opsin.core.storage import atomic_file
from opsin.data.dataset import Dataset

#: Bytes of pixels that are held at once.
_BLOCK: Final = 1 << 22


def write_npz(dataset: Dataset, target: Path, watcher: Watcher) -> None:
    """Write ``images``, ``labels``, ``classes`` and, where there is a test part, that as well."""
    split = dataset.split
    train = np.sort(np.concatenate([split.train, split.val]))
    if len(split.val):
        watcher.note(
            f"{len(split.val):,} validation images go with those for training, since an .npz "
            "file has no place for them; a folder keeps them apart"
        )
    watcher.begin("Export", len(dataset), "images")
    with (
        atomic_file(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        add_array(archive, "labels", [dataset.labels[train]])
        add_array(archive, "classes", [np.array(dataset.classes)])
        add_array(archive, "images", *_in_blocks(dataset, train, watcher.advance))
        if len(split.test):
            add_array(archive, "test_labels", [dataset.labels[split.test]])

            def advance(done: int) -> None:
                watcher.advance(len(train) + done)

            add_array(archive, "test_images", *_in_blocks(dataset, split.test, advance))
    watcher.end()


def _in_blocks(
    dataset: Dataset, rows: NDArray[np.int64], advance: Callable[[int], None]
) -> tuple[Iterator[NDArray[Any]], int]:
    """Yield images a few at a time, since all may be larger than the memory; and their number."""
    step = max(1, _BLOCK // max(1, dataset.images.nbytes // len(dataset)))

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(rows), step):
            yield dataset.images[rows[start : start + step]]
            advance(min(start + step, len(rows)))

    return blocks(), len(rows)


def add_array(
    archive: zipfile.ZipFile,
    name: str,
    blocks: Iterator[NDArray[Any]] | list[NDArray[Any]],
    count: int | None = None,
) -> None:
    """Add an array that comes in blocks."""
    # Without the time, so that the same images give the same file.
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = archive.compression
    with archive.open(info, "w", force_zip64=True) as stream:
        for number, block in enumerate(blocks):
            if number == 0:
                shape = block.shape if count is None else (count, *block.shape[1:])
                header = {"descr": block.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
            stream.write(np.ascontiguousarray(block).tobytes())
