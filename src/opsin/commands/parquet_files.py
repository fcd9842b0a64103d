"""A collection as Parquet, in the form of Hugging Face's data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from opsin.commands.source_images import PARTS, SourceImages, parts_of
from opsin.core.events import Watcher
from opsin.core.storage import atomic_file, publish_directory, scratch_directory
from opsin.data.dataset import Dataset

# Bytes of images in a group of rows, which is read at once, and in a file.
_GROUP: Final = 16 << 20
_FILE: Final = 500 << 20
# What Hugging Face's library calls the parts.
_CALLED: Final = {"train": "train", "val": "validation", "test": "test"}


def write_file(dataset: Dataset, target: Path, watcher: Watcher) -> None:
    """Write one file with all parts and a column ``split``."""
    writer = _PartWriter(dataset, watcher)
    with atomic_file(target) as temporary:
        writer.write(temporary, range(len(dataset)))
    watcher.end()


def write_parts(dataset: Dataset, target: Path, watcher: Watcher) -> None:
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
    """Writes rows of a collection, and says how far it is."""

    def __init__(self, dataset: Dataset, watcher: Watcher, *, with_split: bool = True) -> None:
        self._dataset = dataset
        self._images = SourceImages.of(dataset)
        self._watcher = watcher
        self._parts = parts_of(dataset) if with_split else None
        self._done = 0
        watcher.begin("Export", len(dataset), "images")

    def pieces(self, rows: Sequence[int], size: int) -> list[Sequence[int]]:
        """Part rows where their images come to so many bytes, by the size of pixels."""
        each = max(1, self._dataset.images.nbytes // max(1, len(self._dataset)))
        step = max(1, size // each)
        return [rows[start : start + step] for start in range(0, len(rows), step)]

    def write(self, file: Path, rows: Sequence[int]) -> None:
        """Write some rows into a new file."""
        schema = self._schema()
        with pq.ParquetWriter(file, schema) as writer:
            for group in self.pieces(rows, _GROUP):
                writer.write_batch(pa.record_batch(self._columns(group), schema))
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

    def _schema(self) -> pa.Schema:
        """Return the columns with what Hugging Face's library wants to know of them."""
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        fields: list[tuple[str, object]] = [("image", image), ("label", pa.int64())]
        features: dict[str, object] = {
            "image": {"_type": "Image"},
            "label": {"names": list(self._dataset.classes), "_type": "ClassLabel"},
        }
        texts = ["split"] * (self._parts is not None) + ["group"] * any(self._dataset.groups)
        for name in texts:
            fields.append((name, pa.string()))
            features[name] = {"dtype": "string", "_type": "Value"}
        about = json.dumps({"info": {"features": features}})
        return pa.schema(fields, metadata={"huggingface": about})
