"""Where sorted images are, and where they came from.

What is done with each image is a row of the answers file before it is done. Such a file may have
been downloaded, and then it says whatever its maker wrote. So the folders that images were taken
from are kept in the user's own state as well, and images go back, or are called copies of what is
there, nowhere else.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from opsin.commands.predict.answers_file import as_bytes, damaged
from opsin.core.files import ConfinedDir, is_plain_name, state_root

# Whether an open file's times can be set by its number; on Windows by its name only.
_BY_NUMBER: Final = os.utime in os.supports_fd
# File systems keep times to two seconds or better.
_CLOCK: Final = 2_000_000_000
_BATCH: Final = 256
_TABLE: Final = """CREATE TABLE IF NOT EXISTS origins
    (sorting TEXT NOT NULL, folder BLOB NOT NULL, PRIMARY KEY (sorting, folder))"""


class Placement(NamedTuple):
    """Where a file is, or is going to be: an open folder, and a name in it."""

    folder: ConfinedDir
    name: str

    @property
    def is_free(self) -> bool:
        """Whether nothing has the name."""
        return not self.folder.has(self.name)

    def stat(self) -> os.stat_result:
        """What is there, itself: of a link, not of what it leads to."""
        return self.folder.stat(self.name)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the name."""
        try:
            self.folder.unlink(self.name)
        except FileNotFoundError:
            if not missing_ok:
                raise


def copy_file(
    source: BinaryIO, target: Placement, scratch: Placement, mtime_ns: int | None = None
) -> None:
    """Copy a content to a name that must be free, with its file's time and rights or a time."""

    def stamp(file: int | Path) -> None:
        if mtime_ns is None and isinstance(file, int):
            # The numbers of open files will do, though their types do not say so.
            shutil.copystat(source.fileno(), file)  # type: ignore[arg-type]
            return
        time = os.fstat(source.fileno()).st_mtime_ns if mtime_ns is None else mtime_ns
        os.utime(file, ns=(time, time))

    # Killed after the name was given, the scratch file is the target: never write into it.
    scratch.unlink(missing_ok=True)
    try:
        with scratch.folder.open(scratch.name, "xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
            # By its time the file is known for what it is, so it never has its name without.
            if _BY_NUMBER:
                with suppress(OSError):  # some file systems keep no times
                    stamp(file.fileno())
        if not _BY_NUMBER:
            stamp(scratch.folder.path / scratch.name)
        try:
            scratch.folder.link(scratch.name, *target)
        except FileExistsError:
            raise
        except OSError:
            _rename_new(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def move_file(source: Placement, target: Placement, scratch: Placement) -> None:
    """Give a file a name that must be free; meanwhile it has both names, and never none."""
    try:
        # A rename would replace what is there, a second name never does.
        source.folder.link(source.name, *target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            with source.folder.open(source.name) as content:
                copy_file(content, target, scratch)
        elif error.errno in (errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        else:  # a file system, or a rule of the system, without second names
            _rename_new(source, target)
            return
    source.unlink()


def _rename_new(source: Placement, target: Placement) -> None:
    """Rename where there are no second names; no other process may write there meanwhile."""
    if not target.is_free:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target.name)
    source.folder.rename(source.name, *target)


def identity_of(status: os.stat_result) -> str:
    """What distinguishes a file from all others of this machine."""
    return f"{status.st_dev} {status.st_ino}"


@dataclass(frozen=True)
class Move:
    """What is done with one image; members of archives have no source, and are written."""

    image: str
    source: str | None
    folder: str  # of its answer, below the sorted one
    name: str  # there
    by: str
    size: int
    mtime_ns: int
    identity: str = ""
    done: bool = False  # for certain
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
        # A copy, and what moved across file systems, is known by its size and time.
        return (self.by == "move" and identity_of(there) == self.identity) or self.is_like(there)

    def is_like(self, status: os.stat_result) -> bool:
        """Whether a file has the size and time of the image as it was."""
        return abs(status.st_mtime_ns - self.mtime_ns) <= _CLOCK and status.st_size == self.size

    @contextmanager
    def places(
        self, folder: ConfinedDir, origins: Origins, *, make: bool = False
    ) -> Iterator[tuple[Placement | None, Placement | None]]:
        """Yield what was sorted, and where it came from, as far as these are there.

        ``make`` the folder that it came from where it is gone.
        """
        with ExitStack() as stack:
            target = source = None
            with suppress(FileNotFoundError):
                target = Placement(stack.enter_context(folder.folder(self.folder)), self.name)
                target = None if target.is_free else target
            if self.source is not None and origins.holds(self.source):
                parent, name = os.path.split(self.source)
                with suppress(FileNotFoundError if make else OSError):
                    if make and target is not None:
                        Path(parent).mkdir(parents=True, exist_ok=True)
                    source = Placement(stack.enter_context(ConfinedDir(Path(parent))), name)
            yield target, source

    def insert(self, db: sqlite3.Connection) -> None:
        """Keep what is going to be done."""
        source = None if self.source is None else as_bytes(self.source)
        db.execute(
            "INSERT INTO moves (image, source, target, by, size, mtime_ns, identity, done) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            (as_bytes(self.image), source, as_bytes(self.target), self.by, self.size,
             self.mtime_ns, self.identity),
        )  # fmt: skip

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Move:
        """Read a row; `ValueError`, `TypeError` or `AttributeError` where it is none of ours."""
        names: list[Any] = [
            None if value is None else value.decode("utf-8", "surrogatepass") for value in row[:3]
        ]
        image, source, target = names
        by, size, mtime_ns, identity, done, number = row[3:]
        folder, name = target.split("/")
        if by == "write":
            is_sound = source is None
        else:
            parts = Path(source).parts[1:]
            is_sound = Path(source).is_absolute() and all(
                part == ".." or is_plain_name(part) for part in parts
            )
        if not (
            is_sound
            and isinstance(image, str)
            and is_plain_name(folder)
            and is_plain_name(name)
            and all(type(value) is int for value in (size, mtime_ns, done))
            and isinstance(identity, str)
            and by in ("copy", "move", "write")
        ):
            raise ValueError("no row of a sorting")
        return cls(image, source, folder, name, by, size, mtime_ns, identity, bool(done), number)


def read_moves(db: sqlite3.Connection, path: Path, *, undone: bool = False) -> Iterator[Move]:
    """Yield the moves, or only those not done for certain; a row may be deleted meanwhile."""
    query = (
        "SELECT image, source, target, by, size, mtime_ns, identity, done, id FROM moves "
        "WHERE id > ? AND (done = 0 OR ?) ORDER BY id LIMIT ?"
    )
    last = -(1 << 63)
    while rows := db.execute(query, (last, not undone, _BATCH)).fetchall():
        last = rows[-1][-1]
        for row in rows:
            try:
                yield Move.of_row(row)
            except (ValueError, TypeError, AttributeError) as error:
                raise damaged(path) from error


class Origins:
    """The folders from which one sorting took images, as this account knows them."""

    def __init__(self, key: str) -> None:
        self.path = state_root() / "sortings.sqlite"
        self._key = key
        self._folders: set[str] = set()
        if self.path.exists():
            with suppress(sqlite3.Error), self._opened() as db:
                query = "SELECT folder FROM origins WHERE sorting = ?"
                self._folders.update(os.fsdecode(folder) for (folder,) in db.execute(query, (key,)))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(_TABLE)
            yield db

    def add(self, sources: Iterable[str]) -> None:
        """Keep the folders of these images, before anything is done with them."""
        new = {os.path.dirname(source) for source in sources} - self._folders  # noqa: PTH120
        if not new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as db:
            rows = ((self._key, os.fsencode(folder)) for folder in new)
            db.executemany("INSERT OR IGNORE INTO origins VALUES (?, ?)", rows)
        self._folders |= new

    def holds(self, source: str) -> bool:
        """Whether an image was taken from there."""
        parent, name = os.path.split(source)
        return parent in self._folders and name not in {"", ".", ".."}

    def forget(self) -> None:
        """Remove what is known of a sorting that was taken back."""
        if self.path.exists():
            with suppress(sqlite3.Error), self._opened() as db:
                db.execute("DELETE FROM origins WHERE sorting = ?", (self._key,))
