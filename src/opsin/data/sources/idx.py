"""IDX files, the format of MNIST and its relatives.

The format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
32-bit number, then the values (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.files import open_regular
from opsin.core.stored_arrays import Budget
from opsin.data.sources.arrays import check_count, from_arrays
from opsin.data.sources.contents import LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow

_UINT8 = 8
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
# What gzip can make of a byte at most.
_DEFLATE = 1032


def is_images(path: Path) -> bool:
    """Tell by its name whether a file is the images half of an IDX pair."""
    return bool(re.search(r"idx3|images.*ubyte", path.name))


def labels_of(images: Path) -> Path:
    """Find the labels file that belongs to an images file, beside it."""
    stem = images.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    for path in (images.with_name(stem), images.with_name(f"{stem}.gz")):
        if path.is_file() and path != images:
            return path
    raise SourceError(
        f"the labels of {images.name} beside it",
        f"there is no {stem}[.gz] in {images.parent}",
        "Put both files into one folder.",
    )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file's content, decompressed where it is a gzip."""
    with open_regular(path) as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=file) as plain:
                yield plain
        else:
            yield cast(io.BufferedIOBase, file)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of bytes, plain or gzip, in the shape that its header states."""
    try:
        with opened(path) as file:
            header = file.read(4)
            if header[:3] != bytes((0, 0, _UINT8)) or len(header) < 4:
                raise ValueError("it has no IDX header of bytes")
            stated = file.read(4 * header[3])
            sizes = [int.from_bytes(stated[i : i + 4], "big") for i in range(0, len(stated), 4)]
            count = math.prod(sizes)
            size = path.stat().st_size
            if not sizes or len(stated) != 4 * header[3] or not 0 < count <= _DEFLATE * size:
                raise ValueError("its header states an impossible size")
            check_count(path, sizes[0])
            Budget(size).take(count)
            values, place = np.empty(count, np.uint8), 0
            while (chunk := file.read(_CHUNK)) and place + len(chunk) <= count:
                values[place : place + len(chunk)] = np.frombuffer(chunk, np.uint8)
                place += len(chunk)
            if chunk or place < count:
                raise ValueError(f"it holds another number of values than the {count:,} stated")
            return values.reshape(sizes)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(
            "an IDX file of bytes, plain or gzip", f"{path}: {error}", "Fetch it again."
        ) from error


def _find(folder: Path, prefix: str) -> Path | None:
    return next(filter(is_images, sorted(folder.glob(f"{prefix}*"))), None)


def _matches(request: SourceRequest) -> bool:
    if request.is_folder:
        return _find(request.path, "train") is not None
    return request.is_file and is_images(request.path)


def _locate(request: SourceRequest) -> LocatedSource:
    path, test = request.path, None
    images, files = path, [path]
    if request.is_folder:
        images = _find(path, "train") or path
        test = _find(path, "t10k") or _find(path, "test")
        files = sorted(path.glob("*ubyte*"))
    else:
        files.append(labels_of(path))

    def read() -> LabelledImages:
        return from_arrays(
            read_idx(images),
            read_idx(labels_of(images)),
            source=str(path),
            test=(read_idx(test), read_idx(labels_of(test))) if test else None,
        )

    return LocatedSource(key_of_files(*files), read)


KIND = SourceKind(
    title="an IDX file of images",
    rows=(
        SourceRow(
            "IDX files",
            "a folder with `train-images-idx3-ubyte[.gz]` and its like, or one images file",
            "as given",
        ),
    ),
    match=_matches,
    match_packed=lambda request: is_images(request.path),
    files=("*idx[13]*", "*ubyte*"),
    locate=_locate,
    rank=1,
)
