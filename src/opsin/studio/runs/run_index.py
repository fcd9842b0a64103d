"""The table of runs, read where it changed."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, RunError
from opsin.core.files import MISSING
from opsin.core.recipe import SPLIT, DataRecipe
from opsin.core.recipe_options import options_of
from opsin.studio.errors import NotThere
from opsin.studio.runs.run_row import RunRow, opaque, read_row, stamp_of, with_state
from opsin.studio.trash import KEPT, Removed, Trash

__all__ = ["RunIndex", "RunRow", "opaque"]

#: Options that say how images are split.
SPLIT_OPTIONS: Final = tuple(
    name for name, option in options_of(DataRecipe).items() if option.group == SPLIT
)


class RunIndex:
    """The runs below a folder, kept in memory and disposable: the directories are the truth."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._trash = Trash(self.root)
        # Replaced as a whole by each scan, so that pages read it without waiting: newest first.
        self._rows: dict[str, RunRow] = {}
        self._guard = threading.Lock()
        #: Goes up whenever something that the table shows has changed.
        self.version = 0
        #: Whether the directories were looked at yet.
        self.scanned = False

    def scan(self) -> set[str]:
        """Read again what changed on the disk; called in a thread each second."""
        with self._guard:
            rows: dict[str, RunRow] = {}
            for folder in _folders(self.root):
                row = self._rows.get(opaque(folder))
                stamp = stamp_of(self.root / folder)
                if stamp[0] == MISSING:  # no recipe: no run, or not yet
                    continue
                if row is None or row.stamp != stamp:
                    row = read_row(self.root / folder, stamp)
                elif row.state == "running":
                    # Its process may have gone without a word.
                    row = with_state(row, RunDirectory(self.root / folder))
                rows[row.id] = row
            newest = sorted(rows.values(), key=lambda row: row.started or 0.0, reverse=True)
            before, self._rows, self.scanned = self._rows, {row.id: row for row in newest}, True
            changed = {
                id_ for id_ in before.keys() | rows.keys() if before.get(id_) != rows.get(id_)
            }
            if any(_shown(before.get(id_)) != _shown(rows.get(id_)) for id_ in changed):
                self.version += 1
        return changed

    def rows(self) -> list[RunRow]:
        """Return all runs, the newest first, as of the last scan."""
        return list(self._rows.values())

    def find(self, folder: str) -> RunRow | None:
        """Return the row of a run by its directory's name, or ``None`` where there is none."""
        return self._rows.get(opaque(folder))

    def row(self, id: str) -> RunRow:  # noqa: A002  the word that everybody uses for it
        """Return one run's row, as of the last scan; that of a newer run is read now."""
        row = self._rows.get(id) or self._read(id)
        if row is None:
            raise NotThere("a run", "there is none of this number", "See the table of runs.")
        return row

    def _read(self, id: str) -> RunRow | None:  # noqa: A002
        """Read the row of a run that was started since the last scan, which alone keeps rows."""
        for folder in _folders(self.root):
            if opaque(folder) == id:
                stamp = stamp_of(self.root / folder)
                return None if stamp[0] == MISSING else read_row(self.root / folder, stamp)
        return None

    def get(self, id: str) -> RunDirectory:  # noqa: A002
        """Return a run's directory."""
        directory = RunDirectory(self.root / self.row(id).folder)
        directory.check_own()
        return directory

    def opened(self, id: str) -> tuple[RunRow, RunDirectory]:  # noqa: A002
        """Return a run's row and its directory, as `row` and `get` do."""
        return self.row(id), self.get(id)

    def last_of(self, recipe: DataRecipe) -> RunDirectory | None:
        """The newest run of the same images that split them alike."""
        same = ("sources", "test", "classes", *SPLIT_OPTIONS)
        for row in self.rows():
            directory = RunDirectory(self.root / row.folder)
            with contextlib.suppress(OpsinError):
                before = directory.read(RecordedRecipe).data
                alike = all(getattr(before, name) == getattr(recipe, name) for name in same)
                # One that was judged by all its images has no parts.
                if alike and "fold" not in directory.load_arrays(directory.split):
                    return directory
        return None

    def delete(self, id: str) -> str:  # noqa: A002
        """Take a run out of the table; its files are kept for a week."""
        run = RunDirectory(self.root / self.row(id).folder)
        state = "damaged"
        with contextlib.suppress(RunError):  # such a one may go
            state, _ = run.state()
        if state == "running":
            raise RunError(
                "a run that is over", f"{run.path.name} is being trained", "Stop it first."
            )
        token = self._trash.put(run.path.name)
        self.scan()
        return token

    def deleted(self) -> list[Removed]:
        """Return the runs that can be restored, the last deleted first."""
        found = []
        for each in self._trash.removed():
            name = ""
            with contextlib.suppress(OpsinError, OSError):  # a damaged one has its folder's
                name = RunDirectory(self._trash.path / each.token).read_notes().name
            found.append(replace(each, name=name or each.folder))
        return found

    def restore(self, token: str) -> str:
        """Take a deletion back, and return the run's number."""
        for each in self._trash.removed():
            if each.token == token:
                if (self.root / each.folder).exists():
                    raise RunError(
                        "a free name", f"there is another run {each.folder}", "Rename or delete it."
                    )
                self._trash.restore(each)
                self.scan()
                return opaque(each.folder)
        raise NotThere("a run that was deleted", "it is gone for good", "Train it again.")

    def sweep(self, kept: float = KEPT) -> None:
        """Remove for good the runs that were deleted at least ``kept`` seconds ago."""
        self._trash.sweep(kept)


def _folders(root: Path) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".")]
    return []


def _shown(row: RunRow | None) -> RunRow | None:
    return None if row is None else replace(row, stamp=(), disk_bytes=0, progress=None)
