"""`opsin unsort`: a sorting is taken back."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from opsin.commands.classify.journal import forget
from opsin.commands.classify.origins import Origins
from opsin.commands.classify.placing import Placement, move_file
from opsin.commands.classify.sorting_log import (
    LOCK,
    RESULTS,
    SCRATCH,
    UNDO,
    Line,
    UndoFile,
    hold,
    lacks_undo,
)
from opsin.core.arguments import checked
from opsin.core.closed_folder import ClosedFolder
from opsin.core.errors import RecipeError
from opsin.core.event_log import EventLog
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import storage_errors
from opsin.core.stored_json import JsonObject

# Images that could not be taken back and are named; all of them stay in the undo file.
_NAMED: Final = 100
_REST: Final = ".sorted.jsonl.rest"
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Unsorted:
    """What `unsort` did.

    Args:
        folder: The sorted folder.
        moved_back: Images that are where they came from again.
        removed: Copies and links that are gone.
        left: Images that stayed, up to a hundred of them: below the folder, and why.
        left_count: How many stayed; ``sorted.jsonl`` still lists them all.
    """

    folder: Path
    moved_back: int
    removed: int
    left: tuple[tuple[str, str], ...]
    left_count: int

    def to_json(self) -> JsonObject:
        """Return everything as ``--json`` prints it."""
        return {
            "folder": str(self.folder),
            "moved_back": self.moved_back,
            "removed": self.removed,
            "left": [{"image": image, "reason": reason} for image, reason in self.left],
            "left_count": self.left_count,
        }


@checked
def unsort(
    folder: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    watcher: Watcher = SILENT,
) -> Unsorted:
    """Take back what ``classify(…, sort_into=folder)`` did there.

    Moved images go back where they came from, never over something that is there now. Copies and
    links are removed, if they are unchanged and the image they were made of is still there. Then
    empty folders go, and the answers that were written into the folder. What cannot be taken back
    stays, and is listed. Killed on its way, it can be called again.

    Where the images came from is known by the account that sorted them. Of a folder that was
    sorted elsewhere, nothing is believed: name the source.

    Args:
        folder: The sorted folder.
        source: One folder or several that the images came from, where this account does not know.
        watcher: Receives the progress.

    Raises:
        RecipeError: Nothing was sorted into it, it names places where this account sorted nothing,
            or another process is at it.
        StorageError: The disk refuses a write.

    Example:
        >>> unsort("sorted")  # doctest: +SKIP
        Unsorted(folder=PosixPath('sorted'), moved_back=1200, removed=0, left=(), left_count=0)
    """
    several = [source] if isinstance(source, str | os.PathLike) else source
    folder = Path(folder)
    if not folder.is_dir():
        raise lacks_undo(folder)
    with ExitStack() as stack:
        with storage_errors(folder):
            own = stack.enter_context(ClosedFolder(folder))
        undo = UndoFile(own)
        stack.callback(hold(folder).release)
        origins = Origins(undo.key, [Path(each) for each in several])
        work = _Unsorting(undo, origins, watcher)
        work.run()
        if not work.left_count:
            with storage_errors(folder):
                _clear(undo)
            origins.forget()
    left = tuple(work.left)
    return Unsorted(folder, work.moved_back, work.removed, left, work.left_count)


class _Unsorting:
    """Goes through the lines of an undo file, and keeps those that could not be undone."""

    def __init__(self, undo: UndoFile, origins: Origins, watcher: Watcher) -> None:
        self.undo, self.origins, self.watcher = undo, origins, watcher
        self.moved_back = self.removed = self.left_count = 0
        self.left: list[tuple[str, str]] = []
        # In the source's folder, where another file must not have it.
        self._scratch = f"{SCRATCH}-{undo.key.hex()}"

    def run(self) -> None:
        """Undo all that can be undone; the undo file then lists the rest."""
        undo, own = self.undo, self.undo.folder
        total, mark = self._checked(), {"unsorted": True}
        # From here on no command goes on with this sorting.
        with storage_errors(undo.path):
            undo.log.append(mark)
        self.watcher.begin("Unsort", max(total, 1), "images")
        # Under a name of its own, so that nothing stays when the process is killed time and again.
        with storage_errors(own.path / _REST):
            Placement(own, _REST).unlink(missing_ok=True)
            rest = EventLog(own, _REST)
            rest.append(undo.head, mark)
            self._go_through(rest)
            own.rename(_REST, own, UNDO)
        self.watcher.end()

    def _checked(self) -> int:
        """Return how many images there are, once all of the file is sound.

        Raises:
            RecipeError: It is damaged, or names places from where this account sorted nothing.
        """
        total, strange = 0, set()
        for batch in self.undo.batches():
            total += len(batch.lines)
            for line in batch.lines:
                if line.source is not None and not self.origins.holds(line.source):
                    strange.add(os.path.dirname(line.source))  # noqa: PTH120
        if strange:
            try:
                place = os.path.commonpath(strange)
            except ValueError:  # on several drives
                place = min(strange)
            folder = self.undo.folder.path
            raise RecipeError(
                "a folder that this account sorted, so that it knows where the images came from",
                f"{self.undo.path} says {place}, from where it sorted nothing into {folder}",
                f"If that is right, say so: opsin unsort {folder} --source {place}",
            )
        return total

    def _go_through(self, rest: EventLog) -> None:
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
                rest.append(*kept, {"placed": 0, "not": []})
            done += len(batch.lines)
            self.watcher.advance(done)

    def _undo(self, line: Line, *, sure: bool) -> str | None:
        """Undo one line, and say why that could not be; it may have been undone before.

        Args:
            line: What was done.
            sure: Whether it was done for certain, so that what lies there is the image even if
                it was edited since.
        """
        answer, name = line.place
        with ExitStack() as stack:
            target = None
            with suppress(FileNotFoundError):
                target = Placement(stack.enter_context(self.undo.folder.folder(answer)), name)
            if line.by == "move":
                return self._move_back(line, target, sure=sure)
            if target is None or target.is_free:
                return None
            if not line.looks_done(target):
                return "was changed since" if sure else None
            if line.source is not None:
                source = None
                with suppress(OSError):
                    source = stack.enter_context(self.origins.place(line.source))
                if source is None or not _is_there(line, source, target):
                    gone = source is None or source.is_free
                    became = "is gone" if gone else "is another image now"
                    return f"{line.source} {became}, so this may be the only one"
            target.unlink()
            self.removed += 1
            return None

    def _move_back(self, line: Line, target: Placement | None, *, sure: bool) -> str | None:
        """Undo the line of a moved image, as `_undo` does."""
        missing = target is None or target.is_free
        with ExitStack() as stack:
            source = None
            with suppress(FileNotFoundError):
                place = self.origins.place(line.source or "", make=not missing)
                source = stack.enter_context(place)
            free = source is None or source.is_free
            there = target is not None and line.looks_done(target)
            if target is None or source is None or missing or not (there or sure):
                return "is no longer there" if free else None
            if not stat.S_ISREG(target.stat().st_mode):
                return "is a link now, or no file"
            if there and not free and _is_back(source, target):  # killed between two steps
                target.unlink()
            elif free:
                move_file(target, source, Placement(source.folder, self._scratch))
            else:
                return f"something else is at {line.source} now"
            self.moved_back += 1
            return None


def _same_content(one: Placement, other: Placement) -> bool:
    with one.folder.open(one.name) as first, other.folder.open(other.name) as second:
        if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
            return False
        while block := first.read(_BLOCK):
            if block != second.read(_BLOCK):
                return False
        return not second.read(1)


def _is_back(source: Placement, target: Placement) -> bool:
    """Return whether a moved image lies where it came from too, as a second name or a copy."""
    # A symbolic link that was left there leads to the only copy.
    return stat.S_ISREG(source.stat().st_mode) and _same_content(source, target)


def _is_there(line: Line, source: Placement, target: Placement) -> bool:
    """Return whether the image that a copy or a link was made of is still where it was."""
    try:
        found, copy = source.stat(), target.stat()
        linked = stat.S_ISLNK(found.st_mode)
        if linked:  # the image that was copied may have been one that a link leads to
            found = os.stat(line.source or "")  # noqa: PTH116
    except OSError:
        return False
    if not stat.S_ISREG(found.st_mode):
        return False
    if (found.st_dev, found.st_ino) == (copy.st_dev, copy.st_ino):
        return not linked
    return line.is_like(found) or (not linked and _same_content(source, target))


def _clear(undo: UndoFile) -> None:
    """Remove what the sorting made beside the images; the undo file last."""
    own = undo.folder
    Placement(own, SCRATCH).unlink(missing_ok=True)
    for name in undo.folders:
        with suppress(OSError):  # not empty: something else is in there
            own.rmdir(name)
    if undo.results == (own.path / RESULTS).absolute():
        forget(undo.results, undo.key)
    own.unlink(UNDO)
    Placement(own, LOCK).unlink(missing_ok=True)
    if undo.made:
        with suppress(OSError):
            own.path.rmdir()
