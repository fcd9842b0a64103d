"""Where sorted images came from, as this account knows it.

A sorted folder says of each image where it was. But such a folder may have been downloaded, and
then it says whatever its maker wrote. So the folders that images were taken from are kept in the
user's own state as well, and images go back, or are called copies of what is there, nowhere else.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from opsin.commands.predict.placing import Placement
from opsin.core.files import ConfinedDir, state_root

_TABLE = """CREATE TABLE IF NOT EXISTS origins
    (sorting TEXT NOT NULL, folder BLOB NOT NULL, PRIMARY KEY (sorting, folder))"""


class Origins:
    """The folders from which one sorting took images."""

    def __init__(self, key: str, given: Sequence[Path] = ()) -> None:
        self.path = state_root() / "sortings.sqlite"
        self._key = key
        self._given = [os.path.abspath(folder) for folder in given]  # noqa: PTH100  no links
        self._known: set[str] = set()
        if self.path.exists():
            with suppress(sqlite3.Error), self._opened() as db:
                query = "SELECT folder FROM origins WHERE sorting = ?"
                self._known.update(os.fsdecode(folder) for (folder,) in db.execute(query, (key,)))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(_TABLE)
            yield db

    def add(self, sources: Iterable[str]) -> None:
        """Keep the folders of these images, before anything is done with them."""
        new = {os.path.dirname(source) for source in sources} - self._known  # noqa: PTH120
        if not new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as db:
            rows = ((self._key, os.fsencode(folder)) for folder in new)
            db.executemany("INSERT OR IGNORE INTO origins VALUES (?, ?)", rows)
        self._known |= new

    def holds(self, source: str) -> bool:
        """Whether an image was taken from there."""
        return self._found(source) is not None

    @contextmanager
    def place(self, source: str, *, make: bool = False) -> Iterator[Placement]:
        """Yield the place that an image was taken from; ``make`` its folder where it is gone."""
        found = self._found(source)
        if found is None:
            raise PermissionError(f"no image was taken from {source}")
        root, folders, name = found
        if make:
            Path(root).mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            folder = stack.enter_context(ConfinedDir(Path(root)))
            for each in folders:
                folder = stack.enter_context(folder.folder(each, make=make))
            yield Placement(folder, name)

    def _found(self, source: str) -> tuple[str, list[str], str] | None:
        """A folder that may be used, the folders below it, and the image's name."""
        parent, name = os.path.split(source)
        if not os.path.isabs(source) or name in {"", ".", ".."}:  # noqa: PTH117
            return None
        if parent in self._known:
            return parent, [], name
        whole = os.path.normpath(source)
        for root in self._given:
            if whole.startswith(root.rstrip(os.sep) + os.sep):
                *folders, name = Path(os.path.relpath(whole, root)).parts
                return root, folders, name
        return None

    def forget(self) -> None:
        """Remove what is known of a sorting that was taken back."""
        if self.path.exists():
            with suppress(sqlite3.Error), self._opened() as db:
                db.execute("DELETE FROM origins WHERE sorting = ?", (self._key,))
