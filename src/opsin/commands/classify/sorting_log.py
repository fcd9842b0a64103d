"""``sorted.jsonl``: how a sorting can be undone.

It begins with a line about the whole. Then come batches: a line for each image that is going to
be placed, written before anything is done, and behind them a line with ``placed`` once all was
done. A batch without that line was being done when the process was killed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from filelock import FileLock, Timeout

from opsin.commands.classify.placing import Placement
from opsin.core.closed_folder import ClosedFolder, is_plain_name
from opsin.core.errors import RecipeError
from opsin.core.event_log import EventLog
from opsin.core.storage import storage_errors

#: The file that undoes a sorting, and the answers where no other file was named.
UNDO: Final = "sorted.jsonl"
RESULTS: Final = "results.jsonl"
#: Files in a sorted folder while work goes on there.
SCRATCH: Final = ".sorting"
LOCK: Final = ".sorted.jsonl.lock"
FORMAT: Final = 1
# File systems keep times to two seconds or better.
_CLOCK: Final = 2_000_000_000
# Characters of the longest batch; one has some hundred lines.
_LONGEST: Final = 32 << 20
_KEY: Final = re.compile("[0-9a-f]{32}")
# What reading a line that is no sorting's may raise.
_UNSOUND: Final = (OSError, ValueError, TypeError, KeyError)


@dataclass(frozen=True)
class Line:
    """What is done with one image.

    Args:
        image: What it is called.
        source: Where it lies; ``None`` for a member of an archive.
        target: Where it goes, below the sorted folder.
        by: How; ``write`` for a member of an archive.
        size: Bytes.
        mtime_ns: When it was last written, in nanoseconds.
        device: The file system it lies on; with ``inode`` what identifies it among all files.
        inode: Its number there; 0 for a member of an archive.
    """

    image: str
    source: str | None
    target: str
    by: Literal["copy", "link", "move", "write"]
    size: int
    mtime_ns: int
    device: int = 0
    inode: int = 0

    @classmethod
    def read(cls, content: Any) -> Line:
        """Return what a line of the file says.

        Raises:
            TypeError: It was not written by this command.
            ValueError: Likewise.
        """
        line = cls(**content)
        texts, numbers = (line.image, line.target), (line.size, line.mtime_ns, line.device)
        sound = (
            all(isinstance(text, str) for text in texts)
            # Not bool, which is an int to Python.
            and all(type(number) is int for number in (*numbers, line.inode))
            and line.by in {"copy", "link", "move", "write"}
            and (line.source is None if line.by == "write" else _is_whole_path(line.source))
        )
        if not sound or not all(map(is_plain_name, line.place)) or len(line.place) != 2:
            raise ValueError("no line of a sorting")
        return line

    @property
    def length(self) -> int:
        """Characters of its texts, and some for its numbers."""
        return len(self.image) + len(self.source or "") + len(self.target) + 100

    @property
    def place(self) -> tuple[str, ...]:
        """The folder of its answer, and its name there."""
        return tuple(self.target.split("/"))

    def looks_done(self, target: Placement) -> bool:
        """Return whether what lies at the target is this image."""
        try:
            there = target.stat()
        except OSError:
            return False
        if not stat.S_ISREG(there.st_mode):
            return False
        if self.by != "copy" and (there.st_dev, there.st_ino) == (self.device, self.inode):
            return True
        # A copy has the image's size and time, and so has what moved across file systems.
        return self.is_like(there) and self.by != "link"

    def is_like(self, found: os.stat_result) -> bool:
        """Return whether a file has the size and time of the image as it was."""
        return abs(found.st_mtime_ns - self.mtime_ns) <= _CLOCK and found.st_size == self.size


def _is_whole_path(source: object) -> bool:
    return (
        isinstance(source, str)
        and os.path.isabs(source)  # noqa: PTH117
        and all(name == ".." or is_plain_name(name) for name in Path(source).parts[1:])
    )


class SortedBatch(NamedTuple):
    """Lines that were written together.

    Args:
        lines: What was going to be done; of a batch that is over only what was done.
        over: Whether all was done before the process ended.
        records: How many records the journal held then.
    """

    lines: list[Line]
    over: bool
    records: int = 0


class UndoFile:
    """Reads ``sorted.jsonl``.

    Args:
        folder: The sorted folder.

    Raises:
        RecipeError: It has no such file, or a damaged one.
    """

    def __init__(self, folder: ClosedFolder) -> None:
        self.folder, self.path = folder, folder.path / UNDO
        self.log = EventLog(folder, UNDO)
        #: Whether an `unsort` has begun.
        self.taken_back = False
        try:
            if not folder.has(UNDO):
                raise lacks_undo(folder.path)
            head: Any = next(self.log.read(), {})
            self.head: Any = head
            known = head["format"] == FORMAT and _KEY.fullmatch(head["journal"])
            names = head["folders"]
            if not known or type(names) is not list or not all(map(is_plain_name, names)):
                raise ValueError("no head of a sorting")
            self.key, self.results = bytes.fromhex(head["journal"]), Path(head["results"])
            self.made, self.folders = head["made"] is True, names
        except _UNSOUND as error:
            raise self._damaged() from error

    def _damaged(self) -> RecipeError:
        return RecipeError(
            f"{self.path} as it was written",
            "it cannot be read",
            "Restore it, or sort into another folder.",
        )

    def batches(self) -> Iterator[SortedBatch]:
        """Yield what was done, batch by batch; a last line cut short by a power cut is left out.

        Afterwards ``taken_back`` is known.

        Raises:
            RecipeError: It is damaged.
        """
        lines: list[Line] = []
        length = 0
        try:
            for event in islice(self.log.read(), 1, None):
                if "unsorted" in event:
                    self.taken_back = True
                elif "placed" in event:
                    yield _over(lines, event)
                    lines, length = [], 0
                else:
                    lines.append(Line.read(event))
                    length += lines[-1].length
                    if length > _LONGEST:
                        raise self._damaged()
        except _UNSOUND as error:
            raise self._damaged() from error
        if lines:
            yield SortedBatch(lines, over=False)


def _over(lines: list[Line], content: Any) -> SortedBatch:
    """Return a batch by the line that ends it."""
    records, undone = content["placed"], content["not"]
    if type(records) is not int or not isinstance(undone, list):
        raise TypeError("no end of a batch")
    left = set(undone)
    return SortedBatch(
        [line for line in lines if line.target not in left], over=True, records=records
    )


def lacks_undo(folder: Path) -> RecipeError:
    """Return the error for a folder that nothing was sorted into."""
    return RecipeError(
        f"a folder that opsin predict --sort-into made, with its {UNDO}",
        f"{folder} has none",
        "Give the sorted folder.",
    )


def hold(folder: Path) -> FileLock:
    """Keep a sorted folder to this process until the lock is released.

    Raises:
        RecipeError: Another process is at it.
        StorageError: The folder may not be written to.
    """
    lock = FileLock(folder / LOCK)
    with storage_errors(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RecipeError(
                "a folder that no other process sorts into",
                f"another one is working in {folder}",
                "Wait until it is done, or give another folder.",
            ) from None
    return lock
