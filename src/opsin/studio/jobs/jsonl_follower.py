"""Reads what was added to a growing file."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


class JsonlFollower(Generic[M]):
    """The lines of JSON in a file that another process appends to, such as ``history.jsonl``."""

    def __init__(self, path: Path, kind: type[M]) -> None:
        self._path, self._kind = path, kind
        self._file = (0, 0)
        self._at = 0
        self._found: list[M] = []
        # Two pieces of news at once must not add the same lines twice.
        self._guard = threading.Lock()

    def read(self) -> list[M]:
        """Return all lines that count now, the oldest first."""
        with self._guard:
            return self._read()

    def _read(self) -> list[M]:
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
            self._found = [*self._found, *self._parsed(whole)]
        return self._found

    def _parsed(self, text: bytes) -> Iterator[M]:
        for line in text.split(b"\n"):
            with contextlib.suppress(ValidationError):
                yield self._kind.model_validate_json(line)
