"""SQLite files of Opsin's own, which may come from a stranger.

Nothing is opened that makes SQLite access other files (a rollback journal, links), the schema must
match exactly, and nothing in it is ever executed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import OpsinError
from opsin.core.storage import atomic_file, storage_errors

# Bytes of the longest value, and where a file says that it has a write-ahead log.
_LONGEST: Final = 32 << 20
_WAL: Final = slice(18, 20)
_FULL: Final = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}
_NO_ROOM: Final = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
_REFUSED: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, *_FULL)
# Seconds that a change waits for another process's.
_PATIENCE: Final = 20.0

#: Makes the error for a damaged file, of its path and the reason if there is a special one.
Damaged = Callable[..., OpsinError]


def write_database(
    path: Path,
    tables: Mapping[str, str],
    application: int,
    rows: Sequence[tuple[str, tuple[Any, ...]]] = (),
) -> None:
    """Create a file with these tables and rows atomically."""
    with atomic_file(path) as temporary:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as db:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA application_id = {application}")
            for table in tables.values():
                db.execute(table)
            for statement, values in rows:
                db.execute(statement, values)
        for left in ("-wal", "-shm"):
            beside(temporary, left).unlink(missing_ok=True)


def open_database(
    path: Path,
    tables: Mapping[str, str],
    application: int,
    *,
    damaged: Damaged,
    writable: bool = True,
    shared: bool = False,
) -> sqlite3.Connection:
    """Open a file that has exactly these tables; refuse any other.

    One that is not to be written is read as it lies there, without its write-ahead log. One that
    is not shared is locked by this process.
    """
    for name in (path, *(beside(path, ending) for ending in ("-wal", "-shm", "-journal"))):
        if not os.path.lexists(name):
            continue
        info = name.lstat()
        if name.name.endswith("-journal") or not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
            raise damaged(path, f"{name} is a link, or not of this command")
    with path.open("rb") as file:
        if file.read(_WAL.stop)[_WAL] != b"\2\2":
            raise damaged(path)
    with ExitStack() as stack:
        try:
            db = stack.enter_context(closing(_connect(path, "immutable=1")))
            if writable:  # killed in a checkpoint, the file is shorter than it says
                db.execute("PRAGMA writable_schema = ON")  # the log has the rest
            _check_tables(db, path, tables, application, damaged)
            if writable:
                db.close()
                db = stack.enter_context(closing(_connect(path, "mode=rw")))
                if not shared:
                    # Alone, SQLite needs no shared memory, which network disks lack.
                    db.execute("PRAGMA locking_mode = EXCLUSIVE")
                # The log may say otherwise.
                _check_tables(db, path, tables, application, damaged)
                db.execute("PRAGMA synchronous = FULL")
        except (sqlite3.Error, ValueError, TypeError, RecursionError) as error:
            if isinstance(error, sqlite3.OperationalError) and _code(error) in _REFUSED:
                raise
            raise damaged(path) from error
        stack.pop_all()
    return db


def _connect(path: Path, how: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_PATIENCE,
    )
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    return db


def _check_tables(
    db: sqlite3.Connection,
    path: Path,
    tables: Mapping[str, str],
    application: int,
    damaged: Damaged,
) -> None:
    """Refuse any table, index, view or trigger but ours."""
    (found,) = db.execute("PRAGMA application_id").fetchone()
    ours = {("table", name, sql) for name, sql in tables.items()}
    theirs = {
        row
        for row in db.execute("SELECT type, name, sql FROM sqlite_master").fetchmany(99)
        if not (row[0] == "index" and row[2] is None and row[1].startswith("sqlite_autoindex_"))
    }
    if found != application or theirs != ours:
        raise damaged(path)


@contextmanager
def database_errors(path: Path, shown: Path, damaged: Damaged) -> Iterator[None]:
    """Turn errors of SQLite into errors for the user."""
    try:
        yield
    except sqlite3.Error as error:
        if (code := _code(error)) in _REFUSED:
            number = _FULL.get(code, errno.EIO)
            reason = os.strerror(number)
            if error.sqlite_errorcode in _NO_ROOM:
                reason = "the disk refuses it, or a quota is reached"
            with storage_errors(shown):
                raise OSError(number, reason) from error
        raise damaged(path) from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def beside(path: Path, ending: str) -> Path:
    """The file that SQLite keeps beside another."""
    return path.with_name(path.name + ending)
