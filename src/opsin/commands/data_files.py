"""A dataset in one .npz file, or as Parquet in the form of Hugging Face's data sets."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.predict.rows import load_pyarrow
from opsin.commands.source_images import PARTS, SourceImages, parts_of
from opsin.core.events import Watcher
from opsin.core.storage import atomic_file, publish_directory, scratch_directory
from opsin.data.dataset import Dataset

#: Bytes of pixels per block.
_BLOCK: Final = 1 << 22
# Bytes of images per row group of Parquet, and per file.
_GROUP: Final = 16 << 20
_FILE: Final = 500 << 20
# Names of the parts in Hugging Face's library.
_CALLED: Final = {"train": "train", "val": "validation", "test": "test"}


def write_npz(dataset: Dataset, target: Path, watcher: Watcher) -> None:
    """Write ``images``, ``labels``, ``classes`` and the test part, if any."""
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
    """Return blocks of images, which may exceed the memory, and their number."""
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
    # Without a time, so that the same images give the same file.
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = archive.compression
    with archive.open(info, "w", force_zip64=True) as stream:
        for number, block in enumerate(blocks):
            if number == 0:
                shape = block.shape if count is None else (count, *block.shape[1:])
                header = {"descr": block.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
            stream.write(np.ascontiguousarray(block).tobytes())


def write_parquet(dataset: Dataset, target: Path, watcher: Watcher) -> None:
    """Write one file with all parts and a column ``split``."""
    writer = _PartWriter(dataset, watcher)
    with atomic_file(target) as temporary:
        writer.write(temporary, range(len(dataset)))
    watcher.end()


def write_parquet_parts(dataset: Dataset, target: Path, watcher: Watcher) -> None:
    """Write ``data/<part>-00000-of-00002.parquet``, which Hugging Face's library reads."""
    writer = _PartWriter(dataset, watcher, with_split=False)
    with scratch_directory(target.parent) as scratch:
        (scratch / "data").mkdir()
        for part in PARTS:
            rows = dataset.split.rows(part).tolist()
            files = writer.pieces(rows, _FILE)
            for number, piece in enumerate(files):
                name = f"{_CALLED[part]}-{number:05}-of-{len(files):05}.parquet"
                writer.write(scratch / "data" / name, piece)
        publish_directory(scratch, target)
    watcher.end()


class _PartWriter:
    def __init__(self, dataset: Dataset, watcher: Watcher, *, with_split: bool = True) -> None:
        self._dataset = dataset
        self._images = SourceImages.of(dataset)
        self._watcher = watcher
        self._parts = parts_of(dataset) if with_split else None
        self._done = 0
        watcher.begin("Export", len(dataset), "images")

    def pieces(self, rows: Sequence[int], size: int) -> list[Sequence[int]]:
        bytes_each = max(1, self._dataset.images.nbytes // max(1, len(self._dataset)))
        step = max(1, size // bytes_each)
        return [rows[start : start + step] for start in range(0, len(rows), step)]

    def write(self, file: Path, rows: Sequence[int]) -> None:
        arrow, parquet = load_pyarrow()
        schema = self._schema(arrow)
        with parquet.ParquetWriter(file, schema) as writer:
            for group in self.pieces(rows, _GROUP):
                writer.write_batch(arrow.record_batch(self._columns(group), schema))
                self._done += len(group)
                self._watcher.advance(self._done)

    def _columns(self, rows: Sequence[int]) -> dict[str, list[object]]:
        dataset = self._dataset
        columns: dict[str, list[object]] = {
            "image": [
                {"bytes": self._images.content(row), "path": self._images.name(row)} for row in rows
            ],
            "label": [int(dataset.labels[row]) for row in rows],
        }
        if self._parts is not None:
            columns["split"] = [self._parts[row] for row in rows]
        if any(dataset.groups):
            columns["group"] = [dataset.groups[row] for row in rows]
        return columns

    def _schema(self, arrow: Any) -> Any:
        """Return the schema with the features that Hugging Face's library expects."""
        image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
        fields: list[tuple[str, object]] = [("image", image), ("label", arrow.int64())]
        features: dict[str, object] = {
            "image": {"_type": "Image"},
            "label": {"names": list(self._dataset.classes), "_type": "ClassLabel"},
        }
        texts = ["split"] * (self._parts is not None) + ["group"] * any(self._dataset.groups)
        for name in texts:
            fields.append((name, arrow.string()))
            features[name] = {"dtype": "string", "_type": "Value"}
        about = json.dumps({"info": {"features": features}})
        return arrow.schema(fields, metadata={"huggingface": about})
