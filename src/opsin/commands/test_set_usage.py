"""How often a test set was looked at: each look spends a little of it."""

from __future__ import annotations

import contextlib
import hashlib
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import DatasetRecord, LoggedEvaluation
from opsin.core.artifacts.run_directory import RunDirectory, find_runs
from opsin.core.errors import RunError, StorageError
from opsin.core.events import Watcher

if TYPE_CHECKING:  # a prediction takes note of a look, and needs no sources
    from opsin.core.artifacts.run_report import Leaks
    from opsin.data.dataset import Dataset


def key_of(digests: NDArray[np.uint8], rows: NDArray[np.int64]) -> str | None:
    """Return what tells a test set from others, by its images' content; ``None`` for none."""
    if not len(rows):
        return None
    return hashlib.sha256(b"".join(sorted(digests[row].tobytes() for row in rows))).hexdigest()[:32]


def count_looks(directory: RunDirectory, key: str | None) -> int:
    """Count how often runs beside this one, itself included, have looked at a test set."""
    looks = 0
    for run in find_runs(directory.path.parent) if key else ():
        with contextlib.suppress(RunError, OSError):
            looked = run.report.is_file() or run.path == directory.path
            looks += looked and run.read(DatasetRecord).test_set == key
            noted = [look.inputs for look in run.lines(LoggedEvaluation) if look.test_set == key]
            looks += noted.count(None) + len({*noted} - {None})
    return looks


def note_look(
    directory: RunDirectory,
    key: str | None,
    images: int,
    accuracy: float | None,
    inputs: str | None = None,
    *,
    watcher: Watcher,
) -> int:
    """Keep in a run that its file was evaluated on test images once more; count the looks."""
    unkept = 0
    if key is not None and directory.recipe.is_file():
        look = LoggedEvaluation(
            time=time.time(), test_set=key, images=images, accuracy=accuracy, inputs=inputs
        )
        try:
            directory.append(look)
        except StorageError as error:
            unkept = 1
            watcher.note(
                f"this look at the test images is not counted in {directory.path}: {error.message}"
            )
    return count_looks(directory, key) + unkept


def leaks_of(dataset: Dataset) -> Leaks:
    """Return how many test images have a copy among the others."""
    from opsin.core.artifacts.run_report import Leaks  # noqa: PLC0415  no prediction needs a report

    exact, near = dataset.leaks
    return Leaks(exact=exact, near=near, all_copied=dataset.test_is_copied)


def looks_in_words(looks: int) -> str:
    """Say how often a test set was looked at."""
    return (
        "looked at once" if looks <= 1 else f"looked at {looks:,} times by the runs of this folder"
    )
