"""CIFAR-10 and CIFAR-100 as they are published for any language: records of bytes in a tar.

A record is one label (CIFAR-100: the coarse one, then the fine one) and a 32×32 image in three
planes, red first (https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.data.sources.arrays import from_arrays
from opsin.data.sources.contents import LabelledImages
from opsin.data.sources.members import ArchiveBudget, Kind, members_of, read_member

_SHAPE: Final = (3, 32, 32)
#: Bytes that all files together may have: those of either collection have 185 million.
_MAX_BYTES: Final = 400_000_000
_MAX_MEMBERS: Final = 1000


@dataclass(frozen=True)
class _Layout:
    """The files of a collection, and how many labels an image has; the last is the finest."""

    train: tuple[str, ...]
    test: str
    classes: str
    labels: int

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.classes)


_LAYOUTS: Final = (
    _Layout(
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test_batch.bin",
        "batches.meta.txt",
        labels=1,
    ),
    _Layout(("train.bin",), "test.bin", "fine_label_names.txt", labels=2),
)


def open_cifar(path: Path, *, source: str) -> LabelledImages:
    """Read an archive of CIFAR's binary files.

    Args:
        path: ``cifar-10-binary.tar.gz`` or ``cifar-100-binary.tar.gz``.
        source: What to call it.

    Raises:
        SourceError: It is damaged, or holds something else.
    """
    files = _read_files(path)
    layout = next((each for each in _LAYOUTS if set(each.files) <= set(files)), None)
    if layout is None:
        raise _wrong(path, f"it holds {', '.join(sorted(files)) or 'none of its files'}")
    classes = files[layout.classes].decode("utf-8", "replace").split()
    parts = [_records(path, name, files[name], layout.labels) for name in layout.train]
    train = (
        np.concatenate([images for images, _ in parts]),
        np.concatenate([labels for _, labels in parts]),
    )
    test = _records(path, layout.test, files[layout.test], layout.labels)
    return from_arrays(*train, classes, source=source, test=test)


def _read_files(path: Path) -> dict[str, bytes]:
    """Return the files that matter by their names without folder."""
    wanted = {name for layout in _LAYOUTS for name in layout.files}
    files: dict[str, bytes] = {}
    meter = ArchiveBudget(path, bytes_left=_MAX_BYTES, members_left=_MAX_MEMBERS)
    with contextlib.closing(members_of(path, meter)) as members:
        for member in members:
            name = PurePosixPath(member.name).name
            if name not in wanted or member.kind is not Kind.FILE:
                continue
            if name in files:
                raise _wrong(path, f"it holds {name} twice")
            files[name] = read_member(member, meter, limit=_MAX_BYTES)
    return files


def _records(
    path: Path, name: str, content: bytes, labels: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return a file's images ``uint8[N, 32, 32, 3]`` and labels ``int64[N]``."""
    size = labels + math.prod(_SHAPE)
    if not content or len(content) % size:
        raise _wrong(path, f"{name} has {len(content):,} bytes, and an image takes {size:,}")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    planes = records[:, labels:].reshape(-1, *_SHAPE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, labels - 1].astype(
        np.int64
    )


def _wrong(path: Path, received: str) -> SourceError:
    return SourceError(
        "an archive of CIFAR's binary files", f"{path}: {received}", "Fetch it again."
    )
