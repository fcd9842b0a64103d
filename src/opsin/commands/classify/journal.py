"""Which images are done, whatever ended the work.

The journal (``.results.jsonl.journal``) lies beside the results: a line of JSON that says how the
work was begun, then a record of 24 bytes an image: digest of its name, where its row ends, its
answer, and a checksum over the record and the row. Records are written before their rows. So what
is in the results has a record, and what the process was killed over is a record without its row,
which is cut off when the work goes on. Every few seconds both are brought to the disk, records
first too; only what came after can be torn by a power cut, and the checksums find it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import stat
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from opsin.commands.classify.stamps import UNKNOWN, Stamps, last_rows
from opsin.core.closed_folder import ClosedFolder
from opsin.core.errors import RecipeError, StorageError
from opsin.core.regular_file import open_regular
from opsin.core.storage import atomic_file, storage_errors, write_bytes
from opsin.data.digest_set import DigestSet

_FORMAT: Final = 1
_HEAD: Final = struct.Struct("<QQI")
_CHECK: Final = struct.Struct("<I")
_SIZE: Final = _HEAD.size + _CHECK.size
_RECORDS: Final = np.dtype([("image", "<u8"), ("end", "<u8"), ("answer", "<u4"), ("check", "<u4")])
# Stands where the work ended well: all before it reached the disk.
_CLOSED: Final = 0xFFFF_FFFF
_LEFT_OUT: Final = 1 << 31
# A power cut loses at most this much.
_SYNC_ROWS: Final = 10_000
_SYNC_SECONDS: Final = 5.0
# Records whose rows are read again when the work goes on: more than can be torn.
_DOUBTFUL: Final = 2 * _SYNC_ROWS
_BLOCK: Final = 1 << 16
_KEY_BYTES: Final = 16
# Bytes of the first line, which holds names of places and options.
_LONGEST_HEAD: Final = 16 << 20


class JournalEntry(NamedTuple):
    """An image that is done.

    Args:
        name: What it is called.
        answer: A number for its answer, which the caller chooses, below 2**31 - 1.
        row: Its row in the results; empty where it is left out of them.
        stamp: Distinguishes it from another image of its name.
    """

    name: str
    answer: int
    row: bytes
    stamp: int = UNKNOWN


class Journal:
    r"""Rows and the record of what is done, held by this process alone.

    Args:
        out: The results that the user named; the journal lies beside them.
        rows: The file that rows are added to: ``out`` itself, or a hidden one beside it.
        begun: What rows depend on, under names that the user understands; with other values the
            work cannot go on.
        heading: What the rows' file begins with.
        version: Opsin's; another one may go on.
        answers: How many answers there may be; a higher number is damage.
        stamps: Keep what images were, so that one which is replaced is new.

    Raises:
        RecipeError: ``out`` was not made by such a work, or with other values, or was changed
            since; or another process is at it.
        StorageError: The disk refuses a write.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "results.jsonl"
        >>> with Journal(out, out, {"model": "m"}) as journal:
        ...     if journal.claim("boot.png"):
        ...         journal.append([JournalEntry("boot.png", 0, b"{}\n")])
        >>> with Journal(out, out, {"model": "m"}) as journal:
        ...     journal.resumed, journal.holds("boot.png"), journal.holds("bag.png")
        (1, True, False)
    """

    def __init__(
        self, out: Path, rows: Path, begun: Mapping[str, object], *,
        heading: bytes = b"", version: str = "", answers: int = _LEFT_OUT - 1,
        stamps: bool = False,
    ) -> None:  # fmt: skip
        self.out, self.rows = out, rows
        self.path = out.with_name(f".{out.name}.journal")
        #: The version that began the work.
        self.version = version
        #: How many images have each answer, those left out of the results included.
        self.answers: Counter[int] = Counter()
        #: Likewise, without those.
        self.kept: Counter[int] = Counter()
        self.resumed, self._digests = 0, DigestSet()
        # Of what was done before: each name's digest and stamp in one number.
        self._versions = DigestSet()
        self._stamps: Stamps | None = None
        # Names that have an older row as well.
        self._again: set[int] = set()
        self._heading = len(heading)
        self._unsynced, self._synced = 0, time.monotonic()
        self._files: list[BinaryIO] = []
        self._failed = self._closed = False
        with storage_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = ClosedFolder(out.parent)
        self._kinds = answers
        self._lock_file = out.with_name(f".{out.name}.lock")
        self._lock = FileLock(self._lock_file)
        try:
            with storage_errors(out):
                self._hold()
                self._open(dict(begun), heading)
                self._go_on(stamps=stamps)
        except BaseException:
            self.close(whole=False)
            raise

    def _hold(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RecipeError(
                "results that no other process writes to",
                f"another one is writing to {self.out}",
                "Wait until it is done, or give another file.",
            ) from None

    def _open(self, begun: dict[str, object], heading: bytes) -> None:
        """Begin, or find what is done and cut off what is not whole."""
        there = [path for path in (self.out, self.rows) if os.path.lexists(path)]
        for path in (*there, *([self.path] if os.path.lexists(self.path) else [])):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise RecipeError(
                    "results in a file of their own, with its journal beside it",
                    f"{path} is a link, or no regular file",
                    "Give another file, or take that one away.",
                )
        if there and not os.path.lexists(self.path):
            raise RecipeError(
                "results that are new, or were begun by this command",
                f"{there[0]} is there, and {self.path.name}, which says what is done, is not",
                "Give another file, or move that one away; Opsin overwrites nothing.",
            )
        if not self._begun(begun, heading):
            if self.rows != self.out and self.out in there:
                raise self._changed(f"{self.rows.name} is gone")
            self.key = os.urandom(_KEY_BYTES)
            head = {"opsin": self.version, "format": _FORMAT, "key": self.key.hex(), "begun": begun}
            # Rows without a journal would be refused, so the journal comes first.
            write_bytes(self.path, json.dumps(head).encode() + b"\n")
            write_bytes(self.rows, heading)
        with self._read(self.path) as file:
            self._check_head(file.readline(_LONGEST_HEAD), begun)
        self._settle_tidying()

    def _go_on(self, *, stamps: bool) -> None:
        """Cut off what is not whole, learn what is done, and open the files to add to them."""
        with self._read(self.path) as file:
            file.readline(_LONGEST_HEAD)
            self._begin = file.tell()
        self._count, self._end = self._sound(self._heading)
        for path, size in ((self.path, self._begin + self._count * _SIZE), (self.rows, self._end)):
            with self._folder.open(path.name, "rb+") as file:
                file.truncate(size)
        if stamps:
            self._stamps = Stamps(self._folder, f".{self.out.name}.stamps", self._count)
        self._learn()
        self.resumed = len(self._digests)
        for path in (self.rows, self.path):
            self._files.append(self._folder.open(path.name, "ab"))

    def _read(self, path: Path) -> BinaryIO:
        return self._folder.open(path.name)

    def _begun(self, begun: dict[str, object], heading: bytes) -> bool:
        """Return whether to go on: where no image is done, other options may begin anew."""
        if not os.path.lexists(self.path) or not os.path.lexists(self.rows):
            return False
        with self._read(self.path) as file:
            line = file.readline(_LONGEST_HEAD)
            if file.read(1) or self.rows.stat().st_size > len(heading):
                return True
        try:
            self._check_head(line, begun)
        except RecipeError:
            return False
        return True

    def _check_head(self, line: bytes, begun: dict[str, object]) -> None:
        """Compare how the work was begun with what is wanted now."""
        try:
            head = json.loads(line)
            then, known, self.version = head["begun"], head["format"] == _FORMAT, head["opsin"]
            self.key, self._tidied, self._head = _key_of(head), head.get("tidied", 0), head
            texts = isinstance(then, dict) and isinstance(self.version, str)
            if not texts or type(self._tidied) is not int or not 0 <= self._tidied < 1 << 31:
                raise TypeError("no head of a journal")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._changed(f"{self.path.name} is damaged") from error
        if not known:
            raise self._changed(f"{self.path.name} was written by another version of Opsin")
        other = [
            f"{name} was {_shown(then.get(name))} and is {_shown(value)}"
            for name, value in begun.items()
            if then.get(name) != value
        ]
        if other:
            raise RecipeError(
                f"the model, source and options that {self.out} was begun with",
                "; ".join(other),
                "Give another file, or the same again.",
            )

    def _changed(self, what: str) -> RecipeError:
        return RecipeError(
            f"{self.out} as this command left it",
            f"{what}, so it is unknown which images are done",
            f"Give another file, or move it and {self.path.name} away.",
        )

    def _sound(self, heading: int) -> tuple[int, int]:
        """Return how many records can be gone on from, and where the last one's row ends.

        Rows before the last ones were brought to the disk; those are compared with the checksums.
        """
        total = (self.path.stat().st_size - self._begin) // _SIZE
        first = max(0, total - _DOUBTFUL)
        size = self.rows.stat().st_size
        with self._read(self.path) as records, self._read(self.rows) as rows:
            place = heading
            if first:
                records.seek(self._begin + (first - 1) * _SIZE)
                place = _HEAD.unpack(records.read(_SIZE)[: _HEAD.size])[1]
            records.seek(self._begin + first * _SIZE)
            window = records.read((total - first) * _SIZE)
            if place > size:
                raise self._changed(f"{self.rows.name} was changed since")
            rows.seek(place)
            good, short, answer = first, False, 0
            for record in (window[at : at + _SIZE] for at in range(0, len(window), _SIZE)):
                _, end, kind = _HEAD.unpack(record[: _HEAD.size])
                short = end > size
                if short or end < place or record != _record(record, _blocks(rows, end - place)):
                    break
                good, place, answer = good + 1, end, kind
        lost = np.frombuffer(window[(good - first) * _SIZE :], _RECORDS)
        closed = bool((lost["answer"] == _CLOSED).any())
        # Nothing that was brought to the disk, as the heading was, gets lost by itself.
        if size < heading or (len(lost) and (closed or (good == first and (first or not short)))):
            raise self._changed(f"{self.rows.name} was changed since")
        if not len(lost) and size > place:
            raise self._changed(f"something else was added to {self.rows.name}")
        self._closed = answer == _CLOSED
        return good, place

    def _learn(self) -> None:
        """Read the records into the digests and the counts."""
        done = 0
        stamps = self._stamps.blocks(_BLOCK) if self._stamps else itertools.repeat(None)
        with self._read(self.path) as file:
            file.seek(self._begin)
            while block := file.read(_BLOCK * _SIZE):
                records, stamp = np.frombuffer(block, _RECORDS), next(stamps)
                open_ones = records["answer"] != _CLOSED
                records = records[open_ones]
                done += len(records)
                self._digests.extend(records["image"])
                if stamp is not None:
                    self._versions.extend(records["image"] ^ stamp[open_ones])
                values, counts = np.unique(records["answer"], return_counts=True)
                for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                    if value & ~_LEFT_OUT >= self._kinds:
                        raise self._changed(f"{self.path.name} is damaged")
                    self._add(value, count)
        self._digests.sort()
        self._versions.sort()
        if done > len(self._digests):  # killed before older rows were taken out
            self._again = self._doubled()

    def _doubled(self) -> set[int]:
        with self._read(self.path) as file:
            file.seek(self._begin)
            records = np.frombuffer(file.read(self._count * _SIZE), _RECORDS)
        images = records["image"][records["answer"] != _CLOSED]
        values, counts = np.unique(images, return_counts=True)
        return set(values[counts > 1].tolist())

    def _add(self, answer: int, count: int) -> None:
        self.answers[answer & ~_LEFT_OUT] += count
        if not answer & _LEFT_OUT:
            self.kept[answer] += count

    @property
    def images(self) -> int:
        """How many images are done."""
        return self.answers.total()

    @property
    def tidied(self) -> int:
        """How often older rows were taken out of the results."""
        return int(self._tidied)

    @property
    def records(self) -> int:
        """How many records there are; it only ever grows."""
        return self._count

    def digest(self, name: str) -> int:
        """Return the digest that a name is known by.

        It is keyed by a number of the journal's own, so that no name can be chosen which
        is taken for another. Among a million names the chance that two share one is 3e-8, among a
        hundred million 3e-4.
        """
        content = name.encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=self.key).digest(), "big")

    def holds(self, name: str) -> bool:
        """Return whether an image was done before, or claimed since."""
        return self.digest(name) in self._digests

    def claim(self, name: str, *, unique: bool = False, stamp: int = UNKNOWN) -> bool:
        """Claim an image, and return whether it is new: neither done nor claimed before.

        Args:
            name: The image's.
            unique: No other image of this work has that name, so it need not be remembered.
            stamp: Distinguishes it from another image of its name (`stamp_of`).
        """
        digest = self.digest(name)
        if digest not in self._digests:
            if not unique:
                self._digests.add(digest)
                self._versions.add(digest ^ stamp)
            return True
        if self._stamps is None or stamp == UNKNOWN:
            return False
        if digest in self._versions or digest ^ stamp in self._versions:
            return False
        self._versions.add(digest ^ stamp)
        self._again.add(digest)
        return True

    @property
    def replaced(self) -> int:
        """How many images were answered again, because others had come in their places."""
        return len(self._again)

    def append(self, entries: Sequence[JournalEntry]) -> None:
        """Keep images that are done; each was claimed before.

        Raises:
            StorageError: The disk is full or refuses the write; what was there before is safe.
        """
        records, rows = bytearray(), bytearray()
        end = self._end
        for entry in entries:
            end += len(entry.row)
            answer = entry.answer | (0 if entry.row else _LEFT_OUT)
            head = _HEAD.pack(self.digest(entry.name), end, answer)
            records += _record(head, [entry.row])
            rows += entry.row
        if self._stamps is not None:  # first: what is too much is cut off, what is missing is not
            with storage_errors(self.out):
                self._stamps.append(entry.stamp for entry in entries)
        self._write(records, rows)
        self._end = end
        self._count += len(entries)
        self._unsynced += len(entries)
        for entry in entries:
            self._add(entry.answer | (0 if entry.row else _LEFT_OUT), 1)
        waited = time.monotonic() - self._synced
        if self._unsynced >= _SYNC_ROWS or waited >= _SYNC_SECONDS:
            self.sync()

    def _write(self, records: bytes | bytearray, rows: bytes | bytearray) -> None:
        # What follows a write that was cut short could not be distinguished from it.
        if self._failed:
            raise StorageError(
                f"to write {self.rows}", "a write before it failed", "Run the same again."
            )
        self._failed, self._closed = True, False
        with storage_errors(self.rows):
            for file, content in zip(self._files[::-1], (records, rows), strict=True):
                left = memoryview(content)
                while left:
                    left = left[file.write(left) or 0 :]
        self._failed = False

    def sync(self) -> None:
        """Bring what is done to the disk.

        Raises:
            StorageError: The disk refuses it.
        """
        with storage_errors(self.rows):
            for file in self._files[::-1]:  # rows without records would look like a stranger's
                os.fsync(file.fileno())
        self._unsynced, self._synced = 0, time.monotonic()

    def tidy(self) -> None:
        """Take the older rows out of images that were answered again.

        Killed in the middle, the work finds all rows again, or only the last ones.

        Raises:
            StorageError: The disk refuses it; the rows stay as they are.
        """
        if not self._again:
            return
        self.sync()
        number = self._tidied + 1
        waiting = self._waiting(number)
        with storage_errors(self.rows):
            if self._folder.has(waiting):
                self._folder.unlink(waiting)
            with self._folder.open(waiting, "xb") as rows, atomic_file(self.path) as temporary:
                with temporary.open("wb") as records:
                    head = json.dumps(self._head | {"tidied": number})
                    records.write(head.encode() + b"\n")
                    stamps = self._write_last(records, rows)
                rows.flush()
                os.fsync(rows.fileno())
                if self._stamps is not None:
                    write_bytes(self.out.with_name(self._waiting(number, "stamps")), stamps)
            # The journal is the new one; its number says which rows and stamps belong to it.
            self._let_go()
            self._tidied, self._head = number, self._head | {"tidied": number}
            self._settle_tidying()
            self.answers.clear()
            self.kept.clear()
            before, self._again = self.resumed, set()
            self._digests, self._versions = DigestSet(), DigestSet()
            self._go_on(stamps=self._stamps is not None)
            self.resumed = before

    def _write_last(self, records: BinaryIO, rows: BinaryIO) -> bytes:
        """Write the last record of each image, and its row; return their stamps."""
        stamps = self._stamps.blocks(_BLOCK) if self._stamps else itertools.repeat(None)
        kept, number, place, end = bytearray(), -1, self._heading, self._heading
        with self._read(self.path) as old, self._read(self.rows) as old_rows:
            old.seek(self._begin)
            last = last_rows(old, frozenset(self._again), _RECORDS, _BLOCK)
            old.seek(self._begin)
            rows.write(old_rows.read(self._heading))
            while block := old.read(_BLOCK * _SIZE):
                stamp = next(stamps)
                for at in range(len(block) // _SIZE):
                    number += 1
                    image, stop, answer = _HEAD.unpack_from(block, at * _SIZE)
                    if not place <= stop <= self._end:
                        raise self._changed(f"{self.path.name} is damaged")
                    old_rows.seek(place)
                    size, place = stop - place, stop
                    if answer == _CLOSED or last.get(image, number) != number:
                        continue
                    row = old_rows.read(size)
                    end += size
                    records.write(_record(_HEAD.pack(image, end, answer), [row]))
                    rows.write(row)
                    kept += b"" if stamp is None else int(stamp[at]).to_bytes(8, "little")
        return bytes(kept)

    def _waiting(self, number: int, kind: str = "next") -> str:
        """Return the name of rows, or of stamps, that wait for their journal."""
        return f".{self.out.name}.{number}.{kind}"

    def _settle_tidying(self) -> None:
        """Bring the taking out of older rows to its end, or its beginning."""
        for kind, name in (("next", self.rows.name), ("stamps", f".{self.out.name}.stamps")):
            if self._folder.has(self._waiting(self._tidied, kind)):
                self._folder.rename(self._waiting(self._tidied, kind), self._folder, name)
            if self._folder.has(self._waiting(self._tidied + 1, kind)):
                self._folder.unlink(self._waiting(self._tidied + 1, kind))

    def _let_go(self) -> None:
        for file in self._files:
            file.close()
        self._files = []
        if self._stamps is not None:
            self._stamps.close()

    def remove(self) -> None:
        """Remove what lies beside the results, for these are finished and stay as they are.

        Raises:
            StorageError: The system refuses it.
        """
        self._let_go()
        with storage_errors(self.out):
            for path in (self.path, *({self.rows} - {self.out})):
                path.unlink(missing_ok=True)
        self._lock.release()
        self._lock_file.unlink(missing_ok=True)

    def close(self, *, whole: bool = True) -> None:
        """Close the files; ``whole`` where the work ended by itself."""
        try:
            if self._files and not self._failed:
                self.sync()
            if whole and self._files and not self._closed:
                if self._stamps is not None:
                    self._stamps.append([UNKNOWN])
                self._write(_record(_HEAD.pack(0, self._end, _CLOSED), []), b"")
                self.sync()
        finally:
            self._let_go()
            self._folder.close()
            self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(whole=kind is None)


def forget(out: Path, key: bytes) -> bool:
    """Remove results and their journal where they are as this work left them; return whether.

    Args:
        out: The results; rows of JSON.
        key: The journal's.

    Raises:
        StorageError: The system refuses it.
    """
    path = out.with_name(f".{out.name}.journal")
    try:
        with open_regular(path, follow_links=False) as file:
            head = json.loads(file.readline(_LONGEST_HEAD))
            begin, size = file.tell(), file.seek(0, os.SEEK_END)
            end, place = 0, begin + (size - begin) // _SIZE * _SIZE
            if place > begin:
                file.seek(place - _SIZE)
                end = _HEAD.unpack(file.read(_HEAD.size))[1]
        gone = not os.path.lexists(out)  # by a call that was killed
        untouched = _key_of(head) == key and (gone or out.lstat().st_size == end)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    if untouched:
        with storage_errors(out):
            out.unlink(missing_ok=True)
            out.with_name(f".{out.name}.lock").unlink(missing_ok=True)
            out.with_name(f".{out.name}.stamps").unlink(missing_ok=True)
            path.unlink()  # last: it says that the others may be removed
    return untouched


def _key_of(head: Any) -> bytes:
    """Return the number that a journal's digests are keyed by."""
    key = bytes.fromhex(head["key"])
    if len(key) != _KEY_BYTES:
        raise ValueError("no key of a journal")
    return key


def _record(head: bytes, row: Iterable[bytes]) -> bytes:
    """Return a record: its first fields, and the checksum over these and the row."""
    head = head[: _HEAD.size]
    check = zlib.crc32(head)
    for block in row:
        check = zlib.crc32(block, check)
    return head + _CHECK.pack(check)


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the next ``size`` bytes of a file in blocks: a forged journal may claim a huge row."""
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        size -= len(block)
        yield block


def _shown(value: Any) -> str:
    """Return an option's value as a user would write it."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
