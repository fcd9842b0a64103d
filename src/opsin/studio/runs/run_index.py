"""The table of runs, read where it changed."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.records import IMPORTED
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RunSummary, summarise
from opsin.core.errors import OpsinError, RunError
from opsin.core.files import MISSING, FileStamp, file_stamp
from opsin.core.recipe import SPLIT, ClassicalName, DataRecipe
from opsin.core.recipe_options import options_of
from opsin.report.terminal import corrected_in_words
from opsin.studio.errors import NotThere
from opsin.studio.jobs.progress import Progress, progress_of
from opsin.studio.trash import KEPT, Removed, Trash

#: Options that say how images are split.
SPLIT_OPTIONS: Final = tuple(
    name for name, option in options_of(DataRecipe).items() if option.group == SPLIT
)
#: Points that a run's small curve has at most.
CURVE: Final = 40
# What a row is read from: a row is read again only when one of these changed.
_FILES: Final = ("recipe.json", "status.json", "history.jsonl", "report.json", "notes.json")
# Models that are fitted in one go: nothing to pause, nothing to go on from.
_IN_ONE_GO: Final = frozenset((*get_args(ClassicalName), IMPORTED))
# Those of them that are networks.
_NETWORKS: Final = frozenset(("backbone", IMPORTED))

Stamp = tuple[FileStamp, ...]


def opaque(text: str | os.PathLike[str]) -> str:
    """Return a number that stands for a name in addresses: the same one after every start."""
    return hashlib.blake2s(os.fsencode(text), digest_size=8).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RunRow(RunSummary):
    """A run as the studio's table shows it: its summary, in texts that a page can hold."""

    id: str
    folder: str
    curve: tuple[float, ...] = ()
    disk_bytes: int = 0
    progress: Progress | None = None
    stamp: Stamp = ()

    @property
    def source(self) -> str | None:
        """What it was trained on; of paths their last parts."""
        return " + ".join(Path(source).name or source for source in self.sources) or None

    @property
    def corrections(self) -> str:
        """What corrections of labels did to its accuracy, in words."""
        return corrected_in_words(self.corrected, self.split) if self.corrected else ""

    @property
    def in_steps(self) -> bool:
        """Whether it is trained in steps, so that it can be paused and gone on with."""
        return self.model is not None and self.model not in _IN_ONE_GO

    @property
    def has_layers(self) -> bool:
        """Whether there is a network to look into."""
        return self.in_steps or self.model in _NETWORKS


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of each file that a row is read from."""
    # Strings, for building paths would take most of the time. Links are no files of a run.
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
            "note": _in_utf8(summary.note),
            "sources": tuple(map(_in_utf8, summary.sources)),
            "model": None if summary.model is None else _in_utf8(summary.model),
            "started": stamp[0].mtime_ns / 1e9 if summary.started is None else summary.started,
            "disk_bytes": _size(path),
            "stamp": stamp,
        }
    )
    if row.state != "damaged":
        try:
            history = run.read_history()
        except OpsinError as error:
            row = replace(row, state="damaged", cause=str(error))
        else:
            points = [epoch.val_accuracy for epoch in history]
            curve = thin([point for point in points if math.isfinite(point)], CURVE)
            row = replace(row, curve=tuple(curve))
            lengths = [epoch.seconds for epoch in history if math.isfinite(epoch.seconds)]
            if row.state == "running":
                row = replace(row, progress=progress_of(run))
            elif row.seconds is None and lengths:
                row = replace(row, seconds=sum(lengths))
    if row.cause is None:
        return row
    # Pages show no paths.
    cause = row.cause.replace(f"{path}{os.sep}", "").replace(str(path), path.name)
    return replace(row, cause=_in_utf8(cause))


def _in_utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def thin(points: Sequence[float], most: int) -> list[float]:
    """Return at most ``most`` of the points, evenly spaced, with the first and the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def _size(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
    return total


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
                # The process of one that runs may have gone without a word.
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
        """Return the row of a run by its directory's name, or ``None`` where there is none."""
        return self._rows.get(opaque(folder))

    def row(self, id: str) -> RunRow:  # noqa: A002  the word that everybody uses for it
        """Return one run's row, as of the last scan; that of a newer run is read now."""
        row = self._rows.get(id) or self._read(id)
        if row is None:
            raise NotThere("There is no such run", "See the table of runs.")
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
            raise RunError(f"{run.path.name} is being trained", "Stop it first.")
        token = self._trash.put(run.path.name)
        self.scan()
        return token

    def deleted(self) -> list[Removed]:
        """Return the runs that can be restored, the last deleted first."""
        items = []
        for item in self._trash.removed():
            name = ""
            with contextlib.suppress(OpsinError, OSError):  # a damaged one has its folder's
                name = RunDirectory(self._trash.path / item.token).read_notes().name
            items.append(replace(item, name=name or item.folder))
        return items

    def restore(self, token: str) -> str:
        """Take a deletion back, and return the run's number."""
        removed = self._trash.get(token)
        if (self.root / removed.folder).exists():
            raise RunError(f"There is another run {removed.folder}", "Rename or delete it.")
        self._trash.restore(removed)
        self.scan()
        return opaque(removed.folder)

    def sweep(self, kept: float = KEPT) -> None:
        """Remove for good the runs that were deleted at least ``kept`` seconds ago."""
        self._trash.sweep(kept)


def _folders(root: Path) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".")]
    return []


def _shown(row: RunRow | None) -> RunRow | None:
    return None if row is None else replace(row, stamp=(), disk_bytes=0, progress=None)
