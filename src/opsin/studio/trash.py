"""Removed folders, kept for a week so that removing can be undone."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from opsin.core.errors import OpsinError
from opsin.core.storage import storage_errors
from opsin.studio.errors import NotThere

#: Seconds that removed folders are kept.
KEPT: Final = 7 * 86_400.0
# Time of removal (nanoseconds), and name.
_WAITING: Final = re.compile(r"(\d+)-(.+)", re.DOTALL)


class Removed(NamedTuple):
    """A removed folder, or what was removed together with it, that can still be restored."""

    token: str
    folder: str
    name: str
    when: float
    place: Path


class Trash:
    """The removed subfolders of a folder, in one of its own."""

    def __init__(self, root: Path, name: str = ".deleted") -> None:
        self.path = root / name

    def put(self, folder: str, token: str = "") -> str:
        """Remove a folder; the token, of others that go with it or a new one, restores it."""
        path, token = self.path.parent / folder, token or str(time.time_ns())
        with storage_errors(path):
            self.path.mkdir(exist_ok=True)
            path.rename(self.path / f"{token}-{folder}")
        return token

    def removed(self, title_of: Callable[[Path], str] = lambda _: "") -> list[Removed]:
        """The folders that can be restored, the last removed first; without a title, by name."""
        items = []
        for place in self.path.glob("*-*"):
            if match := _WAITING.fullmatch(place.name):
                token, folder = match.groups()
                item = Removed(token, folder, folder, int(token) / 1e9, place)
                with contextlib.suppress(OpsinError, OSError, ValueError, RecursionError):
                    item = item._replace(name=title_of(place) or folder)
                items.append(item)
        return sorted(items, key=lambda item: item.when, reverse=True)

    def get(self, token: str) -> list[Removed]:
        """The removed folders of a token, or `NotThere`."""
        removed = [item for item in self.removed() if item.token == token]
        if not removed:
            raise NotThere("What was removed is gone for good", "Make it again.")
        return removed

    def restore(self, removed: Removed, name: str = "") -> None:
        """Restore a folder, under its own or another name, which must be free."""
        path = self.path.parent / (name or removed.folder)
        with storage_errors(path):
            removed.place.rename(path)

    def sweep(self, kept: float = KEPT) -> None:
        """Delete folders removed at least ``kept`` seconds ago, none through a link."""
        if self.path.is_symlink():
            return
        for item in self.removed():
            if time.time() - item.when >= kept:
                # Under a hidden name first, so that no partial folder is ever restored.
                with contextlib.suppress(OSError):
                    item.place.rename(item.place.with_name(f".{item.place.name}"))
        for folder in self.path.glob(".*"):
            with contextlib.suppress(RecursionError):  # an untrusted folder of any depth
                shutil.rmtree(folder, ignore_errors=True)
