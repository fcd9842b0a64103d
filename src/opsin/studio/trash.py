"""Removed folders, kept for a week so that removing can be undone."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opsin.core.storage import storage_errors
from opsin.studio.errors import NotThere

#: Seconds that removed folders are kept.
KEPT: Final = 7 * 86_400.0
# Time of removal (nanoseconds), and name.
_WAITING: Final = re.compile(r"(\d+)-(.+)", re.DOTALL)


@dataclass(frozen=True)
class Removed:
    """A removed folder that can still be restored."""

    token: str
    folder: str
    name: str
    when: float


class Trash:
    """The removed subfolders of a folder, in its ``.deleted``."""

    def __init__(self, root: Path) -> None:
        self.path = root / ".deleted"

    def put(self, folder: str) -> str:
        """Remove a folder; the token restores it."""
        path, token = self.path.parent / folder, f"{time.time_ns()}-{folder}"
        with storage_errors(path):
            self.path.mkdir(exist_ok=True)
            path.rename(self.path / token)
        return token

    def removed(self) -> list[Removed]:
        """The folders that can be restored, the last removed first."""
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = [folder.name for folder in self.path.iterdir()]
        matches = filter(None, map(_WAITING.fullmatch, names))
        items = [Removed(match[0], match[2], match[2], int(match[1]) / 1e9) for match in matches]
        return sorted(items, key=lambda item: item.when, reverse=True)

    def get(self, token: str) -> Removed:
        """The removed folder of a token, or `NotThere`."""
        removed = next((item for item in self.removed() if item.token == token), None)
        if removed is None:
            raise NotThere("What was removed is gone for good", "Make it again.")
        return removed

    def restore(self, removed: Removed) -> None:
        """Restore a folder, whose name must be free."""
        path = self.path.parent / removed.folder
        with storage_errors(path):
            (self.path / removed.token).rename(path)

    def sweep(self, kept: float = KEPT) -> None:
        """Delete folders removed at least ``kept`` seconds ago."""
        for item in self.removed():
            if time.time() - item.when >= kept:
                # Under a hidden name first, so that no partial folder is ever restored.
                with contextlib.suppress(OSError):
                    (self.path / item.token).rename(self.path / f".{item.token}")
        for folder in self.path.glob(".*"):
            with contextlib.suppress(RecursionError):  # an untrusted folder of any depth
                shutil.rmtree(folder, ignore_errors=True)
