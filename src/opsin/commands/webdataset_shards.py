"""A collection as WebDataset: tar files with each image and its class side by side."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from opsin.commands.source_images import PARTS, SourceImages
from opsin.core.events import Watcher
from opsin.core.storage import publish_directory, scratch_directory
from opsin.data.dataset import Dataset

# Images in a shard, as many as a gigabyte of photographs has.
_IMAGES: Final = 10_000


def write_shards(dataset: Dataset, target: Path, watcher: Watcher) -> None:
    """Write ``<part>-000000.tar`` …, each image as ``KEY.jpg`` with the name of its class beside.

    Raises:
        SourceError: The images' files are gone, or have changed.
        StorageError: The disk refuses a write.
    """
    images = SourceImages.of(dataset)
    watcher.begin("Export", len(dataset), "images")
    done = 0
    with scratch_directory(target.parent) as scratch:
        for part in PARTS:
            rows = dataset.split.rows(part).tolist()
            for number, start in enumerate(range(0, len(rows), _IMAGES)):
                with tarfile.open(scratch / f"{part}-{number:06}.tar", "w") as shard:
                    for row, name, content in _members(images, rows[start : start + _IMAGES]):
                        _add(shard, name, content)
                        _add(
                            shard,
                            f"{name.partition('.')[0]}.cls",
                            dataset.classes[dataset.labels[row]].encode(),
                        )
                        done += 1
                        watcher.advance(done)
        publish_directory(scratch, target)
    watcher.end()


def _members(images: SourceImages, rows: Sequence[int]) -> Iterator[tuple[int, str, bytes]]:
    """Yield each row with the name of its member, which begins with a key of its own."""
    for row in rows:
        ending = Path(images.name(row)).suffix.lower() or ".png"
        yield row, f"{row:09}{ending}", images.content(row)


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))
