"""Images with labels in one file, decoded: what the shards of evaluations and audits hold."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.commands.arrays_file import add_array
from opsin.core.storage import atomic_file
from opsin.core.stored_arrays import StoredArrays
from opsin.data.cache import Decoded
from opsin.data.lazy_images import Images

# Bytes of pixels that are held at once.
_BLOCK: Final = 1 << 22
_ARRAYS: Final = ("labels", "given", "digests", "source_digests", "sizes", "ranges")


@dataclass(frozen=True)
class LabelledRows:
    """Decoded images, and what was found out of each.

    Args:
        decoded: The images; without pixels, these are all 0.
        found: Answers or measures, ``float32[N, F]``.
        pixels: Whether the pixels are there.
    """

    decoded: Decoded
    found: NDArray[np.float32]
    pixels: bool


def write_labelled(path: Path, rows: LabelledRows) -> None:
    """Write a file of rows, whole; the same rows are the same bytes.

    Raises:
        StorageError: The disk refuses the write.
    """
    decoded = rows.decoded
    about = {
        "classes": decoded.classes,
        "mirrored": decoded.mirrored,
        "shape": list(decoded.images.shape[1:]),
        "unreadable": decoded.unreadable,
    }
    with (
        atomic_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        add_array(archive, "about", [np.array(json.dumps(about))])
        add_array(archive, "names", [_texts(decoded.names)])
        if decoded.groups:
            add_array(archive, "groups", [_texts(decoded.groups)])
        for name in _ARRAYS:
            add_array(archive, name, [getattr(decoded, name)])
        add_array(archive, "found", [rows.found])
        if rows.pixels:
            add_array(archive, "images", _in_blocks(decoded.images), len(decoded.images))


def _texts(texts: Sequence[str]) -> NDArray[np.str_]:
    return np.array(texts, f"U{max(1, *map(len, texts), 1)}")


def _in_blocks(images: Images) -> Iterator[NDArray[np.uint8]]:
    step = max(1, _BLOCK // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        yield images[start : start + step]
    if not len(images):
        yield images[:]


def join_labelled(files: Sequence[Path], scratch: Path) -> LabelledRows:
    """Read files of rows, one behind the other.

    Args:
        files: The files, of one source, in their order.
        scratch: A folder for their pixels, which may be more than the memory holds.

    Raises:
        ValueError: One of them is damaged.
        OSError: One of them cannot be read, or the disk is full.
    """
    with (scratch / "pixels").open("wb") as target:
        parts = [_read(file, target) for file in files]
    first = parts[0].decoded
    images = first.images
    count = sum(len(part.decoded.labels) for part in parts)
    if all(part.pixels for part in parts) and count:
        shape = (count, *images.shape[1:])
        images = np.memmap(scratch / "pixels", np.uint8, "r", shape=shape)
    else:
        images = no_pixels(count, images.shape[1:])
    joined = {
        name: np.concatenate([getattr(part.decoded, name) for part in parts]) for name in _ARRAYS
    }
    decoded = replace(
        first,
        images=images,
        names=[name for part in parts for name in part.decoded.names],
        groups=[group for part in parts for group in part.decoded.groups],
        unreadable=[each for part in parts for each in part.decoded.unreadable],
        **cast("dict[str, Any]", joined),
    )
    found = np.concatenate([part.found for part in parts])
    return LabelledRows(decoded, found, pixels=all(part.pixels for part in parts))


def no_pixels(count: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return images that take no memory, ``uint8[N, H, W, C]``, all 0."""
    return np.broadcast_to(np.uint8(0), (count, *shape))


def _read(file: Path, target: Any) -> LabelledRows:
    """Read a file of rows; its pixels are added to ``target``."""
    with StoredArrays(file, follow_links=False) as arrays:
        about = json.loads(str(arrays.read("about")))
        images = no_pixels(len(arrays.read("labels")), about["shape"])
        pixels = "images" in arrays
        if pixels:
            step = max(1, _BLOCK // max(1, int(np.prod(about["shape"]))))
            for block in arrays.blocks("images", step):
                target.write(block.data)
        decoded = Decoded(
            images=images,
            names=arrays.read("names").tolist(),
            groups=arrays.read("groups").tolist() if "groups" in arrays else [],
            classes=about["classes"],
            mirrored=about["mirrored"],
            unreadable=[(name, reason) for name, reason in about["unreadable"]],
            **cast("dict[str, Any]", {name: arrays.read(name) for name in _ARRAYS}),
        )
        return LabelledRows(decoded, arrays.read("found"), pixels=pixels)
