"""The table of runs, reread on change."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

from opsin.core.artifacts.records import IMPORTED, RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RecordedRecipe, RunSummary, summarise
from opsin.core.errors import OpsinError, RunError
from opsin.core.files import MISSING, FileStamp, file_stamp
from opsin.core.recipe import SPLIT, ClassicalName, DataRecipe
from opsin.core.recipe_options import options_of
from opsin.studio.errors import NotThere
from opsin.studio.people import record, require
from opsin.studio.trash import KEPT, Removed, Trash

#: Options for splitting images.
SPLIT_OPTIONS: Final = tuple(
    name for name, option in options_of(DataRecipe).items() if option.group == SPLIT
)
# Most seconds of a remaining time to show.
_LONGEST: Final = 1e7
# Files of a row, which is reread only when one of these changes.
_FILES: Final = ("recipe.json", "status.json", "history.jsonl", "report.json", "notes.json")
# Models fitted in one go: they cannot be paused or resumed.
_IN_ONE_GO: Final = frozenset((*get_args(ClassicalName), IMPORTED))
# Those of them that are networks.
_NETWORKS: Final = frozenset(("backbone", IMPORTED))

Stamp = tuple[FileStamp, ...]


def opaque(text: str | os.PathLike[str]) -> str:
    """Return a name's id for URLs, the same after every start."""
    return hashlib.blake2s(os.fsencode(text), digest_size=8).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RunRow(RunSummary):
    """A run in the studio's table: its summary in valid UTF-8."""

    id: str
    folder: str
    disk_bytes: int = 0
    progress: RunStatus | None = None
    #: Where its images lie: names, or absolute paths.
    places: tuple[str, ...] = ()
    given_name: str = ""
    number: int = 0  # of its project; 0 if it was not given one
    has_classifier: bool = False
    stamp: Stamp = ()

    @property
    def source(self) -> str | None:
        """Its sources; of paths only the last parts."""
        return " + ".join(Path(source).name or source for source in self.sources) or None

    @property
    def in_steps(self) -> bool:
        """Whether it is trained in steps, and so can be paused and resumed."""
        return self.model is not None and self.model not in _IN_ONE_GO

    @property
    def has_layers(self) -> bool:
        """Whether it has a network to inspect."""
        return self.in_steps or self.model in _NETWORKS


def stamp_of(path: Path) -> Stamp:
    """Return the stamps of a row's files."""
    # Strings, since paths would take most of the time.
    return tuple(file_stamp(f"{path}/{name}", follow_links=False) for name in _FILES)


def read_row(path: Path, stamp: Stamp) -> RunRow:
    """Read a run's row; damaged files give the state `damaged` and a cause."""
    run = RunDirectory(path)
    summary = summarise(run)
    row = RunRow(
        **vars(summary)
        | {
            "id": opaque(path.name),
            "folder": path.name,
            "name": _in_utf8(summary.name or path.name),
            "given_name": _in_utf8(summary.name),
            "number": _number(run),
            "places": _places(run, summary),
            "has_classifier": summary.state != "running" and run.classifier.is_file(),
            "note": _in_utf8(summary.note),
            "sources": tuple(map(_in_utf8, summary.sources)),
            "model": None if summary.model is None else _in_utf8(summary.model),
            "started": stamp[0].mtime_ns / 1e9 if summary.started is None else summary.started,
            "disk_bytes": sum(
                file_stamp(f"{folder}/{name}", follow_links=False).size
                for folder, _, names in os.walk(path)
                for name in names
            ),
            "stamp": stamp,
        }
    )
    try:
        history = run.read_history() if row.state != "damaged" else []
    except OpsinError as error:
        row = replace(row, state="damaged", cause=str(error))
    else:
        lengths = [epoch.seconds for epoch in history if math.isfinite(epoch.seconds)]
        if row.state == "running":
            row = replace(row, progress=read_progress(run))
        elif row.seconds is None and lengths:
            row = replace(row, seconds=sum(lengths))
    if row.cause is None:
        return row
    # Pages show no paths.
    cause = row.cause.replace(f"{path}{os.sep}", "").replace(str(path), path.name)
    return replace(row, cause=_in_utf8(cause))


def _places(run: RunDirectory, summary: RunSummary) -> tuple[str, ...]:
    """The sources of a run, by absolute paths where they are recorded."""
    with contextlib.suppress(OpsinError):
        if run.dataset.is_file() and (sources := run.location().sources):
            return tuple(map(_in_utf8, sources))
    return tuple(map(_in_utf8, summary.sources))


def _number(run: RunDirectory) -> int:
    with contextlib.suppress(OpsinError):
        return run.read_notes().number
    return 0


def read_progress(run: RunDirectory) -> RunStatus | None:
    """A training's progress, limited to what can be shown; ``None`` if it tells of none."""
    with contextlib.suppress(RunError):
        status = RunStatus.read(run.status)
        if status.doing is not None:
            share = None if status.share is None else min(1.0, status.share)
            left = None if status.left is None or status.left > _LONGEST else status.left
            return status.model_copy(update={"share": share, "left": left})
    return None


def _in_utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class RunIndex:
    """The runs below a folder, cached in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._trash = Trash(self.root)
        # Replaced by each scan, so that pages read it without a lock; newest first.
        self._rows: dict[str, RunRow] = {}
        self._guard = threading.Lock()
        #: Incremented on each change of the table.
        self.version = 0
        #: Whether the first scan is done.
        self.scanned = False

    def scan(self) -> set[str]:
        """Reread changed runs; called in a thread each second."""
        with self._guard:
            rows: dict[str, RunRow] = {}
            for folder in _folders(self.root):
                row = self._rows.get(opaque(folder))
                stamp = stamp_of(self.root / folder)
                if stamp[0] == MISSING:  # no recipe: not a run, or not yet
                    continue
                # A running one's process may have died silently.
                if row is None or row.stamp != stamp or row.state == "running":
                    row = read_row(self.root / folder, stamp)
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
        """Return the row of a run by its directory's name, if there is one."""
        return self._rows.get(opaque(folder))

    def row(self, id: str) -> RunRow:  # noqa: A002  the word that everybody uses for it
        """Return a run's row as of the last scan; a newer run's is read now, but not cached."""
        if (row := self._rows.get(id)) is not None:
            return row
        path = next((self.root / name for name in _folders(self.root) if opaque(name) == id), None)
        if path is None or (stamp := stamp_of(path))[0] == MISSING:
            raise NotThere("There is no such classifier", "Go back to your projects.")
        return read_row(path, stamp)

    def get(self, id: str) -> RunDirectory:  # noqa: A002
        """Return a run's directory."""
        directory = RunDirectory(self.root / self.row(id).folder)
        directory.check_own()
        return directory

    def opened(self, id: str) -> tuple[RunRow, RunDirectory]:  # noqa: A002
        """Return a run's row and its directory."""
        return self.row(id), self.get(id)

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

    def delete(self, id: str) -> str:  # noqa: A002
        """Remove a run; its files are kept for a week."""
        require("owner")
        row = self.row(id)
        run = RunDirectory(self.root / row.folder)
        state = "damaged"
        with contextlib.suppress(RunError):  # a damaged one may go
            state, _ = run.state()
        if state == "running":
            raise RunError(f"{run.path.name} is being trained", "Stop it first.")
        token = self._trash.put(run.path.name)
        record(f"removed the classifier {row.name}")
        self.scan()
        return token

    def deleted(self) -> list[Removed]:
        """Return the runs that can be restored, the last deleted first."""
        items = []
        for item in self._trash.removed():
            name = ""
            with contextlib.suppress(OpsinError, OSError):  # a damaged one gets its folder's
                name = RunDirectory(self._trash.path / item.token).read_notes().name
            items.append(replace(item, name=name or item.folder))
        return items

    def restore(self, token: str) -> str:
        """Restore a deleted run, and return its id."""
        require("owner")
        removed = self._trash.get(token)
        if (self.root / removed.folder).exists():
            raise RunError(f"There is another run {removed.folder}", "Rename or delete it.")
        self._trash.restore(removed)
        record(f"restored the classifier {removed.folder}")
        self.scan()
        return opaque(removed.folder)

    def write_notes(self, id: str, **notes: str) -> None:  # noqa: A002
        """Change a run's name or note."""
        require("owner")
        self.get(id).write_notes(name=notes.get("name"), note=notes.get("note"))
        record(f"changed the {' and the '.join(notes)} of the classifier {self.row(id).name}")
        self.scan()

    def sweep(self, kept: float = KEPT) -> None:
        """Delete for good the runs removed at least ``kept`` seconds ago."""
        require("owner")
        self._trash.sweep(kept)


def _folders(root: Path) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".")]
    return []


def _shown(row: RunRow | None) -> RunRow | None:
    return None if row is None else replace(row, stamp=(), disk_bytes=0, progress=None)
