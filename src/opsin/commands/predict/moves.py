"""What is done with each image that is sorted: a row of the answers file, before it is done."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opsin.commands.predict.answers_file import as_bytes, damaged
from opsin.commands.predict.placing import Placement
from opsin.core.files import is_plain_name

# File systems keep times to two seconds or better.
_CLOCK: Final = 2_000_000_000
_SOME: Final = 256


@dataclass(frozen=True)
class Move:
    """What is done with one image.

    Args:
        image: What it is called.
        source: Where it lies; ``None`` for a member of an archive.
        folder: The folder of its answer, below the sorted one.
        name: What it is called there.
        by: How; ``write`` for a member of an archive.
        size: Bytes.
        mtime_ns: When it was last written, in nanoseconds.
        identity: What distinguishes the file from all others of this machine.
        done: Whether it was done for certain.
        id: Its row.
    """

    image: str
    source: str | None
    folder: str
    name: str
    by: str
    size: int
    mtime_ns: int
    identity: str = ""
    done: bool = False
    id: int = 0

    @property
    def target(self) -> str:
        """Where it goes, below the sorted folder."""
        return f"{self.folder}/{self.name}"

    def looks_done(self, target: Placement) -> bool:
        """Whether what lies at the target is this image."""
        try:
            there = target.stat()
        except OSError:
            return False
        if not stat.S_ISREG(there.st_mode):
            return False
        if self.by == "move" and identity_of(there) == self.identity:
            return True
        return self.is_like(there)  # as a copy is, and what moved across file systems

    def is_like(self, found: os.stat_result) -> bool:
        """Whether a file has the size and time of the image as it was."""
        return abs(found.st_mtime_ns - self.mtime_ns) <= _CLOCK and found.st_size == self.size


def identity_of(found: os.stat_result) -> str:
    """What distinguishes a file from all others of this machine."""
    return f"{found.st_dev} {found.st_ino}"


def insert_move(db: sqlite3.Connection, move: Move) -> None:
    """Keep what is going to be done."""
    source = None if move.source is None else as_bytes(move.source)
    values = (as_bytes(move.image), source, as_bytes(move.target), move.by, move.size,
              move.mtime_ns, move.identity)  # fmt: skip
    db.execute(
        "INSERT INTO moves (image, source, target, by, size, mtime_ns, identity, done) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
        values,
    )


def read_moves(db: sqlite3.Connection, path: Path, *, undone: bool = False) -> Iterator[Move]:
    """Yield the moves, or only those not done for certain; a row may be deleted meanwhile."""
    query = (
        "SELECT image, source, target, by, size, mtime_ns, identity, done, id FROM moves "
        "WHERE id > ? AND (done = 0 OR ?) ORDER BY id LIMIT ?"
    )
    last = -(1 << 63)
    while rows := db.execute(query, (last, not undone, _SOME)).fetchall():
        last = rows[-1][-1]
        for row in rows:
            try:
                yield _checked(row)
            except (ValueError, TypeError, AttributeError) as error:
                raise damaged(path) from error


def _checked(row: tuple[Any, ...]) -> Move:
    image, source, target, by, size, mtime_ns, identity, done, number = row
    folder, name = _text(target).split("/")
    move = Move(
        _text(image), None if source is None else _text(source), folder, name, by, size, mtime_ns,
        identity, bool(done), number,
    )  # fmt: skip
    sound = (
        is_plain_name(folder)
        and is_plain_name(name)
        and all(type(number) is int for number in (size, mtime_ns, done))
        and isinstance(identity, str)
        and by in {"copy", "move", "write"}
        and (move.source is None if by == "write" else _is_whole_path(move.source))
    )
    if not sound:
        raise ValueError("no row of a sorting")
    return move


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")


def _is_whole_path(source: str | None) -> bool:
    return (
        source is not None
        and os.path.isabs(source)  # noqa: PTH117
        and all(name == ".." or is_plain_name(name) for name in Path(source).parts[1:])
    )
