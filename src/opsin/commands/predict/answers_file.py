"""The SQLite file of a command's answers, and the output that is written from it.

A shard is such a file itself. It may come from a stranger, so nothing is opened that makes SQLite
access other files (a rollback journal, links), the schema must match exactly, and nothing in it is
ever executed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from filelock import FileLock, Timeout
from pydantic import Field

from opsin._version import __version__
from opsin.core.artifacts.records import Stored
from opsin.core.errors import RecipeError
from opsin.core.storage import atomic_file, storage_errors
from opsin.core.stored_json import JsonObject
from opsin.data.cache import DigestSet

_APPLICATION: Final = int.from_bytes(b"Opsn")
_TABLES: Final = {
    "about": "CREATE TABLE about (content TEXT NOT NULL)",
    "answers": "CREATE TABLE answers (id INTEGER PRIMARY KEY, image BLOB NOT NULL, "
    "answer INTEGER NOT NULL, line BLOB)",
    "moves": "CREATE TABLE moves (id INTEGER PRIMARY KEY, image BLOB NOT NULL, source BLOB, "
    "target BLOB NOT NULL, by TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, "
    "identity TEXT NOT NULL, done INTEGER NOT NULL)",
}
# Bytes of the longest value, and where a file says that it has a write-ahead log.
_LONGEST: Final = 32 << 20
_WAL: Final = slice(18, 20)
_FULL: Final = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}
_REFUSED: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, *_FULL)
#: What an answer that is not ours may raise where its row is made.
UNSOUND: Final = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


class Sorting(Stored):
    """The folder that images are sorted into."""

    folders: list[str]  # of the answers, inside it
    results: bool  # the output lies in it, under the usual name


class About(Stored):
    """Facts about the work of an answers file."""

    format: Literal[1] = 1
    opsin: str = __version__
    key: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]  # no other work is taken for this one
    begun: dict[str, Any]  # what rows depend on
    source: str | None = None
    written: int | None = None  # bytes of the output, once there was one
    next: int | None = None  # bytes of the output that is to replace it
    rows: int | None = None
    sorting: Sorting | None = None
    undone: bool = False
    sha256: str | None = None  # of a finished shard's rows

    def to_text(self) -> str:
        """Return the stored text; names that are not Unicode are escaped."""
        return json.dumps(self.model_dump())


class Answer(NamedTuple):
    """A finished image: its answer's number, and its row unless it is left out."""

    image: str
    answer: int
    line: bytes | None


#: Iterates over the rows of an output; writes them to a file.
Rows = Callable[[], Iterator[Answer]]
Write = Callable[[Path, Rows], None]


def database_beside(out: Path) -> Path:
    """Return the path of the database beside an output."""
    return out.with_name(f".{out.name}.sqlite")


class AnswersFile:
    """The answers of one command, and the output written from them; locked by this process.

    Where the output is the file itself, it is a shard.
    """

    def __init__(
        self, path: Path, out: Path, begun: JsonObject, *, kinds: int = 1 << 31,
        source: str | None = None,
    ) -> None:  # fmt: skip
        self.path, self.out, self._kinds, self._source = path, out, kinds, source
        self._digests = DigestSet()
        with storage_errors(out):
            path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.callback(hold(path, out).release)
            with self._errors():
                self.db, self.about = self._opened(begun, stack)
                self._key = bytes.fromhex(self.about.key)
                #: How many images were done before.
                self.resumed = self.counts()[0].total()
                names = self.db.execute("SELECT image FROM answers")
                self._digests.update(self._digest(name) for (name,) in names)
            self._check_output()
            self._stack = stack.pop_all()

    @property
    def is_shard(self) -> bool:
        """Whether the file itself is the output."""
        return self.out == self.path

    def _opened(self, begun: JsonObject, stack: ExitStack) -> tuple[sqlite3.Connection, About]:
        """Create the file, or resume from it."""
        there = not self.is_shard and os.path.lexists(self.out)
        if there and not stat.S_ISREG(self.out.lstat().st_mode):
            raise RecipeError(f"{self.out} is a link, or no regular file", "Give another file.")
        if os.path.lexists(self.path):
            db, about = open_database(self.path)
            stack.callback(db.close)
            query = "SELECT EXISTS (SELECT 1 FROM moves), EXISTS (SELECT 1 FROM answers)"
            moves, answers = db.execute(query).fetchone()
            # The user may have removed the output, which asks for a new one; where no image is
            # done, nothing is lost by beginning anew.
            is_removed = not there and about.written is not None
            is_empty = not answers and (
                not there or (about.begun != begun and self.out.stat().st_size == about.written)
            )
            if moves or not (is_removed or is_empty):
                other = [
                    f"{name} is another one"
                    if isinstance(value, dict | list)
                    else f"{name} was {about.begun.get(name)} and is {value}"
                    for name, value in begun.items()
                    if about.begun.get(name) != value
                ]
                if other:
                    anew = "" if there or about.sorting else f" To begin anew, remove {self.path}."
                    raise RecipeError(
                        f"{self.out} was begun otherwise: {'; '.join(other)}",
                        f"Give another file, or the same again.{anew}",
                    )
                return db, about
            db.close()
            for name in (self.path, _beside(self.path, "-wal"), self.out):
                name.unlink(missing_ok=True)
        elif there:
            raise RecipeError(
                f"{self.out} is there, and {self.path.name}, which says what is done, is not",
                "Give another file, or move that one away; Opsin overwrites nothing.",
            )
        _create(self.path, About(key=os.urandom(16).hex(), begun={**begun}, source=self._source))
        db, about = open_database(self.path)
        stack.callback(db.close)
        return db, about

    def counts(self) -> tuple[Counter[int], Counter[int]]:
        """Count the images of each answer, and those of them that are in the output."""
        answers, kept = Counter[int](), Counter[int]()
        with self._errors():
            query = "SELECT answer, line IS NOT NULL, count(*) FROM answers GROUP BY 1, 2"
            for answer, is_kept, count in self.db.execute(query):
                if type(answer) is not int or not 0 <= answer < self._kinds:
                    raise damaged(self.path)
                answers[answer] += count
                if is_kept:
                    kept[answer] += count
        return answers, kept

    def _check_output(self) -> None:
        sizes = (self.about.written, self.about.next)
        if not self.is_shard and self.out.exists() and self.out.stat().st_size not in sizes:
            raise RecipeError(
                f"{self.out} was changed since, or something else wrote it",
                "Give another file, or move that one away.",
            )

    def _digest(self, name: object) -> int:
        if not isinstance(name, bytes):
            raise damaged(self.path)
        # Keyed by a number of the file's own, so that no name can be chosen which is taken for
        # another. Among a hundred million names the chance that two share one is 3e-4.
        return int.from_bytes(hashlib.blake2b(name, digest_size=8, key=self._key).digest())

    def claim(self, name: str, *, unique: bool = False) -> bool:
        """Tell whether an image is new: neither done nor claimed; unique ones are not kept."""
        digest = self._digest(as_bytes(name))
        return digest not in self._digests if unique else self._digests.add(digest)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit the block's changes atomically."""
        with self._errors():
            try:
                self.db.execute("BEGIN IMMEDIATE")
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def append(self, answers: Iterable[Answer]) -> None:
        """Keep answers."""
        with self.transaction():
            self.insert(answers)

    def insert(self, answers: Iterable[Answer]) -> None:
        """Insert answers in the transaction."""
        rows = ((as_bytes(image), answer, line) for image, answer, line in answers)
        self.db.executemany("INSERT INTO answers (image, answer, line) VALUES (?, ?, ?)", rows)

    def note(self, **facts: object) -> None:
        """Store facts about the work."""
        self.about = self.about.model_copy(update=facts)
        with self._errors():
            self.db.execute("UPDATE about SET content = ?", (self.about.to_text(),))

    def rows(self, answer: int | None = None) -> Generator[Answer]:
        """Yield the rows of the output, or only those of an answer, in order."""
        return read_rows(self.db, self.path, answer)

    def finish(self, write: Write) -> None:
        """Write the output, unless it is complete; seal a shard."""
        rows = self.counts()[1].total()
        if self.is_shard:
            if self.about.sha256 is None:
                digest = hashlib.sha256()
                for row in self.rows():
                    digest.update(row_bytes(row))
                self.note(rows=rows, sha256=digest.hexdigest())
            return
        if self.about.rows == rows and self.out.exists():
            return
        self._check_output()
        with atomic_file(self.out) as temporary:
            try:
                write(temporary, self.rows)
            except UNSOUND as error:
                raise damaged(self.path) from error
            size = temporary.stat().st_size
            self.note(next=size)
        self.note(written=size, rows=rows)

    def _errors(self) -> AbstractContextManager[None]:
        return database_errors(self.path, self.out)

    def remove(self) -> None:
        """Remove the file; the output stays."""
        self.close()
        with storage_errors(self.path):
            self.path.unlink()
            _lock_of(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and release its lock."""
        self._stack.close()

    def __enter__(self) -> AnswersFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_rows(db: sqlite3.Connection, path: Path, only: int | None = None) -> Generator[Answer]:
    """Yield the rows of an answers file's output, or only those of an answer, in order."""
    query = (
        "SELECT image, answer, line FROM answers "
        "WHERE line IS NOT NULL AND (?1 IS NULL OR answer = ?1) ORDER BY id"
    )
    with database_errors(path, path):
        for image, answer, line in db.execute(query, (only,)):
            if not (isinstance(image, bytes) and type(answer) is int and isinstance(line, bytes)):
                raise damaged(path)
            try:
                yield Answer(image.decode("utf-8", "surrogatepass"), answer, line)
            except UnicodeDecodeError as error:
                raise damaged(path) from error


def row_bytes(row: Answer) -> bytes:
    """Return what a shard's checksum is made of."""
    image, line = as_bytes(row.image), row.line or b""
    return b"%d %d %d " % (len(image), row.answer, len(line)) + image + line


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name.removeprefix('.')}.lock")


def hold(path: Path, shown: Path) -> FileLock:
    """Lock an answers file for this process."""
    lock = FileLock(_lock_of(path))
    with storage_errors(shown):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RecipeError(
                f"Another process is writing to {shown}",
                "Wait until it is done, or give another file.",
            ) from None
    return lock


def open_database(path: Path, *, writable: bool = True) -> tuple[sqlite3.Connection, About]:
    """Open an answers file with its facts; refuse any other file.

    One that is not to be written is read as it lies there, without its write-ahead log.
    """
    for name in (path, *(_beside(path, ending) for ending in ("-wal", "-shm", "-journal"))):
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
            _check_tables(db, path)
            if writable:
                db.close()
                db = stack.enter_context(closing(_connect(path, "mode=rw")))
                # Alone, SQLite needs no shared memory, which network disks lack.
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
                _check_tables(db, path)  # the log may say otherwise
                db.execute("PRAGMA synchronous = FULL")
            (content,) = db.execute("SELECT content FROM about").fetchone()
            about = About.model_validate(json.loads(content))
        except (sqlite3.Error, ValueError, TypeError, KeyError, RecursionError) as error:
            if isinstance(error, sqlite3.OperationalError) and _code(error) in _REFUSED:
                raise
            raise damaged(path) from error
        stack.pop_all()
    return db, about


def _connect(path: Path, how: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, check_same_thread=False
    )
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    return db


def _check_tables(db: sqlite3.Connection, path: Path) -> None:
    """Refuse any table, index, view or trigger but ours."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    tables = db.execute("SELECT type, name, sql FROM sqlite_master").fetchmany(len(_TABLES) + 1)
    ours = {("table", name, sql) for name, sql in _TABLES.items()}
    if application != _APPLICATION or set(tables) != ours or len(tables) != len(ours):
        raise damaged(path)


def _create(path: Path, about: About) -> None:
    with atomic_file(path) as temporary:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as db:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            for table in _TABLES.values():
                db.execute(table)
            db.execute("INSERT INTO about VALUES (?)", (about.to_text(),))
        for left in ("-wal", "-shm"):
            _beside(temporary, left).unlink(missing_ok=True)


@contextmanager
def database_errors(path: Path, shown: Path) -> Iterator[None]:
    """Turn errors of SQLite into errors for the user."""
    try:
        yield
    except sqlite3.Error as error:
        if (code := _code(error)) in _REFUSED:
            number = _FULL.get(code, errno.EIO)
            reason = os.strerror(number)
            if error.sqlite_errorcode == sqlite3.SQLITE_IOERR_WRITE:
                reason = "the disk refuses it, or a quota is reached"
            with storage_errors(shown):
                raise OSError(number, reason) from error
        raise damaged(path) from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def damaged(path: Path, why: str = "") -> RecipeError:
    """Return the error for a damaged answers file."""
    why = why or f"{path} is damaged, or something else wrote it"
    return RecipeError(
        f"{why}, so it is unknown which images are done",
        f"Give another file, or move the results and {path.name} away.",
    )


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def as_bytes(name: str) -> bytes:
    """Encode a name, even one that is not Unicode."""
    return name.encode("utf-8", "surrogatepass")
