"""The SQLite file of a command's answers, and the output that is written from it.

A shard is such a file itself. It may come from a stranger, so nothing is opened that makes SQLite
access other files (a rollback journal, links), the schema must match exactly, and nothing in it is
ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from filelock import FileLock, Timeout
from pydantic import Field

from opsin._version import __version__
from opsin.core.artifacts.records import Stored
from opsin.core.database import beside, database_errors, open_database, write_database
from opsin.core.errors import RecipeError
from opsin.core.storage import atomic_file, storage_errors
from opsin.core.stored_json import JsonObject
from opsin.data.cache import NameSet

_APPLICATION: Final = int.from_bytes(b"Opsn")
_TABLES: Final = {
    "about": "CREATE TABLE about (content TEXT NOT NULL)",
    "answers": "CREATE TABLE answers (id INTEGER PRIMARY KEY, image BLOB NOT NULL, "
    "answer INTEGER NOT NULL, line BLOB)",
    "moves": "CREATE TABLE moves (id INTEGER PRIMARY KEY, image BLOB NOT NULL, source BLOB, "
    "target BLOB NOT NULL, by TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, "
    "identity TEXT NOT NULL, done INTEGER NOT NULL)",
}
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
    """The answers of one command and the output written from them: in a shard, the same file."""

    def __init__(
        self,
        path: Path,
        out: Path,
        begun: JsonObject,
        *,
        kinds: int = 1 << 31,
        source: str | None = None,
    ) -> None:
        self.path, self.out, self._kinds, self._source = path, out, kinds, source
        self._names = NameSet()
        with storage_errors(out):
            path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.callback(hold(path, out).release)
            with self._errors():
                self.db, self.about = self._opened(begun, stack)
                #: How many images were done before.
                self.resumed = self.counts()[0].total()
                for (name,) in self.db.execute("SELECT image FROM answers"):
                    if not isinstance(name, bytes):
                        raise damaged(path)
                    self._names.add(name)
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
            db, about = open_answers(self.path)
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
            for name in (self.path, beside(self.path, "-wal"), self.out):
                name.unlink(missing_ok=True)
        elif there:
            raise RecipeError(
                f"{self.out} is there, and {self.path.name}, which says what is done, is not",
                "Give another file, or move that one away; Opsin overwrites nothing.",
            )
        about = About(key=os.urandom(16).hex(), begun={**begun}, source=self._source)
        first = ("INSERT INTO about VALUES (?)", (about.to_text(),))
        write_database(self.path, _TABLES, _APPLICATION, [first])
        db, about = open_answers(self.path)
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

    def claim(self, name: str, *, unique: bool = False) -> bool:
        """Tell whether an image is new: neither done nor claimed; unique ones are not kept."""
        written = as_bytes(name)
        return written not in self._names if unique else self._names.add(written)

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
        return database_errors(self.path, self.out, damaged)

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
    with database_errors(path, path, damaged):
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


def open_answers(path: Path, *, writable: bool = True) -> tuple[sqlite3.Connection, About]:
    """Open an answers file with its facts; refuse any other file."""
    db = open_database(path, _TABLES, _APPLICATION, damaged=damaged, writable=writable)
    try:
        (content,) = db.execute("SELECT content FROM about").fetchone()
        return db, About.model_validate(json.loads(content))
    except (sqlite3.Error, ValueError, TypeError, KeyError, RecursionError) as error:
        db.close()
        raise damaged(path) from error


def damaged(path: Path, why: str = "") -> RecipeError:
    """Return the error for a damaged answers file."""
    why = why or f"{path} is damaged, or something else wrote it"
    return RecipeError(
        f"{why}, so it is unknown which images are done",
        f"Give another file, or move the results and {path.name} away.",
    )


def as_bytes(name: str) -> bytes:
    """Encode a name, even one that is not Unicode."""
    return name.encode("utf-8", "surrogatepass")
