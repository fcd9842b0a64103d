"""The decoded images of one listing on the disk, complete or not.

    <cache>/decoded/<key>/images-<bits>.npy     pixels of the rows that are done, zeros elsewhere
    <cache>/decoded/<key>/rows-<bits>.npy       what is known of each row, and whether it is done
    <cache>/decoded/<key>/reasons-<bits>.jsonl  row and reason of each image that cannot be read
    <cache>/decoded/<key>/about.json            names, classes …: written last, so all is there
    <cache>/decoded/<key>.lock                  held by the process that is at work on it

Where the images are read on the fly, there are no pixels. A row is marked as done once all that is
known of it is on the disk, never before.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import filelock
import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import LeftOut
from opsin.core.events import Watcher
from opsin.core.files import ConfinedDir
from opsin.core.metadata import Bits
from opsin.core.storage import exclusive, write_json
from opsin.core.stored_json import EventLog
from opsin.data.cache import ABOUT, Decoded, cache_root, digest_rows, new_array
from opsin.data.formats import NEEDS_HEIF, heif_reader
from opsin.data.lazy_images import Images, ImageSubset
from opsin.data.sources.contents import LabelledImages

# Seconds after which a set that was left unfinished is given up.
_STALE: Final = 7 * 86_400
# What earlier versions called their sets: the folder may hold things of others as well.
_HASH: Final = re.compile(r"[0-9a-f]{32}([0-9a-f]{32})?(\.json|\.lock)?")
#: What is known of a row.
ROW: Final = np.dtype(
    [
        ("done", np.bool_),
        ("readable", np.bool_),
        ("depth", np.uint8),
        ("range", np.uint8, (2,)),
        ("size", np.int32, (2,)),
        ("digest", np.uint8, (32,)),
        ("source_digest", np.uint8, (32,)),
    ]
)

#: Makes images from the numbers of their rows in the source, and the bits that they use.
OnTheFly = Callable[[NDArray[np.int64], Bits | None], Images]


_Arrays = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


class Chunk(NamedTuple):
    """Some images in a row, decoded: the first one's row, pixels, what is known, and reasons."""

    start: int
    images: NDArray[np.uint8]
    rows: NDArray[np.void]
    reasons: dict[int, str]

    @classmethod
    def of(
        cls,
        start: int,
        images: NDArray[np.uint8],
        sizes: NDArray[np.int32],
        reasons: dict[int, str],
        source_digests: NDArray[np.uint8] | None = None,
        *,
        depths: NDArray[np.uint8] | None = None,
    ) -> Chunk:
        """Find out the rest about images; without digests they are as the source has them."""
        rows = np.zeros(len(images), ROW)
        rows["done"] = True
        rows["readable"] = [start + place not in reasons for place in range(len(images))]
        flat = images.reshape(len(images), -1)
        rows["range"] = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1)
        rows["size"] = sizes
        rows["digest"] = digest_rows(images)
        rows["source_digest"] = rows["digest"] if source_digests is None else source_digests
        rows["depth"] = 0 if depths is None else depths
        return cls(start, images, rows, reasons)


def folder_of(key: str) -> Path:
    """Return where the images of a key lie."""
    return cache_root() / "decoded" / key


@contextlib.contextmanager
def alone(key: str, watcher: Watcher) -> Iterator[None]:
    """Let one process at a time work on a set; others wait for it."""
    _sweep()

    def wait() -> None:
        watcher.note("another Opsin is reading the same images; waiting for it to finish")

    with exclusive(cache_root() / "decoded" / f"{key}.lock", wait):
        yield


def _sweep() -> None:
    """Remove sets that were left unfinished for a week, and what earlier versions have left."""
    too_old = time.time() - _STALE
    for lock in (cache_root() / "decoded").glob("*.lock"):
        folder = lock.with_suffix("")
        with contextlib.suppress(OSError, filelock.Timeout):
            newest = max(file.stat().st_mtime for file in (lock, *folder.glob("*")))
            if newest < too_old and not (folder / ABOUT).exists():
                with filelock.FileLock(lock, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
                    lock.unlink()
    for name in ("datasets", "partial", "index"):
        for place in (cache_root() / name).glob("*"):
            if _HASH.fullmatch(place.name) and not place.is_symlink():
                with contextlib.suppress(OSError):
                    if place.stat().st_mtime < too_old:
                        shutil.rmtree(place) if place.is_dir() else place.unlink()


@dataclass
class DecodedStore:
    """A set that is being decoded; what an earlier process has done is taken over where it fits."""

    folder: Path
    count: int
    shape: tuple[int, int, int]
    bits: Bits
    stored: bool = True

    def __post_init__(self) -> None:
        names: _Arrays = {"rows": (ROW, (self.count,))}
        if self.stored:
            names["images"] = (np.dtype(np.uint8), (self.count, *self.shape))
        if not self._resume(names):
            for name in ("images", "rows", "reasons"):
                for file in self.folder.glob(f"{name}-{self.bits}.*"):
                    file.unlink()
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                for name, (dtype, shape) in names.items():
                    new_array(self._file(name), dtype, shape)
                self._log([])
            except OSError:
                # The space that was taken already is not free for others any more.
                shutil.rmtree(self.folder, ignore_errors=True)
                raise
            self.rows = np.zeros(self.count, ROW)
            self.reasons: dict[int, str] = {}
        self._unsaved: list[Chunk] = []
        self._files = {name: _RowFile(self._file(name)) for name in names}

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}-{self.bits}.npy"

    def _log(self, reasons: list[tuple[int, str]]) -> None:
        with ConfinedDir(self.folder) as folder:
            EventLog(folder, f"reasons-{self.bits}.jsonl").append(*reasons)

    def _resume(self, names: _Arrays) -> bool:
        try:
            for name, (dtype, shape) in names.items():
                there = np.load(self._file(name), mmap_mode="r", allow_pickle=False)
                if there.dtype != dtype or there.shape != shape:
                    return False
            self.rows = np.load(self._file("rows"), allow_pickle=False)
            with ConfinedDir(self.folder) as folder:
                folder.stat(f"reasons-{self.bits}.jsonl")  # it must be there
                reasons = dict(EventLog(folder, f"reasons-{self.bits}.jsonl").read())
        except (OSError, ValueError, TypeError, EOFError):
            return False
        self.reasons = {row: reason for row, reason in reasons.items() if self.rows["done"][row]}
        return True

    def pending(self, step: int) -> list[range]:
        """Return the rows that are left to do, in pieces of at most ``step``."""
        starts = range(0, self.count, step)
        pieces = [range(start, min(start + step, self.count)) for start in starts]
        done = self.rows["done"]
        return [piece for piece in pieces if not done[piece.start : piece.stop].all()]

    def put(self, chunk: Chunk) -> None:
        """Take what was decoded; it counts as done after the next `save`."""
        if self.stored:
            self._files["images"].write(chunk.start, chunk.images)
        self._unsaved.append(chunk)

    def save(self) -> None:
        """Bring all to the disk, and only then mark it as done."""
        if not self._unsaved:
            return
        self._log([pair for chunk in self._unsaved for pair in chunk.reasons.items()])
        if self.stored:
            self._files["images"].sync()
        for chunk in self._unsaved:
            self.rows[chunk.start : chunk.start + len(chunk.rows)] = chunk.rows
            self._files["rows"].write(chunk.start, chunk.rows)
            self.reasons |= chunk.reasons
        self._files["rows"].sync()
        self._unsaved.clear()

    def close(self) -> None:
        """Let go of the files: some systems remove none that is open."""
        for file in self._files.values():
            file.close()


class _RowFile:
    """An ``.npy`` file that rows are written into."""

    def __init__(self, path: Path) -> None:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        self._offset, self._row = array.offset, array.nbytes // len(array)
        del array
        self._file: BinaryIO = path.open("r+b")

    def write(self, start: int, rows: NDArray[np.generic]) -> None:
        self._file.seek(self._offset + start * self._row)
        self._file.write(rows.tobytes())

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def complete(store: DecodedStore, contents: LabelledImages, resize: str) -> None:
    """Say what a set holds whose rows are all done: from now on it is found."""
    depths, counts = np.unique(store.rows["depth"], return_counts=True)
    lines = contents.lines
    at = [f" (line {lines[row]:,})" if lines is not None else "" for row in sorted(store.reasons)]
    np.save(store.folder / "labels.npy", contents.labels, allow_pickle=False)
    np.save(store.folder / "given.npy", contents.given, allow_pickle=False)
    about = {
        "source": contents.source,
        "shape": list(store.shape),
        "resize": resize,
        "assumed": store.bits,
        "depths": {str(d): int(n) for d, n in zip(depths, counts, strict=True) if d},
        "classes": list(contents.classes),
        "names": list(contents.names),
        "groups": list(contents.groups),
        "mirrored": contents.mirrored,
        "repeated": contents.repeated,
        "unreadable": [
            (str(contents.names[row]), store.reasons[row] + where)
            for row, where in zip(sorted(store.reasons), at, strict=True)
        ],
        "left_out": [each.model_dump() for each in contents.left_out],
    }
    write_json(store.folder / ABOUT, about)


def look_up(key: str, on_the_fly: OnTheFly | None = None) -> Decoded | None:
    """Return the images of a key, or ``None`` where they are not (all) there."""
    folder = folder_of(key)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        # Its reader may have been installed since: then they are read once more.
        if any(reason == NEEDS_HEIF for _, reason in about["unreadable"]) and heif_reader():
            return None
        used: Bits = about["assumed"]
        rows = np.load(folder / f"rows-{used}.npy", allow_pickle=False)
        labels, given = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("labels", "given")
        )
        if rows.dtype != ROW or not len(rows) == len(labels) == len(given) == len(about["names"]):
            return None
        good = np.flatnonzero(rows["readable"])
        bits = used if about["depths"] else None
        images: Images
        if on_the_fly:
            images = on_the_fly(good, bits)
        else:
            whole = np.load(folder / f"images-{used}.npy", mmap_mode="r", allow_pickle=False)
            images = whole if len(good) == len(rows) else ImageSubset(whole, good)
            if len(whole) != len(rows):
                return None
        rows = rows[good]
        return Decoded(
            images=images,
            labels=labels[good],
            given=given[good],
            digests=np.ascontiguousarray(rows["digest"]),
            source_digests=np.ascontiguousarray(rows["source_digest"]),
            sizes=np.ascontiguousarray(rows["size"]),
            ranges=np.ascontiguousarray(rows["range"]),
            names=[about["names"][row] for row in good],
            classes=about["classes"],
            groups=[about["groups"][row] for row in good] if about["groups"] else [],
            mirrored=about["mirrored"],
            unreadable=[(name, reason) for name, reason in about["unreadable"]],
            repeated=about["repeated"],
            left_out=tuple(LeftOut(**each) for each in about["left_out"]),
            bits=bits,
            depths={int(depth): count for depth, count in about["depths"].items()},
        )
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError):
        return None
