"""``sorted.jsonl``: how a sorting can be undone.

It begins with a line about the whole. Then come batches: a line for each picture that is going to
be placed, written before anything is done, and behind them a line with ``placed`` once all was
done. A batch without that line was being done when the process was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from filelock import FileLock, Timeout

from opsin.errors import RecipeError
from opsin.storage import told_plainly

#: The file that undoes a sorting, and the answers where no other file was named.
UNDO: Final = "sorted.jsonl"
RESULTS: Final = "results.jsonl"
#: Files in a sorted folder while work goes on there.
SCRATCH: Final = ".sorting"
LOCK: Final = ".sorted.jsonl.lock"
FORMAT: Final = 1
# File systems keep times to two seconds or better.
_CLOCK: Final = 2_000_000_000


@dataclass(frozen=True)
class Line:
    """What is done with one picture.

    Args:
        image: What it is called.
        source: Where it lies; ``None`` for a member of an archive.
        target: Where it goes, below the sorted folder.
        by: How; ``write`` for a member of an archive.
        size: Bytes.
        mtime_ns: When it was last written, in nanoseconds.
        device: The file system it lies on; with ``inode`` what tells it from every other file.
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

    def looks_done(self, folder: Path) -> bool:
        """Tell whether what lies at the target is this picture."""
        try:
            there = (folder / self.target).lstat()
        except OSError:
            return False
        if self.by != "copy" and (there.st_dev, there.st_ino) == (self.device, self.inode):
            return True
        # A copy has the picture's size and time, and so has what moved across file systems.
        return self.is_like(there) and self.by != "link"

    def is_like(self, found: os.stat_result) -> bool:
        """Tell by its size and time whether a file may be the picture as it was, or its copy."""
        return abs(found.st_mtime_ns - self.mtime_ns) <= _CLOCK and found.st_size == self.size

    def stays_inside(self) -> bool:
        """Tell whether it goes where a sorting would place it: strangers write such files too."""
        places = self.target.split("/")
        return len(places) == 2 and not {"", ".", ".."} & set(places)


class Batch(NamedTuple):
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

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / UNDO
        #: Whether somebody began to take pictures back.
        self.taken_back = False
        try:
            with self.path.open("rb") as file:
                self.head: dict[str, Any] = json.loads(file.readline())
            known = self.head["format"] == FORMAT
            self.key, self.results = bytes.fromhex(self.head["journal"]), Path(self.head["results"])
            self.made, self.folders = bool(self.head["made"]), list(self.head["folders"])
        except FileNotFoundError as error:
            raise RecipeError(
                f"a folder that opsin predict --sort-into made, with its {UNDO}",
                f"{folder} has none",
                "Give the sorted folder.",
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged() from error
        if not known:
            raise self._damaged()

    def _damaged(self) -> RecipeError:
        return RecipeError(
            f"{self.path} as it was written",
            "it cannot be read",
            "Restore it, or sort into another folder.",
        )

    def batches(self) -> Iterator[Batch]:
        """Yield what was done, batch by batch; a last line cut short by a power cut is left out.

        Afterwards ``taken_back`` is known.
        """
        lines: list[Line] = []
        with self.path.open("rb") as file:
            file.readline()
            for text in file:
                if not text.endswith(b"\n"):
                    break
                try:
                    content = json.loads(text)
                    if "unsorted" in content:
                        self.taken_back = True
                        continue
                    if "placed" not in content:
                        line = Line(**content)
                        if not line.stays_inside():
                            raise self._damaged()
                        lines.append(line)
                        continue
                    undone = set(content["not"])
                    done = [line for line in lines if line.target not in undone]
                    yield Batch(done, over=True, records=content["placed"])
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise self._damaged() from error
                lines = []
        if lines:
            yield Batch(lines, over=False)


def hold(folder: Path) -> FileLock:
    """Keep a sorted folder to this process until the lock is released.

    Raises:
        RecipeError: Another process is at it.
        StorageError: The folder may not be written to.
    """
    lock = FileLock(folder / LOCK)
    with told_plainly(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RecipeError(
                "a folder that no other process sorts into",
                f"another one is working in {folder}",
                "Wait until it is done, or give another folder.",
            ) from None
    return lock


def cut_torn_line(path: Path) -> None:
    """Cut off a last line that a power cut or a full disk left without its end."""
    with told_plainly(path), path.open("rb+") as file:
        size = whole = file.seek(0, os.SEEK_END)
        while whole:
            file.seek(whole - 1)
            if file.read(1) == b"\n":
                break
            whole -= 1
        if whole < size:
            file.truncate(whole)
