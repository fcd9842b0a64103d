"""`opsin unsort`: a sorting is taken back."""

from __future__ import annotations

import filecmp
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from opsin.events import SILENT, Watcher
from opsin.storage import told_plainly
from opsin.workflow.classify.journal import forget
from opsin.workflow.classify.placing import move_file
from opsin.workflow.classify.undo import (
    LOCK,
    RESULTS,
    SCRATCH,
    Line,
    UndoFile,
    cut_torn_line,
    hold,
)

# Pictures that could not be taken back and are named; all of them stay in the undo file.
_NAMED: Final = 100
_REST: Final = ".sorted.jsonl.rest"


@dataclass(frozen=True)
class Unsorted:
    """What `unsort` did.

    Args:
        folder: The sorted folder.
        moved_back: Pictures that are where they came from again.
        removed: Copies and links that are gone.
        left: Pictures that stayed, up to a hundred of them: below the folder, and why.
        left_count: How many stayed; ``sorted.jsonl`` still lists them all.
    """

    folder: Path
    moved_back: int
    removed: int
    left: tuple[tuple[str, str], ...]
    left_count: int

    def to_json(self) -> dict[str, Any]:
        """Return everything as ``--json`` prints it."""
        return {
            "folder": str(self.folder),
            "moved_back": self.moved_back,
            "removed": self.removed,
            "left": [{"image": image, "reason": reason} for image, reason in self.left],
            "left_count": self.left_count,
        }


def unsort(folder: str | os.PathLike[str], *, watcher: Watcher = SILENT) -> Unsorted:
    """Take back what ``classify(…, sort_into=folder)`` did there.

    Moved pictures go back where they came from, never over something that is there now. Copies and
    links are removed, if they are unchanged and the picture they were made of is still there. Then
    empty folders go, and the answers that were written into the folder. What cannot be taken back
    stays, and is listed. Killed on its way, it can be called again.

    Args:
        folder: The sorted folder.
        watcher: Is told how far the work is.

    Raises:
        RecipeError: Nothing was sorted into it, or another process is at it.
        StorageError: The disk refuses a write.

    Example:
        >>> unsort("sorted")  # doctest: +SKIP
        Unsorted(folder=PosixPath('sorted'), moved_back=1200, removed=0, left=(), left_count=0)
    """
    folder = Path(folder)
    undo = UndoFile(folder)
    lock = hold(folder)
    try:
        work = _Unsorting(undo, watcher)
        work.run()
    finally:
        lock.release()
    if not work.left_count:
        with told_plainly(folder):
            _clear(undo)
    left = tuple(work.left)
    return Unsorted(folder, work.moved_back, work.removed, left, work.left_count)


class _Unsorting:
    """Goes through the lines of an undo file, and keeps those that could not be undone."""

    def __init__(self, undo: UndoFile, watcher: Watcher) -> None:
        self.undo, self.watcher = undo, watcher
        self.moved_back = self.removed = self.left_count = 0
        self.left: list[tuple[str, str]] = []

    def run(self) -> None:
        """Undo all that can be undone; the undo file then lists the rest."""
        undo = self.undo
        cut_torn_line(undo.path)
        with told_plainly(undo.path), undo.path.open("rb") as file:
            head = file.readline()
            total = sum(line.startswith(b'{"image"') for line in file)
        mark = json.dumps({"unsorted": True}).encode() + b"\n"
        # From here on no command goes on with this sorting.
        with told_plainly(undo.path), undo.path.open("ab") as file:
            file.write(mark)
            file.flush()
            os.fsync(file.fileno())
        self.watcher.begin("Unsort", max(total, 1), "pictures")
        # Under a name of its own, so that nothing stays when the process is killed time and again.
        left = undo.folder / _REST
        with told_plainly(left):
            with left.open("wb") as rest:
                rest.write(head + mark)
                self._go_through(rest)
                rest.flush()
                os.fsync(rest.fileno())
            left.replace(undo.path)
        self.watcher.end()

    def _go_through(self, rest: BinaryIO) -> None:
        """Undo each line; write those that could not be undone."""
        done = 0
        for batch in self.undo.batches():
            kept = []
            for line in batch.lines:
                try:
                    reason = self._undo(line, sure=batch.over)
                except OSError as error:
                    reason = (error.strerror or str(error)).lower()
                if reason:
                    self.left_count += 1
                    if len(self.left) < _NAMED:
                        self.left.append((line.target, reason))
                    kept.append(asdict(line))
            if kept:
                for content in (*kept, {"placed": 0, "not": []}):
                    rest.write(json.dumps(content).encode() + b"\n")
            done += len(batch.lines)
            self.watcher.advance(done)

    def _undo(self, line: Line, *, sure: bool) -> str | None:
        """Undo one line, and say why that could not be; it may have been undone before.

        Args:
            line: What was done.
            sure: Whether it was done for certain, so that what lies there is the picture even where
                somebody worked on it since.
        """
        target, source = self.undo.folder / line.target, Path(line.source or "")
        there = line.looks_done(self.undo.folder)
        free = not os.path.lexists(source)
        if line.by == "move":
            if there and not free and _is_back(source, target):  # killed between two steps
                target.unlink()
                self.moved_back += 1
                return None
            if not os.path.lexists(target) or not (there or sure):
                return "is no longer there" if free else None
            if not free:
                return f"something else is at {source} now"
            source.parent.mkdir(parents=True, exist_ok=True)
            move_file(target, source, source.with_name(SCRATCH))
            self.moved_back += 1
            return None
        if not os.path.lexists(target):
            return None
        if not there:
            return "was changed since" if sure else None
        if line.by != "write" and not _is_there(line, source, target):
            gone = "is gone" if free else "is another picture now"
            return f"{source} {gone}, so this may be the only one"
        target.unlink()
        self.removed += 1
        return None


def _is_back(source: Path, target: Path) -> bool:
    """Tell whether a moved picture lies where it came from too, as a second name or a copy."""
    # A symbolic link that somebody left there leads to the only one that there is.
    return not source.is_symlink() and filecmp.cmp(source, target, shallow=False)


def _is_there(line: Line, source: Path, target: Path) -> bool:
    """Tell whether the picture that a copy or a link was made of is still where it was."""
    try:
        found = source.stat()
    except OSError:
        return False
    if source.samefile(target):
        return not source.is_symlink()
    return line.is_like(found) or filecmp.cmp(source, target, shallow=False)


def _clear(undo: UndoFile) -> None:
    """Remove what the sorting made beside the pictures; the undo file last."""
    folder = undo.folder
    (folder / SCRATCH).unlink(missing_ok=True)
    for name in undo.folders:
        with suppress(OSError):  # not empty: something else is in there
            (folder / name).rmdir()
    if undo.results == (folder / RESULTS).absolute():
        forget(undo.results, undo.key)
    undo.path.unlink()
    (folder / LOCK).unlink(missing_ok=True)
    if undo.made:
        with suppress(OSError):
            folder.rmdir()
