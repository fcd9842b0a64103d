"""Opsin's cache: where it lies, and how images and their digests are kept in it.

    <cache>/sources/<name>/         downloaded files of the named sources
    <cache>/unpacked/<hash>/        unpacked archives (`opsin.data.sources.packed`)
    <cache>/objects/<hash>/         objects fetched from a store (`opsin.data.sources.stored`)
    <cache>/decoded/<key>/          decoded images of a listing (`opsin.data.decoded_store`)
    <cache>/near/<hash>.npz         pairs of near duplicates (`opsin.data.near_duplicates`)
    <cache>/features/<hash>/        features by networks (`opsin.backbones.features`)
    <cache>/models/<rules>/         checks of classifiers (`opsin.runtime.model_check`)
    <cache>/probed/<rules>/         networks in one form (`opsin.backbones.probe`)
    <cache>/backbones/<hash>….json  speeds of pretrained networks (`opsin.commands.backbones`)

Everything here can be deleted at any time; it is made again when it is needed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import math
import mmap
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import platformdirs
from numpy.typing import NDArray

from opsin.core.artifacts.records import LeftOut
from opsin.core.metadata import Bits
from opsin.core.platform import only_we_write
from opsin.data.applied_corrections import Applied
from opsin.data.lazy_images import Images, ImageSubset

#: File in a folder of the cache that says what is in it.
ABOUT: Final = "about.json"
# Changes whenever the same files would give other pixels, or other arrays are kept of them.
_VERSION: Final = "7"
_BLOCK: Final = 1 << 22
# Images that nobody wants are read with those around them if they are this few.
_BETWEEN: Final = 8


def cache_root() -> Path:
    """Return the cache's folder: ``$OPSIN_CACHE``, or the system's usual place."""
    own = os.environ.get("OPSIN_CACHE")
    return Path(os.path.expanduser(own)) if own else platformdirs.user_cache_path("opsin")  # noqa: PTH111  never raises


def is_own(place: Path) -> bool:
    """Tell whether only this account can have written a file: caches may be in shared folders."""
    return all(only_we_write(part.lstat()) for part in (place, place.parent))


def make_own(place: Path) -> None:
    """Let no other account write a file that `is_own` is to believe."""
    for part in (place, place.parent):
        part.chmod(stat.S_IMODE(part.stat().st_mode) & ~0o022)


def index_key(*parts: object) -> str:
    """Return the key of a listing and the way in which it is decoded."""
    return hashlib.sha256(repr((_VERSION, *parts)).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Decoded:
    """Decoded images of a source.

    Args:
        images: ``uint8[N, H, W, C]``, memory-mapped, read-only, or read on the fly.
        labels: ``int64[N]``
        given: Split codes of the source, ``uint8[N]``.
        digests: SHA-256 of each image's pixels, ``uint8[N, 32]``.
        source_digests: SHA-256 of its file's bytes or its array, ``uint8[N, 32]``.
        sizes: Height and width of each image, upright, as its file has them, ``int32[N, 2]``.
        ranges: The lowest and the highest value of each image, ``uint8[N, 2]``.
        names: What each image is called.
        classes: Names of the classes.
        groups: What each image shares with others, ``""`` with none; or empty.
        mirrored: Whether a mirrored image is still of its class.
        unreadable: Name and reason of each file that was skipped.
        repeated: Rows of a table that named an image once more, which are left out.
        rows: Their rows in the source, before corrections, ``int64[N]``.
        source_labels: What ``labels`` were before the user's corrections, ``int64[N]``.
        corrected: What these corrections have done.
        left_out: What the source holds beside them.
        bits: Bits that numbers of more than a byte were taken to use; ``None``: there are none.
        depths: Number of images by the bits that they use themselves, those of bytes left out.
    """

    images: Images
    labels: NDArray[np.int64]
    given: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    source_digests: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    ranges: NDArray[np.uint8]
    names: list[str]
    classes: list[str]
    groups: list[str]
    mirrored: bool
    unreadable: list[tuple[str, str]]
    repeated: int = 0
    rows: NDArray[np.int64] | None = None
    source_labels: NDArray[np.int64] | None = None
    corrected: Applied | None = None
    left_out: tuple[LeftOut, ...] = ()
    bits: Bits | None = None
    depths: dict[int, int] = field(default_factory=dict)

    def take(self, rows: NDArray[np.int64]) -> Decoded:
        """Return some of the images, in the order of ``rows``, with all that is known of each."""
        return replace(
            self,
            images=ImageSubset(self.images, rows),
            labels=self.labels[rows],
            given=self.given[rows],
            digests=self.digests[rows],
            source_digests=self.source_digests[rows],
            sizes=self.sizes[rows],
            ranges=self.ranges[rows],
            rows=None if self.rows is None else self.rows[rows],
            source_labels=None if self.source_labels is None else self.source_labels[rows],
            names=[self.names[row] for row in rows],
            groups=[self.groups[row] for row in rows] if self.groups else [],
        )


def new_array(path: Path, dtype: type[np.generic] | np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Make an ``.npy`` file of zeros whose place on the disk is taken."""
    kind = np.dtype(dtype)
    descr = np.lib.format.dtype_to_descr(kind)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start, end = file.tell(), file.tell() + kind.itemsize * math.prod(shape)
        try:
            os.posix_fallocate(file.fileno(), 0, end)
        except (OSError, AttributeError) as error:
            cannot = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
            if isinstance(error, OSError) and error.errno not in cannot:
                raise
            for place in range(start, end, _BLOCK):
                file.write(bytes(min(_BLOCK, end - place)))


def read_rows(images: Images, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read some images, in any order, neighbours on the disk in one go."""
    while isinstance(images, ImageSubset):
        rows = images.rows[rows]
        images = images.images
    found = np.empty((len(rows), *images.shape[1:]), np.uint8)
    ascending = np.argsort(rows)
    step = max(1, _BLOCK // max(1, math.prod(images.shape[1:])))
    with contextlib.ExitStack() as stack:
        take: Callable[[NDArray[np.int64]], NDArray[np.uint8]] = images.__getitem__
        base: object = getattr(images, "base", None)
        # A part of a map has the whole one's place in the file, and a base that is no map.
        if isinstance(images, np.memmap) and isinstance(base, mmap.mmap):
            file = stack.enter_context(Path(str(images.filename)).open("rb"))
            take = functools.partial(_neighbours, file, images.offset, images.shape[1:])
        for start in range(0, len(rows), step):
            places = ascending[start : start + step]
            found[places] = take(rows[places])
    return found


def _neighbours(
    file: IO[bytes], offset: int, shape: tuple[int, ...], rows: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Read images, ascending, from an ``.npy`` file; a few that are in between are read as well."""
    size, runs = math.prod(shape), []
    for run in np.split(rows, np.flatnonzero(np.diff(rows) > _BETWEEN) + 1):
        first, last = int(run[0]), int(run[-1])
        file.seek(offset + first * size)
        block = np.frombuffer(file.read((last - first + 1) * size), np.uint8)
        runs.append(block.reshape(-1, *shape)[run - first])
    return np.concatenate(runs)


def short_digest(digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the first half of digests: enough to tell images apart, in half the space."""
    return digests[..., :16]


def digest_names(digests: NDArray[np.uint8]) -> list[str]:
    """Return the first half of each digest as text, as tables hold it."""
    return [half.tobytes().hex() for half in short_digest(digests)]


def as_keys(digests: NDArray[np.uint8]) -> NDArray[np.void]:
    """Return each digest as one value that can be compared, sorted and made unique, ``[N]``."""
    return np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel()


def digest_rows(images: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8]:
    """Return the SHA-256 of each image's shape and pixels: ``uint8[N, 32]``."""
    digests = np.empty((len(images), 32), np.uint8)
    shape = hashlib.sha256(repr(images.shape[1:]).encode())
    for row, image in enumerate(images):
        whole = shape.copy()
        whole.update(np.ascontiguousarray(image).data)
        digests[row] = np.frombuffer(whole.digest(), np.uint8)
    return digests
