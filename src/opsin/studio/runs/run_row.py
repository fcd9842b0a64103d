"""A run's row, from its plain files."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

from opsin.core.artifacts.records import IMPORTED
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RunSummary, summarise
from opsin.core.errors import OpsinError
from opsin.core.files import FileStamp, file_stamp
from opsin.core.recipe import ClassicalName
from opsin.report.terminal import corrected_in_words
from opsin.studio.jobs.progress import Progress, progress_of

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
        return " + ".join(map(_short, self.sources)) or None

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
    run, summary = RunDirectory(path), summarise(RunDirectory(path))
    row = RunRow(
        **vars(summary)
        | {
            "id": opaque(path.name),
            "folder": path.name,
            "name": _shown(summary.name or path.name),
            "note": _shown(summary.note),
            "cause": None if summary.cause is None else _shown(summary.cause),
            "sources": tuple(map(_shown, summary.sources)),
            "model": None if summary.model is None else _shown(summary.model),
            "started": stamp[0].mtime_ns / 1e9 if summary.started is None else summary.started,
            "disk_bytes": _size(path),
            "stamp": stamp,
        }
    )
    if row.state != "damaged":
        try:
            row = replace(row, curve=_curve(run))
            if row.state == "running":
                row = replace(row, progress=progress_of(run))
            if row.seconds is None and row.state != "running":
                row = replace(row, seconds=_seconds(run))
        except OpsinError as error:
            row = replace(row, state="damaged", cause=_shown(str(error)))
    return _without_place(row, path)


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def with_state(row: RunRow, run: RunDirectory) -> RunRow:
    """Return a row with the run's state as it is now."""
    try:
        state, cause = run.state()
        row = replace(row, state=state, cause=cause)
    except (OpsinError, OSError) as error:
        row = replace(row, state="damaged", cause=str(error))
    if row.state != "running":
        row = replace(row, progress=None)
    return _without_place(row, run.path)


def _without_place(row: RunRow, path: Path) -> RunRow:
    """Return the row with a cause that does not say where the run lies: pages show no paths."""
    if row.cause is None:
        return row
    cause = row.cause.replace(f"{path}{os.sep}", "").replace(str(path), path.name)
    return replace(row, cause=cause)


def _short(source: str) -> str:
    return Path(source).name or source


def _seconds(run: RunDirectory) -> float | None:
    lengths = [epoch.seconds for epoch in run.read_history() if math.isfinite(epoch.seconds)]
    return sum(lengths) if lengths else None


def _curve(run: RunDirectory) -> tuple[float, ...]:
    """Return validation accuracy over the epochs; of a long training evenly chosen ones."""
    points = [epoch.val_accuracy for epoch in run.read_history()]
    return tuple(thin([each for each in points if math.isfinite(each)], CURVE))


def thin(points: Sequence[float], most: int) -> list[float]:
    """Return at most ``most`` of the points, evenly spaced, with the first and the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def _size(path: Path) -> int:
    total, folders = 0, [str(path)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    return total
