"""IDX files, the format of MNIST and its relatives.

The format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
32-bit number, then the values (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opsin.data.sources.arrays import from_arrays
from opsin.data.sources.contents import Contents
from opsin.errors import SourceError

_UINT8 = 8
#: Values of the largest file that is read: bounds what a hostile header or gzip can ask for.
_MAX_VALUES = 8_000_000_000


def is_images(path: Path) -> bool:
    """Tell by its name whether a file is the images half of an IDX pair."""
    return bool(re.search(r"idx3|images.*ubyte", path.name))


def files_of(path: Path) -> list[Path]:
    """Return the IDX files of a folder; none where it holds no pair for training."""
    return sorted(path.glob("*ubyte*")) if _find(path, "train") else []


def open_folder(path: Path) -> Contents:
    """Read ``train-images…``, ``train-labels…`` and, where there, ``t10k-…`` or ``test-…``.

    Raises:
        SourceError: A file is damaged, or pictures and labels do not match.
    """
    train = _find(path, "train")
    test = _find(path, "t10k") or _find(path, "test")
    if train is None:
        raise SourceError(
            "a file train-images-idx3-ubyte[.gz]", f"{path} has none", "Check the folder."
        )
    return from_arrays(
        *_read_pair(train), source=str(path), test=_read_pair(test) if test else None
    )


def open_pair(images: Path) -> Contents:
    """Read an images file and the labels file beside it.

    Raises:
        SourceError: The labels are missing, a file is damaged, or the two do not match.
    """
    return from_arrays(*_read_pair(images), source=str(images))


def labels_of(images: Path) -> Path:
    """Find the labels file that belongs to an images file.

    Raises:
        SourceError: There is none beside it.
    """
    stem = images.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    for path in (images.with_name(stem), images.with_name(f"{stem}.gz")):
        if path.is_file() and path != images:
            return path
    raise SourceError(
        f"the labels of {images.name} beside it",
        f"there is no {stem}[.gz] in {images.parent}",
        "Put both files into one folder.",
    )


def read_content(path: Path) -> bytes:
    """Return a file's bytes, decompressed.

    Raises:
        SourceError: It is missing or damaged.
    """
    try:
        with gzip.open(path) if _is_gzip(path) else path.open("rb") as file:
            return file.read(_MAX_VALUES)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError("a readable file", f"{path}: {error}", "Fetch it again.") from error


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of bytes, plain or gzip.

    Returns:
        ``uint8`` of the shape that the file's header states.

    Raises:
        SourceError: The file is damaged or is no IDX file of bytes.
    """
    try:
        with gzip.open(path) if _is_gzip(path) else path.open("rb") as file:
            header = file.read(4)
            if header[:3] != bytes((0, 0, _UINT8)) or len(header) < 4:
                raise ValueError("it has no IDX header of bytes")
            stated = file.read(4 * header[3])
            sizes = [int.from_bytes(stated[i : i + 4], "big") for i in range(0, len(stated), 4)]
            count = math.prod(sizes)
            if len(stated) != 4 * header[3] or not 0 < count <= _MAX_VALUES:
                raise ValueError("its header states an impossible size")
            content = file.read(count + 1)
            if len(content) != count:
                raise ValueError(f"it holds another number of values than the {count:,} stated")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(
            "an IDX file of bytes, plain or gzip", f"{path}: {error}", "Fetch it again."
        ) from error
    return np.frombuffer(content, np.uint8).reshape(sizes)


def _find(folder: Path, prefix: str) -> Path | None:
    found = [path for path in sorted(folder.glob(f"{prefix}*")) if is_images(path)]
    return found[0] if found else None


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _read_pair(images: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return read_idx(images), read_idx(labels_of(images))
