"""Images sorted into folders by their answer.

Copies are made before the answers file calls their images done, and taken back if it does not.
Moves are made after it, since an image that has left its place would not be seen again. So either
way every image is placed once, however often the work is killed and continued.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from collections.abc import Container, Sequence
from contextlib import ExitStack
from pathlib import Path
from sqlite3 import Error as DatabaseError
from typing import Final, Literal

from opsin.commands.predict.answers_file import Answer, AnswersFile, Sorting, as_bytes
from opsin.commands.predict.moves import (
    Move,
    Origins,
    Placement,
    copy_file,
    identity_of,
    move_file,
    read_moves,
)
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.files import ConfinedDir, NamesInUse, free_name, legal_name, open_regular
from opsin.core.storage import check_writable, storage_errors
from opsin.data.image_stream import ListedImage

By = Literal["copy", "move"]

#: In a sorted folder: the answers, the file of them where no other was named, and what is written.
SORTED: Final = ".sorted.sqlite"
RESULTS: Final = "results.jsonl"
SCRATCH: Final = ".sorting"
# Reasons to end the work: they would meet every further image too.
_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_NAMED: Final = 3
_ELSEWHERE: Final = "Sort into another folder, with other results."


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
        names = NamesInUse()
        for name in (SORTED, RESULTS):
            names.take(name)
        self._folders = {label: names.take(legal_name(label)) for label in labels}
        # Without it nothing could be taken back; better to know before any image is answered.
        check_writable(self._origins.path, "set OPSIN_STATE to one")
        with ExitStack() as stack:
            with storage_errors(folder):
                self._dir = stack.enter_context(ConfinedDir(folder))
            self._scratch = Placement(self._dir, SCRATCH)
            self._begin()
            with storage_errors(folder):
                self._settle()
            self.close = stack.pop_all().close

    def _begin(self) -> None:
        for name in self._folders.values():
            try:
                if self._dir.has(name):
                    self._dir.folder(name).close()
            except NotADirectoryError as error:
                raise RecipeError(
                    f"{self.folder / name} is a link or a file",
                    "Take it away, or sort into another folder.",
                ) from error
        about = self._answers.about
        if about.undone:
            raise RecipeError(f"Images were taken back from {self.folder}", _ELSEWHERE)
        if about.sorting is None:
            out = self._answers.out
            names = os.listdir(self.folder)  # noqa: PTH208  names are all it takes
            others = [name for name in names if name != out.name and not name.startswith(SORTED)]
            is_usual = out.absolute() == (self.folder / RESULTS).absolute()
            sorting = Sorting(
                folders=list(self._folders.values()), made=not others, results=is_usual
            )
            self._answers.note(sorting=sorting)

    def _settle(self) -> None:
        """Bring a batch to its end that the process was killed in."""
        self._scratch.unlink(missing_ok=True)
        moves = list(read_moves(self._answers.db, self._answers.path, undone=True))
        for move in moves:
            if move.source is not None and not self._origins.holds(move.source):
                raise RecipeError(
                    f"{self._answers.path} names {move.source}, from where this account sorted "
                    "nothing",
                    _ELSEWHERE,
                )
        undone = [move for move in moves if not self._settle_one(move)]
        with self._answers.transaction():
            self._mark(undone)
        again = [
            (ListedImage(move.image, move.source), move.folder)
            for move in undone
            if move.by == "move" and move.source is not None
        ]
        self._place(again, [])

    def _settle_one(self, move: Move) -> bool:
        """Whether an image is where it was to go."""
        with move.places(self._dir, self._origins) as (target, source):
            if target is None or not move.looks_done(target):
                return False
            if move.by == "move":  # its answer is kept; perhaps the old name is there as well
                if source is not None and not source.is_free:
                    there = source.stat()
                    same = (there.st_size, there.st_mtime_ns) == (move.size, move.mtime_ns)
                    if same and identity_of(there) == move.identity:
                        source.unlink()
                return True
            # It will be answered again; but if the original has gone since, its copy stays.
            if move.by == "copy" and (source is None or source.is_free):
                return True
            target.unlink()
            return False

    def has_inside(self, image: ListedImage) -> bool:
        """Whether an image lies in the folder, where sorted ones are found again."""
        return image.path is not None and os.path.realpath(image.path).startswith(self._inside)

    def place(self, images: Sequence[tuple[ListedImage, str]], answers: Sequence[Answer]) -> None:
        """Keep answers, and place the images that have one of the folders."""
        self._place([(image, self._folders[answer]) for image, answer in images], answers)

    def _place(self, images: Sequence[tuple[ListedImage, str]], answers: Sequence[Answer]) -> None:
        planned: dict[str, tuple[ListedImage, Move]] = {}
        for image, folder in images:
            try:
                move = self._plan(image, folder, planned)
            except OSError as error:
                self._note_unplaced(image.name, error)
            else:
                planned[move.target.casefold()] = image, move
        if not planned:
            self._answers.append(answers)
            return
        sources = [move.source for _, move in planned.values() if move.source is not None]
        with storage_errors(self._origins.path):
            try:
                self._origins.add(sources)
            except DatabaseError as error:  # without it, nothing could be taken back
                raise OSError(errno.EIO, str(error)) from error
        with self._answers.transaction() as db:
            for _, move in planned.values():
                move.insert(db)
            if self.by == "move":
                self._answers.insert(answers)
        undone = [move for image, move in planned.values() if not self._act(image, move)]
        with self._answers.transaction():
            self._mark(undone)
            if self.by == "copy":
                self._answers.insert(answers)
        self._answers.count(answers)

    def _mark(self, undone: Sequence[Move]) -> None:
        """Call the planned moves done, but for some."""
        db = self._answers.db
        targets = ((as_bytes(move.target),) for move in undone)
        db.executemany("DELETE FROM moves WHERE done = 0 AND target = ?", targets)
        db.execute("UPDATE moves SET done = 1 WHERE done = 0")

    def _plan(self, image: ListedImage, folder: str, planned: Container[str]) -> Move:
        """What is going to be done with an image; `OSError` where it cannot be."""

        def is_taken(name: str) -> bool:
            if f"{folder}/{name}".casefold() in planned:
                return True
            try:
                with self._dir.folder(folder) as inside:
                    return inside.has(name)
            except FileNotFoundError:
                return False

        if image.path is None:
            if self.by != "copy":
                why = "lies inside a file, from which it can only be copied"
                raise OSError(errno.EINVAL, why)
            name = free_name(legal_name(image.name.rsplit("/", 1)[-1]), is_taken)
            # Whole seconds, which every file system keeps.
            now = int(time.time()) * 1_000_000_000
            return Move(image.name, None, folder, name, "write", len(_content(image)), now)
        path = Path(image.path)
        status = path.stat() if self.by == "copy" else path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is a symbolic link, which is left where it is")
        return Move(
            image.name, str(path.absolute()), folder, free_name(path.name, is_taken), self.by,
            status.st_size, status.st_mtime_ns, identity_of(status),
        )  # fmt: skip

    def _act(self, image: ListedImage, move: Move) -> bool:
        """Do what was planned; return whether it was done."""
        source = Path(move.source or "")
        try:
            with ExitStack() as stack:
                folder = stack.enter_context(self._dir.folder(move.folder, make=True))
                target = Placement(folder, move.name)
                if move.by == "write":
                    content = io.BytesIO(_content(image))
                    copy_file(content, target, self._scratch, move.mtime_ns)
                elif move.by == "copy":
                    with open_regular(source) as file:
                        copy_file(file, target, self._scratch)
                else:
                    parent = stack.enter_context(ConfinedDir(source.parent))
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


def _content(image: ListedImage) -> bytes:
    return image.image if isinstance(image.image, bytes) else b""
