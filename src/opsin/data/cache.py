"""Decoded pictures, kept so that a second run starts at once.

    <cache>/sources/<name>/         downloaded files of the named sources
    <cache>/datasets/<hash>/        one set of decoded pictures: images.npy (memory-mapped),
                                    labels.npy, given.npy, digests.npy, about.json
    <cache>/index/<hash>.json       which set a listing of files led to, and what was unreadable

Everything here can be deleted at any time; it is made again when it is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from opsin.storage import publish_directory, scratch_directory, write_json

#: Changes whenever the same files would give other pixels.
_VERSION = "3"
_BLOCK = 1 << 20
_ROWS = 4096


def cache_root() -> Path:
    """Return the cache's folder: ``$OPSIN_CACHE``, or the system's usual place."""
    own = os.environ.get("OPSIN_CACHE")
    return Path(os.path.expanduser(own)) if own else platformdirs.user_cache_path("opsin")  # noqa: PTH111  never raises


@dataclass(frozen=True)
class Decoded:
    """One set of decoded pictures.

    Args:
        images: ``uint8[N, H, W, C]``, memory-mapped, read-only.
        labels: ``int64[N]``
        given: Split codes of the source, ``uint8[N]``.
        digests: SHA-256 of each picture's pixels, ``uint8[N, 32]``.
        about: Names, classes, preparation and all else that is no array.
        unreadable: Name and reason of each file that was skipped.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    given: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    about: dict[str, Any]
    unreadable: list[tuple[str, str]]


def index_key(*parts: object) -> str:
    """Return the name of an index entry for a listing and the way it is decoded."""
    return hashlib.sha256(repr((_VERSION, *parts)).encode("utf-8", "surrogateescape")).hexdigest()


def look_up(key: str) -> Decoded | None:
    """Return the set that an index entry names, or ``None`` where it is not (whole) there."""
    try:
        entry = json.loads((cache_root() / "index" / f"{key}.json").read_text(encoding="utf-8"))
        return _open_or_none(cache_root() / "datasets" / entry["set"], entry["unreadable"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def scratch() -> contextlib.AbstractContextManager[Path]:
    """Return a temporary folder for a set that is being decoded."""
    return scratch_directory(cache_root() / "datasets")


def new_images(
    path: Path, shape: tuple[int, ...]
) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """Make a memory-mapped array ``uint8[shape]`` whose place on the disk is taken.

    A file with holes would do until the disk is full: then the system ends the process that
    writes into the mapping, without an error that could be told.

    Raises:
        OSError: The disk has too little space.
    """
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        file.seek(images.offset)
        for start in range(0, images.nbytes, _BLOCK):
            file.write(bytes(min(_BLOCK, images.nbytes - start)))
    return images


def keep_rows(file: Path, rows: NDArray[np.int64]) -> None:
    """Replace a file of pictures by one that holds some of its rows, block by block."""
    fewer = file.with_name("fewer.npy")
    everything = np.load(file, mmap_mode="r", allow_pickle=False)
    images = new_images(fewer, (len(rows), *everything.shape[1:]))
    for start in range(0, len(rows), _ROWS):
        images[start : start + _ROWS] = everything[rows[start : start + _ROWS]]
    images.flush()
    # Let go of both before the rename: some systems keep a mapped file in its place.
    del images, everything
    fewer.replace(file)


def short_digest(digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the first half of digests: enough to tell pictures apart, in half the space."""
    return digests[..., :16]


def digest_file(file: Path) -> NDArray[np.uint8]:
    """Return the SHA-256 of each picture in a file: ``uint8[N, 32]``."""
    return digest_rows(np.load(file, mmap_mode="r", allow_pickle=False))


def keep(key: str, folder: Path, about: dict[str, Any], unreadable: list[tuple[str, str]]) -> None:
    """Take a `scratch` folder, its arrays complete, into the cache and enter it in the index.

    Equal sets, found in different places, are kept once.
    """
    write_json(folder / "about.json", about)
    content = hashlib.sha256()
    for file in ("labels.npy", "given.npy", "digests.npy", "about.json"):
        content.update((folder / file).read_bytes())
    name = content.hexdigest()[:32]
    target = cache_root() / "datasets" / name
    if target.is_dir() and _open_or_none(target, []) is None:
        shutil.rmtree(target)  # damaged since it was made
    publish_directory(folder, target)
    write_json(cache_root() / "index" / f"{key}.json", {"set": name, "unreadable": unreadable})


def digest_rows(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the SHA-256 of each picture's shape and pixels: ``uint8[N, 32]``."""
    digests = np.empty((len(images), 32), np.uint8)
    shape = hashlib.sha256(repr(images.shape[1:]).encode())
    for row, image in enumerate(images):
        whole = shape.copy()
        whole.update(image.tobytes())
        digests[row] = np.frombuffer(whole.digest(), np.uint8)
    return digests


def _open_or_none(folder: Path, unreadable: list[list[str]]) -> Decoded | None:
    try:
        decoded = _open(folder, unreadable)
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
        return None
    parts = (decoded.labels, decoded.given, decoded.digests, decoded.about["names"])
    return decoded if all(len(part) == len(decoded.images) for part in parts) else None


def _open(folder: Path, unreadable: list[list[str]]) -> Decoded:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    if not {"names", "classes", "groups", "mirrored"} <= set(about):
        raise ValueError("about.json lacks some of its parts")
    return Decoded(
        images=np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False),
        labels=np.load(folder / "labels.npy", allow_pickle=False),
        given=np.load(folder / "given.npy", allow_pickle=False),
        digests=np.load(folder / "digests.npy", allow_pickle=False),
        about=about,
        unreadable=[(name, reason) for name, reason in unreadable],
    )
