"""`opsin undo`: a sorting is taken back."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, PlainSerializer

from opsin.commands.predict.answers_file import About, damaged, hold, open_answers
from opsin.commands.predict.sorting import (
    RESULTS,
    SCRATCH,
    SORTED,
    Move,
    Origins,
    Placement,
    identity_of,
    move_file,
    read_moves,
)
from opsin.core.arguments import checked
from opsin.core.database import database_errors
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import ConfinedDir, is_plain_name
from opsin.core.storage import storage_errors

# Images that could not be taken back and are named; all of them stay in the answers file.
_NAMED: Final = 100
_BATCH: Final = 256


class Undone(BaseModel, frozen=True):
    """What `undo` did."""

    folder: Path  #: The sorted folder
    moved_back: int  #: Images that are where they came from again
    removed: int  #: Copies that are gone
    #: Images that stayed, up to a hundred of them: below the folder, and why
    left: Annotated[
        tuple[tuple[str, str], ...],
        PlainSerializer(lambda left: [{"image": image, "reason": why} for image, why in left]),
    ]
    left_count: int  #: How many stayed; the folder's answers file still lists them all


@checked
def undo(folder: str | os.PathLike[str], *, watcher: Watcher = SILENT) -> Undone:
    """Take back what ``classify(…, sort_into=folder)`` did there.

    Moved images go back where they came from, never over something that is there now. Copies are
    removed, if they are unchanged and the image they were made of is still there. Then empty
    folders go, and the answers that were written into the folder. What cannot be taken back
    stays, and is listed. Killed on its way, it can be called again.

    Only the account that sorted a folder can take it back.

    Args:
        folder: The sorted folder.
        watcher: Receives the progress.

    Raises:
        RecipeError: Nothing was sorted into it, it names folders that this account sorted nothing
            from, or another process is using it.
        StorageError: The disk refuses a write.

    Example:
        >>> undo("sorted")  # doctest: +SKIP
        Undone(folder=PosixPath('sorted'), moved_back=1200, removed=0, left=(), left_count=0)
    """
    folder = Path(folder)
    path = folder / SORTED
    if not os.path.lexists(path):
        raise RecipeError(f"opsin predict --sort-into sorted nothing into {folder}")
    with ExitStack() as stack:
        stack.callback(hold(path, folder).release)
        stack.enter_context(database_errors(path, folder, damaged))
        db, about = open_answers(path)
        stack.enter_context(closing(db))
        with storage_errors(folder):
            opened = stack.enter_context(ConfinedDir(folder))
        origins = Origins(about.key)
        work = _Undoing(about, opened, origins)
        # All of them must be sound before one is undone.
        total = origins.check(read_moves(db, path), path)
        if about.sorting and not all(map(is_plain_name, about.sorting.folders)):
            raise damaged(path)
        # From here on no command continues this sorting.
        undone = about.model_copy(update={"undone": True})
        db.execute("UPDATE about SET content = ?", (undone.to_text(),))
        watcher.begin("Undo", max(total, 1), "images")
        left: list[tuple[str, str]] = []
        left_count = 0
        finished: list[tuple[int]] = []
        for number, move in enumerate(read_moves(db, path), start=1):
            if reason := work.undo(move):
                left_count += 1
                if len(left) < _NAMED:
                    left.append((move.target, reason))
            else:
                finished.append((move.id,))
            if len(finished) >= _BATCH or number == total:
                # Killed before that, these moves are found undone and passed over.
                db.execute("BEGIN IMMEDIATE")
                db.executemany("DELETE FROM moves WHERE id = ?", finished)
                db.execute("COMMIT")
                finished = []
            watcher.advance(number)
        watcher.end()
        if not left:
            db.close()
            with storage_errors(folder):
                _clear(opened, about)
            origins.forget()
    return Undone(
        folder=folder,
        moved_back=work.moved_back,
        removed=work.removed,
        left=tuple(left),
        left_count=left_count,
    )


class _Undoing:
    """Takes back moves, which may have been taken back before."""

    def __init__(self, about: About, folder: ConfinedDir, origins: Origins) -> None:
        self.moved_back = self.removed = 0
        self._folder, self._origins = folder, origins
        # In the source's folder, where another file must not have it.
        self._scratch = f"{SCRATCH}-{about.key}"

    def undo(self, move: Move) -> str | None:
        try:
            return self._move_back(move) if move.by == "move" else self._remove(move)
        except OSError as error:
            return (error.strerror or str(error)).lower()

    def _remove(self, move: Move) -> str | None:
        """Remove a copy, if the image that it was made of is still where it was."""
        with move.places(self._folder, self._origins) as (target, source):
            if target is None:
                return None
            if not move.looks_done(target):
                return "was changed since" if move.done else None
            if source is None or not _is_original(move, source, target):
                gone = source is None or source.is_free
                became = "is gone" if gone else "is another image now"
                return f"{move.source} {became}, so this may be the only one"
            target.unlink()
        self.removed += 1
        return None

    def _move_back(self, move: Move) -> str | None:
        with move.places(self._folder, self._origins, make=True) as (target, source):
            is_free = source is None or source.is_free
            is_whole = target is not None and move.looks_done(target)
            # A file at the target of a finished move is the image, even if it was edited since.
            if target is None or source is None or not (is_whole or move.done):
                return "is no longer there" if is_free else None
            if not stat.S_ISREG(target.stat().st_mode):
                return "is a link now, or no file"
            if is_free:
                move_file(target, source, Placement(source.folder, self._scratch))
            # Killed between two steps, the image has both names. A symbolic link that was left at
            # the old one leads to the only copy.
            elif is_whole and stat.S_ISREG(source.stat().st_mode) and _same_content(source, target):
                target.unlink()
            else:
                return f"something else is at {move.source} now"
        self.moved_back += 1
        return None


def _same_content(one: Placement, other: Placement) -> bool:
    with one.folder.open(one.name) as first, other.folder.open(other.name) as second:
        files: tuple[Any, Any] = first, second
        digests = {hashlib.file_digest(file, "sha256").digest() for file in files}
    return len(digests) == 1


def _is_original(move: Move, source: Placement, target: Placement) -> bool:
    """Whether the source is still the image that the copy was made of."""
    try:
        original, copy = source.stat(), target.stat()
        is_link = stat.S_ISLNK(original.st_mode)
        if is_link:  # the copied image may have been the one that a link leads to
            original = os.stat(move.source)  # noqa: PTH116
    except OSError:
        return False
    if not stat.S_ISREG(original.st_mode):
        return False
    if identity_of(original) == identity_of(copy):
        return not is_link
    return move.is_like(original) or (not is_link and _same_content(source, target))


def _clear(folder: ConfinedDir, about: About) -> None:
    """Remove what the sorting made beside the images; the answers last."""
    Placement(folder, SCRATCH).unlink(missing_ok=True)
    sorting = about.sorting
    for name in sorting.folders if sorting else ():
        with suppress(OSError):  # not empty: something else is in there
            folder.rmdir(name)
    results = Placement(folder, RESULTS)
    if sorting and sorting.results and not results.is_free:
        status = results.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size in (about.written, about.next):
            results.unlink()
    for name in (SORTED, f"{SORTED}-wal", f"{SORTED}.lock"):
        Placement(folder, name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.path.rmdir()
