"""The decoded images of one listing on the disk, complete or not.

    <cache>/decoded/<key>/images-<bits>.npy  pixels of the rows that are done, zeros elsewhere
    <cache>/decoded/<key>/rows-<bits>.npy    facts about each row, and whether it is done
    <cache>/decoded/<key>/about.json         names, classes …: written last, so all is there
    <cache>/decoded/<key>.lock               held by the process that is at work on it

A row is marked as done once its pixels are on the disk, never before. Unreadable images never are,
and are tried again where the work was interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import LeftOut
from opsin.core.metadata import Bits
from opsin.core.storage import write_json
from opsin.data.cache import ABOUT, new_array
from opsin.data.decoded import Decoded, take
from opsin.data.formats import NEEDS_HEIF, heif_reader
from opsin.data.sources.contents import LabelledImages

#: Facts about one image.
ROW: Final = np.dtype(
    [
        ("done", np.bool_),
        ("depth", np.uint8),
        ("range", np.uint8, (2,)),
        ("size", np.int32, (2,)),
        ("digest", np.uint8, (32,)),
        ("source_digest", np.uint8, (32,)),
    ]
)


class Chunk(NamedTuple):
    """Consecutive decoded images: first row, pixels, facts, and why some cannot be read."""

    start: int
    images: NDArray[np.uint8]
    rows: NDArray[np.void]
    reasons: dict[int, str]


class DecodedStore:
    """A set that is being decoded; an earlier process's rows are reused if they fit."""

    def __init__(self, folder: Path, count: int, shape: tuple[int, int, int], bits: Bits) -> None:
        self.folder, self.count, self.shape, self.bits = folder, count, shape, bits
        #: Why images cannot be read, by their rows.
        self.reasons: dict[int, str] = {}
        self._unsaved: list[Chunk] = []
        arrays = {"rows": (ROW, (count,)), "images": (np.dtype(np.uint8), (count, *shape))}
        files = {name: folder / f"{name}-{bits}.npy" for name in arrays}
        try:
            if not all(_holds(files[name], *wanted) for name, wanted in arrays.items()):
                raise ValueError("arrays of another shape")
            self.rows = np.load(files["rows"], allow_pickle=False)
        except (OSError, ValueError, EOFError):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                for name, wanted in arrays.items():
                    new_array(files[name], *wanted)
            except OSError:
                # Free the space that was allocated already.
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self.rows = np.zeros(count, ROW)
        self._files = {name: file.open("r+b") for name, file in files.items()}

    def pending(self, step: int) -> list[range]:
        """Return the missing rows, in pieces of at most ``step``."""
        left = np.flatnonzero(~self.rows["done"])
        return [
            range(start, min(start + step, int(run[-1]) + 1))
            for run in np.split(left, np.flatnonzero(np.diff(left) > 1) + 1)
            if len(run)
            for start in range(int(run[0]), int(run[-1]) + 1, step)
        ]

    def put(self, chunk: Chunk) -> None:
        """Add a chunk; it counts as done after the next `save`."""
        self._write("images", chunk.start, chunk.images)
        self._unsaved.append(chunk)

    def save(self) -> None:
        """Write all pixels to the disk, and only then mark their rows as done."""
        if self._unsaved:
            self._sync("images")
            for chunk in self._unsaved:
                self.rows[chunk.start : chunk.start + len(chunk.rows)] = chunk.rows
                self._write("rows", chunk.start, chunk.rows)
                self.reasons |= chunk.reasons
            self._sync("rows")
            self._unsaved.clear()

    def _write(self, name: str, start: int, rows: NDArray[np.generic]) -> None:
        file = self._files[name]
        # A file's end is where its last row ends, whatever its header takes.
        file.seek((start - self.count) * (rows.nbytes // len(rows)), os.SEEK_END)
        file.write(rows.tobytes())

    def _sync(self, name: str) -> None:
        self._files[name].flush()
        os.fsync(self._files[name].fileno())

    def close(self) -> None:
        """Close the files: some systems cannot remove an open one."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()

    def complete(self, contents: LabelledImages) -> None:
        """Describe the set once all rows are done, so that `look_up` finds it."""
        depths, counts = np.unique(self.rows["depth"], return_counts=True)
        np.save(self.folder / "labels.npy", contents.labels, allow_pickle=False)
        np.save(self.folder / "given.npy", contents.source_parts, allow_pickle=False)
        about = {
            "assumed": self.bits,
            "depths": {str(d): int(n) for d, n in zip(depths, counts, strict=True) if d},
            "classes": list(contents.classes),
            "names": list(contents.names),
            "groups": list(contents.groups),
            "mirrored": contents.mirrored,
            "repeated": contents.repeated,
            "unreadable": [
                (str(contents.names[row]), reason) for row, reason in sorted(self.reasons.items())
            ],
            "left_out": [entry.model_dump() for entry in contents.left_out],
        }
        write_json(self.folder / ABOUT, about)


def _holds(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    # In its own function, so that the map is closed before the file is rewritten.
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    whole = array.offset + array.nbytes == file.stat().st_size
    return bool(whole and array.dtype == dtype and array.shape == shape)


def read_set(folder: Path) -> Decoded | None:
    """Return the images of a folder; ``None``, or an error, if any is missing."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    # A HEIC reader may have been installed since.
    if any(reason == NEEDS_HEIF for _, reason in about["unreadable"]) and heif_reader():
        return None
    bits: Bits = about["assumed"]
    names = (f"rows-{bits}", "labels", "given")
    rows, labels, source_parts = (np.load(folder / f"{n}.npy", allow_pickle=False) for n in names)
    images = np.load(folder / f"images-{bits}.npy", mmap_mode="r", allow_pickle=False)
    lengths = {len(array) for array in (images, rows, labels, source_parts, about["names"])}
    if rows.dtype != ROW or len(lengths) > 1:
        return None
    decoded = Decoded(
        images=images,
        classes=tuple(about["classes"]),
        labels=labels,
        source_parts=source_parts,
        digests=np.ascontiguousarray(rows["digest"]),
        source_digests=np.ascontiguousarray(rows["source_digest"]),
        sizes=np.ascontiguousarray(rows["size"]),
        ranges=np.ascontiguousarray(rows["range"]),
        names=about["names"],
        groups=about["groups"],
        mirrored=about["mirrored"],
        rows=np.arange(len(rows)),
        unreadable=[(name, reason) for name, reason in about["unreadable"]],
        repeated=about["repeated"],
        left_out=tuple(LeftOut(**entry) for entry in about["left_out"]),
        bits=bits if about["depths"] else None,
        depths={int(depth): count for depth, count in about["depths"].items()},
    )
    good = np.flatnonzero(rows["done"])
    whole = len(good) == len(rows)
    return decoded if whole else replace(take(decoded, good), rows=np.arange(len(good)))
