"""Images sorted into folders by their answer.

What is going to be done with an image is kept in the answers file together with its answer, before
it is done. So every image is placed once, however often the work is killed and continued.

An answers file may have been downloaded, and then it says whatever its maker wrote. So the folders
that images were taken from are kept in the user's own state as well, and images go back, or are
called copies of what is there, nowhere else.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple

from opsin.commands.predict.answers_file import Answer, AnswersFile, Sorting, as_bytes, damaged
from opsin.core import files
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.storage import check_writable, storage_errors
from opsin.data.image_stream import ListedImage

By = Literal["copy", "move"]

#: In a sorted folder: the answers, the usual output, and what is being written.
SORTED: Final = ".sorted.sqlite"
RESULTS: Final = "results.jsonl"
SCRATCH: Final = ".sorting"
# Reasons to end the work: they would meet every further image too.
_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# Images that could not be placed and are named; rows that are read at once.
_NAMED: Final = 3
_BATCH: Final = 256
# Whether an open file's times can be set by its number; on Windows by its name only.
_BY_NUMBER: Final = os.utime in os.supports_fd
# File systems keep times to two seconds or better.
_CLOCK: Final = 2_000_000_000
_TABLE: Final = """CREATE TABLE IF NOT EXISTS origins
    (sorting TEXT NOT NULL, folder BLOB NOT NULL, PRIMARY KEY (sorting, folder))"""


class Placement(NamedTuple):
    """A file's current or future place: an open folder, and a name in it."""

    folder: files.ConfinedDir
    name: str

    @property
    def is_free(self) -> bool:
        """Whether nothing has the name."""
        return not self.folder.has(self.name)

    def stat(self) -> os.stat_result:
        """The status of the name itself, without following a link."""
        return self.folder.stat(self.name)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the name."""
        with suppress(*[FileNotFoundError] * missing_ok):
            self.folder.unlink(self.name)


def copy_file(source: BinaryIO, target: Placement, scratch: Placement) -> None:
    """Copy a content to a name that must be free, with its file's time and rights."""
    # Killed after the name was given, the scratch file is the target: never write into it.
    scratch.unlink(missing_ok=True)
    try:
        with scratch.folder.open(scratch.name, "xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
            # A copy is recognised by its time, so it never has its name without.
            if _BY_NUMBER:
                with suppress(OSError):  # some file systems keep no times
                    # The numbers of open files will do, though their types do not say so.
                    shutil.copystat(source.fileno(), file.fileno())  # type: ignore[arg-type]
        if not _BY_NUMBER:
            time = os.fstat(source.fileno()).st_mtime_ns
            os.utime(scratch.folder.path / scratch.name, ns=(time, time))
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
        # A rename would replace an existing file, a second name never does.
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


class Move(NamedTuple):
    """What is done with one image; in the order of the table's columns."""

    image: str
    source: str
    target: str  # below the sorted folder: the folder of its answer, and a name
    by: str
    size: int
    mtime_ns: int
    identity: str = ""
    done: bool = False  # for certain
    id: int = 0

    def looks_done(self, target: Placement) -> bool:
        """Whether the file at the target is this image."""
        try:
            status = target.stat()
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode):
            return False
        # A copy, and what moved across file systems, is recognised by its size and time.
        return (self.by == "move" and identity_of(status) == self.identity) or self.is_like(status)

    def is_like(self, status: os.stat_result) -> bool:
        """Whether a file has the size and time of the image as it was."""
        return abs(status.st_mtime_ns - self.mtime_ns) <= _CLOCK and status.st_size == self.size

    @contextmanager
    def places(
        self, folder: files.ConfinedDir, origins: Origins, *, make: bool = False
    ) -> Iterator[tuple[Placement | None, Placement | None]]:
        """Yield the sorted file, if it is there, and where it was; ``make`` that folder if gone."""
        with ExitStack() as stack:
            target = source = None
            with suppress(FileNotFoundError):
                answer, name = self.target.split("/")
                target = Placement(stack.enter_context(folder.folder(answer)), name)
                target = None if target.is_free else target
            if origins.holds(self.source):
                parent, name = os.path.split(self.source)
                with suppress(FileNotFoundError if make else OSError):
                    if make and target is not None:
                        Path(parent).mkdir(parents=True, exist_ok=True)
                    source = Placement(stack.enter_context(files.ConfinedDir(Path(parent))), name)
            yield target, source

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Move:
        """Read a row; `ValueError`, `TypeError` or `AttributeError` if it is not ours."""
        image, source, target = (value.decode("utf-8", "surrogatepass") for value in row[:3])
        by, size, mtime_ns, identity, done, number = row[3:]
        parts, places = Path(source).parts[1:], target.split("/")
        if not (
            Path(source).is_absolute()
            and all(part == ".." or files.is_plain_name(part) for part in parts)
            and isinstance(image, str)
            and len(places) == 2
            and all(map(files.is_plain_name, places))
            and all(type(value) is int for value in (size, mtime_ns, done))
            and isinstance(identity, str)
            and by in ("copy", "move")
        ):
            raise ValueError("no row of a sorting")
        return cls(image, source, target, by, size, mtime_ns, identity, bool(done), number)


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
        self.path = files.state_root() / "sortings.sqlite"
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

    def check(self, moves: Iterable[Move], path: Path) -> int:
        """Count moves; refuse those of images from other folders."""
        count, strange = 0, ""
        for move in moves:
            count += 1
            if not self.holds(move.source):
                strange = move.source
        if strange:
            raise RecipeError(
                f"{path} names {strange}, from where this account sorted nothing",
                "Only the account that sorted a folder can continue it or take it back.",
            )
        return count

    def forget(self) -> None:
        """Remove what is known of a sorting that was taken back."""
        if self.path.exists():
            with suppress(sqlite3.Error), self._opened() as db:
                db.execute("DELETE FROM origins WHERE sorting = ?", (self._key,))


class Sorter:
    """Places images in the folders of their answers."""

    def __init__(
        self, folder: Path, by: By, labels: Sequence[str], answers: AnswersFile, watcher: Watcher
    ) -> None:
        self.folder, self.by, self.watcher = folder, by, watcher
        self.placed, self.unplaced = 0, 0
        self._answers = answers
        self._origins = Origins(answers.about.key)
        self._inside = os.path.realpath(folder) + os.sep
        names = files.NamesInUse()
        for name in (SORTED, RESULTS):
            names.take(name)
        self._folders = {label: names.take(files.legal_name(label)) for label in labels}
        # Without it nothing could be taken back; better to know before any image is answered.
        check_writable(self._origins.path, "set OPSIN_STATE to one")
        if answers.about.undone:
            raise RecipeError(f"Images were taken back from {folder}", "Sort into another folder.")
        if answers.about.sorting is None:
            is_usual = answers.out.absolute() == (folder / RESULTS).absolute()
            folders = list(self._folders.values())
            answers.note(sorting=Sorting(folders=folders, results=is_usual))
        with ExitStack() as stack:
            with storage_errors(folder):
                self._dir = stack.enter_context(files.ConfinedDir(folder))
                self._scratch = Placement(self._dir, SCRATCH)
                self._check_folders()
                self._settle()
            self.close = stack.pop_all().close

    def _check_folders(self) -> None:
        for name in self._folders.values():
            with suppress(FileNotFoundError):
                try:
                    self._dir.folder(name).close()
                except NotADirectoryError as error:
                    raise RecipeError(
                        f"{self.folder / name} is a link or a file",
                        "Take it away, or sort into another folder.",
                    ) from error

    def has_inside(self, image: ListedImage) -> bool:
        """Whether an image lies in the folder, where sorted ones are found again."""
        return image.path is not None and os.path.realpath(image.path).startswith(self._inside)

    def _settle(self) -> None:
        """Finish the batch in which the process was killed."""
        self._scratch.unlink(missing_ok=True)
        moves = list(read_moves(self._answers.db, self._answers.path, undone=True))
        self._origins.check(moves, self._answers.path)
        self._act([move for move in moves if not self._is_done(move)])

    def _is_done(self, move: Move) -> bool:
        with move.places(self._dir, self._origins) as (target, source):
            if target is None or not move.looks_done(target):
                return False
            if move.by == "move" and source is not None and not source.is_free:
                status = source.stat()  # perhaps it has its old name as well
                same = (status.st_size, status.st_mtime_ns) == (move.size, move.mtime_ns)
                if same and identity_of(status) == move.identity:
                    source.unlink()
            return True

    def place(self, images: Iterable[tuple[ListedImage, str]], answers: Sequence[Answer]) -> None:
        """Keep answers, and place the images that have one of the folders."""
        planned: dict[str, Move] = {}
        for image, answer in images:
            try:
                move = self._plan(image, self._folders[answer], planned)
            except OSError as error:
                self._note_unplaced(image.name, error)
            else:
                planned[move.target.casefold()] = move
        moves = list(planned.values())
        with storage_errors(self._origins.path):
            try:
                self._origins.add(move.source for move in moves)
            except sqlite3.Error as error:  # without it, nothing could be taken back
                raise OSError(errno.EIO, str(error)) from error
        with self._answers.transaction() as db:
            self._answers.insert(answers)
            db.executemany(
                "INSERT INTO moves (image, source, target, by, size, mtime_ns, identity, done) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                ((*map(as_bytes, move[:3]), *move[3:7]) for move in moves),
            )
        self._act(moves)

    def _plan(self, image: ListedImage, folder: str, planned: Container[str]) -> Move:
        """Plan what to do with an image; raise `OSError` where it cannot be placed."""

        def is_taken(name: str) -> bool:
            if f"{folder}/{name}".casefold() in planned:
                return True
            try:
                with self._dir.folder(folder) as inside:
                    return inside.has(name)
            except FileNotFoundError:
                return False

        if image.path is None:
            raise OSError(errno.EINVAL, "is no file of its own")
        path = Path(image.path)
        status = path.stat() if self.by == "copy" else path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is a symbolic link, which is left where it is")
        return Move(
            image.name,
            str(path.absolute()),
            f"{folder}/{files.free_name(path.name, is_taken)}",
            self.by,
            status.st_size,
            status.st_mtime_ns,
            identity_of(status),
        )

    def _act(self, moves: Sequence[Move]) -> None:
        """Do what was planned, and call all planned moves done but those that could not be."""
        undone = [(as_bytes(move.target),) for move in moves if not self._act_on(move)]
        with self._answers.transaction() as db:
            db.executemany("DELETE FROM moves WHERE done = 0 AND target = ?", undone)
            db.execute("UPDATE moves SET done = 1 WHERE done = 0")

    def _act_on(self, move: Move) -> bool:
        source, (answer, name) = Path(move.source), move.target.split("/")
        try:
            with ExitStack() as stack:
                target = Placement(stack.enter_context(self._dir.folder(answer, make=True)), name)
                if move.by == "copy":
                    with files.open_regular(source) as file:
                        copy_file(file, target, self._scratch)
                else:
                    parent = stack.enter_context(files.ConfinedDir(source.parent))
                    move_file(Placement(parent, source.name), target, self._scratch)
        except FileExistsError:
            why = f"something else took the name {move.target} meanwhile"
            self._note_unplaced(move.image, OSError(errno.EINVAL, why))
            return False
        except OSError as error:
            if error.errno in _DISK:
                with storage_errors(self.folder / move.target):
                    raise
            self._note_unplaced(move.image, error)
            return False
        self.placed += 1
        return True

    def _note_unplaced(self, name: str, error: OSError) -> None:
        self.unplaced += 1
        if self.unplaced <= _NAMED:
            reason = error.strerror or str(error)
            self.watcher.note(f"{name} was not placed: {reason[:1].lower()}{reason[1:]}")
