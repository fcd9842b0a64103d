"""Labels that people have confirmed, kept with their dataset: nothing suspects them again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from pathlib import Path

from filelock import FileLock

from opsin.core.storage import storage_errors, write_json
from opsin.studio.people import require

# Digest and label of an image.
_Pairs = Collection[tuple[str, str]]


class ConfirmedLabels:
    """The images of a dataset whose labels are right, by digest and label."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "confirmed.json"
        self._lock = FileLock(folder / ".confirmed.lock", timeout=10)

    def read(self) -> set[tuple[str, str]]:
        """All pairs; none where the file is missing or damaged."""
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError):
            pairs = json.loads(self._file.read_text(encoding="utf-8"))
            return {(str(digest), str(label)) for digest, label in pairs}
        return set()

    def change(self, *, add: _Pairs = (), remove: _Pairs = ()) -> None:
        """Confirm labels, or take that back."""
        require("labeller")
        with storage_errors(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                write_json(self._file, sorted((self.read() | set(add)) - set(remove)))
