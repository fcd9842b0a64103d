"""Decoded images, kept so that a second run starts at once.

    <cache>/sources/<name>/         downloaded files of the named sources
    <cache>/unpacked/<hash>/        unpacked archives (`opsin.data.sources.packed`)
    <cache>/objects/<hash>/         objects fetched from a store (`opsin.data.sources.stored`)
    <cache>/datasets/<hash>/        one set of decoded images: images.npy (memory-mapped),
                                    labels.npy, given.npy, digests.npy, source_digests.npy,
                                    sizes.npy, ranges.npy, about.json;
                                    of a set that is read on the fly all but images.npy, and
                                    rows.npy: which images of the source can be read
    <cache>/partial/<hash>/         a set that is not complete yet (`opsin.data.decode_checkpoint`)
    <cache>/index/<hash>.json       which set a listing of files led to, and what was unreadable
    <cache>/near/<hash>.npz         pairs of near duplicates (`opsin.data.near_duplicates`)
    <cache>/features/<hash>/        features by networks (`opsin.backbones.feature_cache`)
    <cache>/models/<rules>/         checks of classifiers (`opsin.runtime.model_check`)
    <cache>/probed/<rules>/         networks in one form (`opsin.backbones.probed_network`)
    <cache>/backbones/<hash>….json  speeds of pretrained networks (`opsin.commands.backbones`)
    <cache>/merging/                shards while they are joined (`opsin.commands.stored_shards`)

This module reads and writes ``datasets`` and ``index``; `opsin.data.cache_contents` lists and
empties all but the last, which empties itself.

Everything here can be deleted at any time; it is made again when it is needed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import mmap
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import platformdirs
from numpy.typing import NDArray

from opsin.core.artifacts.dataset_record import LeftOut
from opsin.core.metadata import Bits
from opsin.core.operating_system import only_we_write
from opsin.core.storage import publish_directory, write_json
from opsin.core.stored_json import JsonObject
from opsin.data.applied_corrections import Applied
from opsin.data.formats import NEEDS_HEIF, heif_reader
from opsin.data.lazy_images import Images

#: File in a folder of the cache that says what is in it.
ABOUT: Final = "about.json"
#: Changes whenever the same files would give other pixels, or other arrays are kept of them.
_VERSION = "6"
_BLOCK = 1 << 22
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


@dataclass(frozen=True)
class Decoded:
    """One set of decoded images.

    Args:
        images: ``uint8[N, H, W, C]``, memory-mapped, read-only, or read on the fly.
        labels: ``int64[N]``
        given: Split codes of the source, ``uint8[N]``.
        digests: SHA-256 of each image's pixels, ``uint8[N, 32]``.
        source_digests: SHA-256 of each image before it was prepared, its file's bytes or its array,
            ``uint8[N, 32]``.
        sizes: Height and width of each image, upright, as its file has them, ``int32[N, 2]``.
        ranges: The lowest and the highest value of each image, ``uint8[N, 2]``.
        names: What each image is called.
        classes: Names of the classes.
        groups: What each image shares with others, ``""`` with none; ``[]`` where there are none.
        mirrored: Whether a mirrored image is still of its class.
        unreadable: Name and reason of each file that was skipped.
        repeated: Rows of a table that named an image once more, which are left out.
        rows: Their rows in the source, before corrections, ``int64[N]``; ``None`` where these are
            nobody's concern.
        source_labels: What ``labels`` were before the user's corrections, ``int64[N]``; ``None``
            where there are none.
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


#: Makes images from the numbers of their rows in the source, and the bits that they use.
OnTheFly = Callable[[NDArray[np.int64], Bits | None], Images]


def index_key(*parts: object) -> str:
    """Return the name of an index entry for a listing and the way it is decoded."""
    return hashlib.sha256(repr((_VERSION, *parts)).encode("utf-8", "surrogateescape")).hexdigest()


def look_up(key: str, on_the_fly: OnTheFly | None = None) -> Decoded | None:
    """Return the set that an index entry names, or ``None`` where it is not (whole) there."""
    try:
        entry = json.loads((cache_root() / "index" / f"{key}.json").read_text(encoding="utf-8"))
        folder = cache_root() / "datasets" / entry["set"]
        # Its reader may have been installed since: then they are read once more.
        if any(reason == NEEDS_HEIF for _, reason in entry["unreadable"]) and heif_reader():
            return None
        found = _open_or_none(folder, entry["unreadable"], on_the_fly)
        left_out = tuple(LeftOut(**each) for each in entry.get("left_out", ()))
        return found and replace(found, left_out=left_out)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def new_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Make an ``.npy`` file of zeros whose place on the disk is taken."""
    kind = np.dtype(dtype)
    header = {"descr": kind.str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start, end = file.tell(), file.tell() + kind.itemsize * math.prod(shape)
        if not _taken(file, end):
            for place in range(start, end, _BLOCK):
                file.write(bytes(min(_BLOCK, end - place)))


def _taken(file: IO[bytes], size: int) -> bool:
    """Let the system take the place for a file; ``False`` where it cannot do that unwritten."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        raise
    return True


def copy_rows(source: Path, target: Path, rows: NDArray[np.int64]) -> None:
    """Write some rows of an ``.npy`` file, ascending, into another, block by block."""
    mapped = np.load(source, mmap_mode="r", allow_pickle=False)
    shape, dtype, offset = mapped.shape, mapped.dtype, mapped.offset
    del mapped
    new_array(target, dtype.type, (len(rows), *shape[1:]))
    size = dtype.itemsize * math.prod(shape[1:])
    keep = np.zeros(shape[0], bool)
    keep[rows] = True
    step = max(1, _BLOCK // size)
    with source.open("rb") as old, target.open("r+b") as new:
        old.seek(offset)
        new.seek(new.seek(0, os.SEEK_END) - size * len(rows))
        for start in range(0, shape[0], step):
            wanted = keep[start : start + step]
            block = np.frombuffer(old.read(size * len(wanted)), np.uint8).reshape(-1, size)
            new.write(np.ascontiguousarray(block[wanted]).data)


def read_rows(images: Images, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read some images in the order in which they lie on the disk, neighbours in one go."""
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


def keep(
    key: str,
    folder: Path,
    about: JsonObject,
    unreadable: list[tuple[str, str]],
    source: str,
    *,
    left_out: Sequence[LeftOut] = (),
) -> None:
    """Take a folder, its arrays complete, into the cache and enter it in the index."""
    write_json(folder / ABOUT, about)
    content = hashlib.sha256()
    for file in (
        *("labels.npy", "given.npy", "digests.npy", "source_digests.npy", "sizes.npy"),
        *("rows.npy", ABOUT),
    ):
        if (folder / file).exists():
            content.update((folder / file).read_bytes())
    name = content.hexdigest()[:32]
    target = cache_root() / "datasets" / name
    # Their rows tell sets without images from others; to open them, any images will do.
    fly = (lambda rows, _: rows) if (folder / "rows.npy").exists() else None
    if target.is_dir() and _open_or_none(target, [], fly) is None:
        shutil.rmtree(target)  # damaged since it was made
    publish_directory(folder, target)
    write_json(
        cache_root() / "index" / f"{key}.json",
        {
            "set": name,
            "unreadable": unreadable,
            "source": source,
            "left_out": [each.model_dump() for each in left_out],
        },
    )


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


def _open_or_none(
    folder: Path,
    unreadable: list[list[str]],
    on_the_fly: OnTheFly | None,
) -> Decoded | None:
    try:
        decoded = _open(folder, unreadable, on_the_fly)
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
        return None
    parts = (
        *(decoded.labels, decoded.given, decoded.digests, decoded.source_digests),
        *(decoded.sizes, decoded.ranges),
    )
    whole = len(decoded.names) == len(decoded.images) and all(
        len(part) == len(decoded.images) for part in parts
    )
    return decoded if whole else None


def _open(
    folder: Path,
    unreadable: list[list[str]],
    on_the_fly: OnTheFly | None,
) -> Decoded:
    def load(name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(folder / name, allow_pickle=False)
        return array

    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if not {"names", "classes", "groups", "mirrored", "repeated", "bits", "depths"} <= set(about):
        raise ValueError("about.json lacks some of its parts")
    images: Images
    if on_the_fly:
        images = on_the_fly(load("rows.npy"), about["bits"])
    else:
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    return Decoded(
        images=images,
        labels=load("labels.npy"),
        given=load("given.npy"),
        digests=load("digests.npy"),
        source_digests=load("source_digests.npy"),
        sizes=load("sizes.npy"),
        ranges=load("ranges.npy"),
        names=about["names"],
        classes=about["classes"],
        groups=about["groups"],
        mirrored=about["mirrored"],
        unreadable=[(name, reason) for name, reason in unreadable],
        bits=about["bits"],
        depths={int(depth): count for depth, count in about["depths"].items()},
        repeated=about["repeated"],
    )
