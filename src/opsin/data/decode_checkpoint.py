"""A set of images that is being decoded, safe from whatever ends the process.

    <cache>/partial/<key>/images.npy     pixels of the rows that are done, zeros elsewhere
    <cache>/partial/<key>/digests.npy    SHA-256 of their pixels
    <cache>/partial/<key>/source_digests.npy
                                         SHA-256 of what they were decoded from
    <cache>/partial/<key>/sizes.npy      height and width of their files' images
    <cache>/partial/<key>/ranges.npy     their lowest and highest values
    <cache>/partial/<key>/depths.npy     bits that their own numbers use, 0 for bytes
    <cache>/partial/<key>/done.npy       which rows those are
    <cache>/partial/<key>/reasons.jsonl  row and reason of each image that cannot be read
    <cache>/partial/<key>.lock           held by the process that is at work on it

A row is marked as done once all that is known of it is on the disk, never before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import filelock
import numpy as np
from numpy.typing import NDArray

from opsin.core.closed_folder import ClosedFolder
from opsin.core.event_log import EventLog
from opsin.core.events import Watcher
from opsin.core.storage import exclusive
from opsin.data.cache import cache_root, digest_rows, new_array

#: The arrays that go into the cache with the set.
KEPT: Final = ("images", "digests", "source_digests", "sizes", "ranges")
_REASONS: Final = "reasons.jsonl"
#: Seconds after which a set that was left unfinished is given up.
_STALE: Final = 7 * 86_400


@dataclass(frozen=True)
class Chunk:
    """Some rows in a row, decoded."""

    start: int
    images: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    source_digests: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    ranges: NDArray[np.uint8]
    depths: NDArray[np.uint8]
    reasons: dict[int, str]
    found: NDArray[np.float32] | None = None

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
        """Take decoded images, and find out the rest about them."""
        flat = images.reshape(len(images), -1)
        ranges = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1)
        digests = digest_rows(images)
        sources = digests if source_digests is None else source_digests
        deep = np.zeros(len(images), np.uint8) if depths is None else depths
        return cls(start, images, digests, sources, sizes, ranges, deep, reasons)


def folder_of(key: str) -> Path:
    """Return where the unfinished set of an index key lies."""
    return cache_root() / "partial" / key


def taken_by(key: str) -> int:
    """Return the bytes that an unfinished set's pixels have on the disk already."""
    try:
        return (folder_of(key) / "images.npy").stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def alone(key: str, watcher: Watcher) -> Iterator[None]:
    """Let one process at a time work on a set; others wait for it."""
    parent = cache_root() / "partial"
    _sweep(parent)

    def wait() -> None:
        watcher.note("another Opsin is reading the same images; waiting for it to finish")

    with exclusive(parent / f"{key}.lock", wait):
        yield


def _sweep(parent: Path) -> None:
    for lock_file in parent.glob("*.lock"):
        folder = lock_file.with_suffix("")
        with contextlib.suppress(OSError, filelock.Timeout):
            newest = max(file.stat().st_mtime for file in (lock_file, *folder.glob("*")))
            if time.time() - newest > _STALE:
                with filelock.FileLock(lock_file, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
                    lock_file.unlink()


class DecodeCheckpoint:
    """The files of an unfinished set, gone on with where they fit and made anew elsewhere."""

    def __init__(
        self,
        folder: Path,
        count: int,
        shape: tuple[int, int, int],
        *,
        stored: bool,
        found: int = 0,
    ) -> None:
        self.folder = folder
        #: Which rows are on the disk, ``bool[N]``.
        self.done: NDArray[np.bool_] = np.zeros(count, bool)
        #: Why a row cannot be read, where it cannot.
        self.reasons: dict[int, str] = {}
        self._waiting: list[Chunk] = []
        arrays: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
            "digests": (np.uint8, (count, 32)),
            "source_digests": (np.uint8, (count, 32)),
            "sizes": (np.int32, (count, 2)),
            "ranges": (np.uint8, (count, 2)),
            "depths": (np.uint8, (count,)),
            "done": (np.bool_, (count,)),
        }
        if stored:
            arrays["images"] = (np.uint8, (count, *shape))
        if found:
            arrays["found"] = (np.float32, (count, found))
        if not self._go_on(arrays):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                for name, (dtype, its_shape) in arrays.items():
                    new_array(folder / f"{name}.npy", dtype, its_shape)
                self._log_reasons([])
            except OSError:
                # The space that was taken already is not free for others any more.
                shutil.rmtree(folder, ignore_errors=True)
                raise
        self._files = {name: _Rows(folder / f"{name}.npy") for name in arrays}

    def _go_on(self, arrays: dict[str, tuple[type[np.generic], tuple[int, ...]]]) -> bool:
        """Take over what an earlier process has left, where all of it is there and fits."""
        try:
            for name, (dtype, shape) in arrays.items():
                found = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                if found.dtype != dtype or found.shape != shape:
                    return False
            done = np.load(self.folder / "done.npy", allow_pickle=False)
            with ClosedFolder(self.folder) as folder:
                folder.stat(_REASONS)  # it must be there
                reasons = dict(EventLog(folder, _REASONS).read())
        except (OSError, ValueError, TypeError, EOFError):
            return False
        self.done = done
        self.reasons = {row: reason for row, reason in reasons.items() if done[row]}
        return True

    def pending(self, step: int) -> list[range]:
        """Return the rows that are left to do, in pieces of at most ``step``."""
        places = range(0, len(self.done), step)
        pieces = [range(start, min(start + step, len(self.done))) for start in places]
        return [piece for piece in pieces if not self.done[piece.start : piece.stop].all()]

    def put(self, chunk: Chunk) -> None:
        """Take what was decoded; it counts as done after the next `save`."""
        for name in (*KEPT, "depths", "found"):
            if name in self._files:
                self._files[name].write(chunk.start, getattr(chunk, name))
        self.reasons |= chunk.reasons
        self._waiting.append(chunk)

    def save(self) -> None:
        """Bring all to the disk, and only then mark it as done."""
        if not self._waiting:
            return
        self._log_reasons([pair for chunk in self._waiting for pair in chunk.reasons.items()])
        for name, rows in self._files.items():
            if name != "done":
                rows.sync()
        for chunk in self._waiting:
            self.done[chunk.start : chunk.start + len(chunk.images)] = True
        self._files["done"].write(0, self.done)
        self._files["done"].sync()
        self._waiting.clear()

    def _log_reasons(self, reasons: list[tuple[int, str]]) -> None:
        with ClosedFolder(self.folder) as folder:
            EventLog(folder, _REASONS).append(*reasons)

    def close(self) -> None:
        """Let go of the files: some systems rename none that is open."""
        for rows in self._files.values():
            rows.close()


class _Rows:
    """An ``.npy`` file that rows are written into."""

    def __init__(self, path: Path) -> None:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        self._offset = array.offset
        self._row = array.nbytes // len(array)
        del array
        self._file: BinaryIO = path.open("r+b")

    def write(self, start: int, rows: NDArray[Any]) -> None:
        self._file.seek(self._offset + start * self._row)
        self._file.write(np.ascontiguousarray(rows).data)

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
