"""The table of runs, reread on change."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from opsin.core.artifacts.records import IMPORTED, RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RecordedRecipe, RunSummary, summarise
from opsin.core.errors import OpsinError, RunError
from opsin.core.files import FileStamp, file_stamp, free_name
from opsin.core.recipe import SPLIT, ClassicalName, DataRecipe
from opsin.core.recipe_options import options_of
from opsin.studio.errors import NotThere
from opsin.studio.people import record, require
from opsin.studio.trash import KEPT, Removed, Trash
from opsin.studio.words import opaque

#: Options for splitting images.
SPLIT_OPTIONS: Final = tuple(
    name for name, option in options_of(DataRecipe).items() if option.group == SPLIT
)
# Files of a row, which is reread only when one of these changes.
_FILES: Final = ("recipe.json", "status.json", "history.jsonl", "report.json", "notes.json")
# Models fitted in one go: they cannot be resumed.
_IN_ONE_GO: Final = frozenset((*get_args(ClassicalName), IMPORTED))
Stamp = tuple[FileStamp, ...]


@dataclass(frozen=True, kw_only=True)
class RunRow(RunSummary):
    """A run in the studio's tables: its summary in valid UTF-8, and more."""

    id: str
    folder: str
    #: Where its images lie: names, or absolute paths.
    places: tuple[str, ...] = ()
    given_name: str = ""
    number: int = 0  # of its project; 0 if it was not given one
    has_classifier: bool = False
    # Of no interest to pages that show it.
    progress: RunStatus | None = field(default=None, compare=False)
    stamp: Stamp = field(default=(), compare=False)

    @property
    def source(self) -> str | None:
        """Its sources; of paths only the last parts."""
        return " + ".join(Path(source).name or source for source in self.sources) or None

    @property
    def in_steps(self) -> bool:
        """Whether it is trained in steps, and so can be resumed."""
        return self.model is not None and self.model not in _IN_ONE_GO


def read_row(path: Path) -> RunRow:
    """Read a run's row; damaged files give the state `damaged` and a cause."""
    stamp, run = _stamp(path), RunDirectory(path)
    summary = summarise(run)
    number, places = 0, summary.sources
    with contextlib.suppress(OpsinError):
        number = run.read_notes().number
        if run.dataset.is_file():
            places = tuple(run.location().sources) or places
    # Pages show no paths.
    cause = (summary.cause or "").replace(f"{path}{os.sep}", "").replace(str(path), path.name)
    values = vars(summary) | {"name": summary.name or path.name, "cause": cause or None}
    values["started"] = summary.started or stamp[0].mtime_ns / 1e9
    return RunRow(
        **{name: _in_utf8(value) for name, value in values.items()},
        id=opaque(path.name),
        folder=path.name,
        given_name=_in_utf8(summary.name),
        number=number,
        places=_in_utf8(places),
        stamp=stamp,
        has_classifier=summary.state != "running" and run.classifier.is_file(),
        progress=read_progress(run) if summary.state == "running" else None,
    )


def _stamp(path: Path) -> Stamp:
    # Strings, since paths would take most of the time.
    return tuple(file_stamp(f"{path}/{name}", follow_links=False) for name in _FILES)


def _in_utf8(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_in_utf8, value))
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def read_progress(run: RunDirectory) -> RunStatus | None:
    """A training's progress, limited to what can be shown; ``None`` if it tells of none."""
    with contextlib.suppress(RunError):
        status = RunStatus.read(run.status)
        if status.doing is not None:
            share = None if status.share is None else min(1.0, status.share)
            left = None if status.left is None or status.left > 1e7 else status.left
            return status.model_copy(update={"share": share, "left": left})
    return None


class RunIndex:
    """The runs below a folder, cached in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._trash = Trash(self.root)
        # Replaced by each scan, so that pages read it without a lock; newest first.
        self._rows: dict[str, RunRow] = {}
        self._guard = threading.Lock()
        #: Whether the first scan is done.
        self.scanned = False

    def scan(self) -> bool:
        """Reread changed runs, each second, in a thread; whether pages show other rows now."""
        with self._guard:
            rows = dict[str, RunRow]()
            for id_, path in _runs(self.root).items():
                row = self._rows.get(id_)
                # A running one's process may have died silently.
                if row is None or row.state == "running" or row.stamp != _stamp(path):
                    row = read_row(path)
                rows[id_] = row
            newest = sorted(rows.values(), key=lambda row: row.started or 0.0, reverse=True)
            before, self._rows, self.scanned = self._rows, {row.id: row for row in newest}, True
            return before != self._rows

    def rows(self) -> list[RunRow]:
        """Return all runs, the newest first, as of the last scan."""
        return list(self._rows.values())

    def find(self, folder: str) -> RunRow | None:
        """Return the row of a run by its directory's name, if there is one."""
        return self._rows.get(opaque(folder))

    def row(self, id: str) -> RunRow:  # noqa: A002  the word that everybody uses for it
        """Return a run's row as of the last scan; a newer run's is read now, but not cached."""
        if (row := self._rows.get(id)) is not None:
            return row
        if (path := _runs(self.root).get(id)) is None:
            raise NotThere("There is no such classifier", "Go back to your projects.")
        return read_row(path)

    def get(self, id: str) -> RunDirectory:  # noqa: A002
        """Return a run's directory."""
        directory = RunDirectory(self.root / self.row(id).folder)
        directory.check_own()
        return directory

    def last_of(self, recipe: DataRecipe) -> RunDirectory | None:
        """The newest run with the same images and split."""
        same = ("sources", "test", "classes", *SPLIT_OPTIONS)
        for row in self.rows():
            directory = RunDirectory(self.root / row.folder)
            with contextlib.suppress(OpsinError):
                before = directory.read(RecordedRecipe).data
                alike = all(getattr(before, name) == getattr(recipe, name) for name in same)
                # Cross-validated runs have no parts.
                if alike and "fold" not in directory.load_arrays(directory.split):
                    # Images that all judge are not parted either, also next time.
                    return None if row.split == "out_of_fold" else directory
        return None

    def delete(self, id: str, token: str = "") -> str:  # noqa: A002
        """Remove a run; the token restores it for a week, with others of the same."""
        require("owner")
        row = self.row(id)
        run = RunDirectory(self.root / row.folder)
        state = "damaged"
        with contextlib.suppress(RunError):  # a damaged one may go
            state, _ = run.state()
        if state == "running":
            raise RunError(f"{run.path.name} is being trained", "Stop it first.")
        token = self._trash.put(run.path.name, token)
        record(f"removed the classifier {row.name}")
        self.scan()
        return token

    def deleted(self) -> list[Removed]:
        """Return the runs that can be restored, the last deleted first."""
        return self._trash.removed(lambda place: RunDirectory(place).read_notes().name)

    def restore(self, token: str) -> None:
        """Restore the runs of a token, under other names where newer ones took theirs."""
        require("owner")
        for removed in self._trash.get(token):
            name = free_name(removed.folder, lambda name: os.path.lexists(self.root / name))
            self._trash.restore(removed, name)
            record(f"restored the classifier {name}")
        self.scan()

    def rename(self, id: str, name: str) -> None:  # noqa: A002
        """Give a run a name of its own, or take it away."""
        require("owner")
        self.get(id).write_notes(name=name)
        record(f"changed the name of the classifier {self.row(id).name}")
        self.scan()

    def sweep(self, kept: float = KEPT) -> None:
        """Delete for good the runs removed at least ``kept`` seconds ago."""
        require("owner")
        self._trash.sweep(kept)


def _runs(root: Path) -> dict[str, Path]:
    """The folders with a recipe, by id."""
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        return {
            opaque(entry.name): root / entry.name
            for entry in entries
            if not entry.name.startswith(".") and os.path.lexists(f"{entry.path}/recipe.json")
        }
    return {}
