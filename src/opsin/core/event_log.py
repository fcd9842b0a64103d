"""Events in a file that is only added to: a line of JSON each.

The one journal of small things: what `--sort-into` did, where it took images from, corrections of
labels. An event is on the disk before it is done, so the next process finishes what a killed one
began. Anyone may have written the file, so no link is followed, and a line has its limits.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from typing import Any, Final

from opsin.core.confined_dir import ConfinedDir
from opsin.core.stored_json import parse_json

# Bytes of a line; a batch of sorted images ends with one that may name all of them.
_LONGEST: Final = 32 << 20


class EventLog:
    """A file of events, for one process at a time."""

    def __init__(self, folder: ConfinedDir, name: str) -> None:
        self._folder, self._name = folder, name

    def append(self, *events: Any) -> None:
        """Add events, and bring them to the disk. A last line that was cut short goes."""
        content = b"".join(json.dumps(event).encode() + b"\n" for event in events)
        with self._folder.open(self._name, "ab") as file:
            size = os.fstat(file.fileno()).st_size
            if (whole := self._whole(size)) < size:
                file.truncate(whole)
            left = memoryview(content)
            while left:
                left = left[file.write(left) or 0 :]
            os.fsync(file.fileno())

    def _whole(self, size: int) -> int:
        """Return where the last line ends that has its end."""
        with self._folder.open(self._name) as file:
            file.seek(max(0, size - 1))
            if file.read(1) in {b"", b"\n"}:
                return size
            start = file.seek(max(0, size - _LONGEST))
            end = file.read(_LONGEST).rfind(b"\n") + 1
        if start and not end:
            raise OSError(errno.EFBIG, "Its last line is longer than any", self._name)
        return start + end

    def read(self, *, skip: bool = False) -> Iterator[Any]:
        """Yield the events, the oldest first; a last line that was cut short is left out."""
        if not self._folder.has(self._name):
            return
        with self._folder.open(self._name) as file:
            while (line := file.readline(_LONGEST)).endswith(b"\n"):
                try:
                    event = parse_json(line)
                except ValueError:
                    if skip:
                        continue
                    raise
                yield event
            if len(line) == _LONGEST:
                raise ValueError("a line is longer than any")
