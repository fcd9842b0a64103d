"""Reads what was added to a growing file."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, Final

# Bytes at a log's end that are looked at.
_LOG: Final = 200_000


class JsonlFollower:
    """The lines of JSON in a file that another process appends to, such as ``history.jsonl``.

    Only what was added since the last call is read. A file that became shorter, or was replaced by
    another one (a training that went back, or was begun again), is read anew. A last line that is
    not finished yet waits for the next call.

    Args:
        path: The file; it need not be there yet.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "history.jsonl"
        >>> tail = JsonlFollower(file)
        >>> tail.read()
        []
        >>> _ = file.write_text('{"epoch": 1}' + chr(10) + '{"epo')
        >>> tail.read()
        [{'epoch': 1}]
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = (0, 0)
        self._at = 0
        self._found: list[dict[str, Any]] = []
        # Two pieces of news at once must not add the same lines twice.
        self._guard = threading.Lock()

    def read(self) -> list[dict[str, Any]]:
        """Return all lines that count now, the oldest first; lines that are no object are left out.

        May be called from any thread.
        """
        with self._guard:
            return self._read()

    def _read(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if (stat.st_dev, stat.st_ino) != self._file or stat.st_size < self._at:
                    self._file = (stat.st_dev, stat.st_ino)
                    self._at, self._found = 0, []
                file.seek(self._at)
                added = file.read()
        except OSError:
            self._file, self._at, self._found = (0, 0), 0, []
            return []
        whole = added.rpartition(b"\n")[0]
        if whole:
            self._at += len(whole) + 1
            self._found = [*self._found, *_objects(whole)]
        return self._found


def _objects(text: bytes) -> list[dict[str, Any]]:
    found = []
    for line in text.split(b"\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def last_lines(path: Path, lines: int) -> list[str]:
    """Return the end of a log, the oldest line first; nothing where it cannot be read.

    Args:
        path: The log.
        lines: How many at most.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []
