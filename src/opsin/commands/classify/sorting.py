"""Images sorted into folders by their answer.

Copies and links are made before the journal calls their images done, and taken back if it does
not. Moves are made after it, since an image that has left its place would not be seen again. So
either way every image is placed once, however often the work is killed and gone on with.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal

from opsin.commands.classify.journal import Journal
from opsin.commands.classify.origins import Origins
from opsin.commands.classify.placing import Placement, copy_file, move_file, write_file
from opsin.commands.classify.sorting_log import (
    FORMAT,
    LOCK,
    RESULTS,
    SCRATCH,
    UNDO,
    Line,
    UndoFile,
    hold,
)
from opsin.core.closed_folder import ClosedFolder
from opsin.core.errors import RecipeError, StorageError
from opsin.core.event_log import EventLog
from opsin.core.events import Watcher
from opsin.core.file_names import NamesInUse, free_name, legal_name
from opsin.core.regular_file import open_regular
from opsin.core.storage import storage_errors, write_bytes
from opsin.data.image_stream import Unlabelled

By = Literal["copy", "link", "move"]

# Reasons to end the work: they would meet every further image too.
_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_NO_LINKS: Final = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)
_NAMED: Final = 3


class Sorter:
    """Places images in the folders of their answers.

    Args:
        folder: Where the folders lie; it is made if it is not there.
        by: Whether images are copied, linked or moved.
        answers: Every answer there may be, in the order of the journal's numbers.
        journal: What is done; open.
        watcher: Receives what could not be placed.
        sources: Folders that the user named as those the images are in.

    Raises:
        RecipeError: The folder was sorted by another command, or another process sorts into it.
        StorageError: The disk refuses a write.
    """

    def __init__(
        self, folder: Path, by: By, answers: Sequence[str], journal: Journal, watcher: Watcher, *,
        sources: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        self.folder, self.by, self.watcher = folder, by, watcher
        self.placed, self.unplaced = 0, 0
        self._journal = journal
        self._origins = Origins(journal.key, sources)
        self._remembers = True
        names = NamesInUse()
        for own in (UNDO, RESULTS):
            names.take(own)
        self._folders = {answer: names.take(legal_name(answer)) for answer in answers}
        self._inside = os.path.realpath(folder) + os.sep
        with ExitStack() as stack:
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                self._own = stack.enter_context(ClosedFolder(folder))
            self._scratch = Placement(self._own, SCRATCH)
            stack.callback(hold(folder).release)
            with storage_errors(folder):
                self._open()
            self._log = EventLog(self._own, UNDO)
            self._settle()
            self._held = stack.pop_all()

    def _open(self) -> None:
        """Begin the undo file, or see that it is this work's."""
        for name in self._folders.values():
            if self._own.has(name):
                self._check_own(name)
        path = self.folder / UNDO
        if self._own.has(UNDO):
            undo = UndoFile(self._own)
            if undo.key == self._journal.key:
                return
            if next(undo.batches(), None):
                raise RecipeError(
                    f"a folder that nothing else was sorted into, or the {UNDO} of this command",
                    f"{path} is another command's",
                    f"Give another folder, or take that sorting back: opsin unsort {self.folder}",
                )
        if self._journal.resumed:
            raise RecipeError(
                f"{path}, which says where each image is",
                "it is gone: the sorting was taken back",
                f"To sort anew, move {self._journal.out} and {self._journal.path.name} away first.",
            )
        own = {LOCK, UNDO, self._journal.out.name}
        others = [
            name
            for name in os.listdir(self.folder)  # noqa: PTH208  names are all it takes
            if name not in own and not name.startswith(f".{self._journal.out.name}.")
        ]
        head = {
            "format": FORMAT,
            "journal": self._journal.key.hex(),
            "results": str(self._journal.out.absolute()),
            "by": self.by,
            "made": not others,
            "folders": list(self._folders.values()),
        }
        write_bytes(path, json.dumps(head).encode() + b"\n")

    def _check_own(self, name: str) -> None:
        """See that the folder of an answer is a folder, and no link to one elsewhere."""
        try:
            self._own.folder(name).close()
        except NotADirectoryError as error:
            raise RecipeError(
                "a folder of its own for the images of each answer",
                f"{self.folder / name} is a link or a file",
                "Take it away, or sort into another folder.",
            ) from error

    def _settle(self) -> None:
        """Bring a batch to its end that the process was killed in."""
        last, undo = None, UndoFile(self._own)
        for batch in undo.batches():
            last = batch
            if batch.records > self._journal.records:
                raise RecipeError(
                    f"{self._journal.out} as this command left it",
                    "it lacks images that were sorted since",
                    f"Restore it, or take the sorting back: opsin unsort {self.folder}",
                )
        if undo.taken_back:
            raise RecipeError(
                f"{undo.path} with every image in its place",
                "images were taken back since",
                "Sort into another folder, with other results.",
            )
        with storage_errors(self.folder):
            self._scratch.unlink(missing_ok=True)
        if last is None or last.over:
            return
        for line in last.lines:
            if line.source is not None and not self._origins.holds(line.source):
                raise RecipeError(
                    f"{undo.path} as this command left it",
                    f"it names {line.source}, from where this account sorted nothing",
                    "Sort into another folder, with other results.",
                )
        undone, moves = [], []
        for line in last.lines:
            with storage_errors(self.folder):
                was_done, move = self._settle_line(line)
            if not was_done:
                undone.append(line.target)
            if move is not None:
                moves.append(move)
        self._mark(undone)
        self._place(moves, lambda: None)

    def _settle_line(self, line: Line) -> tuple[bool, tuple[Unlabelled, str] | None]:
        """Bring one image's move or copy to its end, or take it back.

        Returns:
            Whether it is where the line says, and what has to be placed anew.
        """
        answer, name = line.place
        done = self._journal.holds(line.image)
        with ExitStack() as stack:
            target, source = None, None
            with suppress(FileNotFoundError):
                target = Placement(stack.enter_context(self._own.folder(answer)), name)
            if line.source is not None:
                with suppress(OSError):
                    source = stack.enter_context(self._origins.place(line.source))
            made = target is not None and line.looks_done(target)
            # The original may have gone since: its copy stays, and is in the undo file.
            only = line.by != "write" and (source is None or source.is_free)
            if line.by == "move" and done and made and source is not None:
                _take_old_name(line, source)
            elif line.by == "move" and done and not made and line.source is not None:
                image = Unlabelled(line.image, line.source, line.source)
                return False, (image, answer)
            elif line.by != "move" and made and not (done or only) and target is not None:
                target.unlink()
        return made and (done or only), None

    def has_inside(self, image: Unlabelled) -> bool:
        """Return whether an image lies in the folder, where sorted ones are found again."""
        return image.path is not None and os.path.realpath(image.path).startswith(self._inside)

    def place(self, images: Sequence[tuple[Unlabelled, str]], keep: Callable[[], None]) -> None:
        """Place images, and have them called done.

        Args:
            images: Each with its answer.
            keep: Writes them, and whatever else is done, into the journal.

        Raises:
            StorageError: The disk refuses a write; the work can be gone on with.
        """
        self._place([(image, self._folders[answer]) for image, answer in images], keep)

    def _place(self, images: list[tuple[Unlabelled, str]], keep: Callable[[], None]) -> None:
        planned: list[tuple[Unlabelled, Line]] = []
        taken: set[str] = set()
        for image, folder in images:
            try:
                line = self._plan(image, folder, taken)
            except OSError as error:
                self._note_unplaced(image.name, (error.strerror or str(error)).lower())
                continue
            if isinstance(line, str):
                self._note_unplaced(image.name, line)
                continue
            taken.add(line.target.casefold())
            planned.append((image, line))
        if not planned:
            keep()
            return
        self._remember([line.source for _, line in planned if line.source is not None])
        self._write(*(asdict(line) for _, line in planned))
        if self.by == "move":
            self._keep(keep)
        undone = [line.target for image, line in planned if not self._act(image, line)]
        if self.by != "move":
            self._keep(keep)
        self._mark(undone)

    def _remember(self, sources: list[str]) -> None:
        """Keep where images come from; where that cannot be written, `unsort` will ask."""
        try:
            self._origins.add(sources)
        except OSError as error:
            if self._remembers:
                self.watcher.note(
                    f"where the images came from cannot be kept in {self._origins.path} "
                    f"({(error.strerror or str(error)).lower()}): opsin unsort will ask for it"
                )
            self._remembers = False

    def _keep(self, keep: Callable[[], None]) -> None:
        keep()
        self._journal.sync()

    def _plan(self, image: Unlabelled, folder: str, taken: set[str]) -> Line | str:
        """Return what is going to be done with an image, or why nothing is."""
        if image.path is None:
            if self.by != "copy":
                return "lies inside a file, from which it can only be copied"
            name = self._free_name(folder, legal_name(image.name.rsplit("/", 1)[-1]), taken)
            content = image.image if isinstance(image.image, bytes) else b""
            # Whole seconds, which every file system keeps.
            now = int(time.time()) * 1_000_000_000
            return Line(image.name, None, f"{folder}/{name}", "write", len(content), now)
        path = Path(image.path)
        found = path.stat() if self.by == "copy" else path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return "is a symbolic link, which is left where it is"
        name = self._free_name(folder, path.name, taken)
        return Line(
            image.name, str(path.absolute()), f"{folder}/{name}", self.by,
            found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino,
        )  # fmt: skip

    def _free_name(self, folder: str, name: str, taken: set[str]) -> str:
        """Return a name that no file of a folder has, and none that is planned."""
        return free_name(
            name,
            lambda name: f"{folder}/{name}".casefold() in taken or self._is_taken(folder, name),
        )

    def _is_taken(self, folder: str, name: str) -> bool:
        try:
            with self._own.folder(folder) as inside:
                return inside.has(name)
        except FileNotFoundError:
            return False

    def _act(self, image: Unlabelled, line: Line) -> bool:
        """Do what a line says; return whether it was done."""
        folder, name = line.place
        source = Path(line.source or "")
        try:
            with ExitStack() as stack:
                target = Placement(stack.enter_context(self._own.folder(folder, make=True)), name)
                if line.by == "write":
                    content = image.image if isinstance(image.image, bytes) else b""
                    write_file(content, target, self._scratch, line.mtime_ns)
                elif line.by == "copy":
                    with open_regular(source) as file:
                        copy_file(file, target, self._scratch)
                else:
                    parent = stack.enter_context(ClosedFolder(source.parent))
                    if line.by == "link":
                        parent.link(source.name, *target)
                    else:
                        move_file(Placement(parent, source.name), target, self._scratch)
        except FileExistsError:
            self._note_unplaced(line.image, f"something else took the name {line.target} meanwhile")
            return False
        except OSError as error:
            if line.by == "link" and error.errno in _NO_LINKS:
                raise StorageError(
                    f"to give {source} a second name in {self.folder}",
                    "they lie on different file systems, or theirs has no hard links",
                    "Sort by copy, into another folder.",
                ) from error
            if error.errno in _DISK:
                with storage_errors(self.folder / line.target):
                    raise
            self._note_unplaced(line.image, (error.strerror or str(error)).lower())
            return False
        self.placed += 1
        return True

    def _note_unplaced(self, name: str, reason: str) -> None:
        """Say of the first few that they were not placed, and count the others."""
        self.unplaced += 1
        if self.unplaced <= _NAMED:
            self.watcher.note(f"{name} was not placed: {reason}")

    def _mark(self, undone: list[str]) -> None:
        self._write({"placed": self._journal.records, "not": undone})

    def _write(self, *events: object) -> None:
        with storage_errors(self.folder / UNDO):
            self._log.append(*events)

    def close(self) -> None:
        """Close the folder, and release its lock."""
        self._held.close()


def _take_old_name(line: Line, source: Placement) -> None:
    """Take the old name of a moved image away, where only that was left to do."""
    with suppress(FileNotFoundError):
        there = source.stat()
        same = (there.st_dev, there.st_ino) == (line.device, line.inode)
        if same and (there.st_size, there.st_mtime_ns) == (line.size, line.mtime_ns):
            source.unlink()
