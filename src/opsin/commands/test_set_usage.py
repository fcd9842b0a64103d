"""A run's own images among others, and how often its test set was looked at."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Bools, Ints
from opsin.core.artifacts.records import DatasetRecord, LoggedEvaluation
from opsin.core.artifacts.run_directory import RunDirectory, find_runs
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.errors import ImageError, RunError, StorageError
from opsin.core.events import Watcher
from opsin.data.cache import short_digest
from opsin.runtime.prediction import Prediction

if TYPE_CHECKING:  # a prediction takes note of a look, and needs no sources
    from opsin.core.artifacts.run_report import Leaks
    from opsin.data.dataset import Dataset
    from opsin.runtime.classifier import Classifier

_One = TypeVar("_One")


def key_of(digests: NDArray[np.uint8], rows: Ints) -> str | None:
    """Return what tells a test set from others, by its images' content; ``None`` for none."""
    if not len(rows):
        return None
    return hashlib.sha256(b"".join(sorted(map(bytes, digests[rows])))).hexdigest()[:32]


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
            watcher.note(f"this look is not counted in {directory.path}: {error.message}")
    return count_looks(directory, key) + unkept


def leaks_of(dataset: Dataset) -> Leaks:
    """Return how many test images have a copy among the others."""
    from opsin.core.artifacts.run_report import Leaks  # noqa: PLC0415  no prediction needs a report

    exact, near = dataset.leaks
    return Leaks(exact=exact, near=near, all_copied=dataset.test_is_copied)


def looks_in_words(looks: int) -> str:
    """Say how often a test set was looked at."""
    return (
        f"looked at {looks:,} times by the runs of this folder" if looks > 1 else "looked at once"
    )


@dataclass(frozen=True)
class OwnImages:
    """A run's images by the hash of their prepared pixels."""

    run: RunDirectory  # the run
    train: frozenset[bytes]  # digests of training images
    val: frozenset[bytes]  # digests of validation images
    test: frozenset[bytes]  # digests of test images that are in neither
    key: str | None  # identity of its test set (`key_of`), or ``None`` without one

    @classmethod
    def of(cls, classifier: Classifier) -> OwnImages | None:
        """Read them from a file's run, or return ``None`` without one."""
        run = RunDirectory(classifier.path.parent)
        if not run.split.is_file():
            return None
        split = run.load_arrays(run.split)
        digests = split["digests"]
        parts = (digests[split[part]] for part in ("train", "val", "test"))
        train, val, test = (frozenset(map(bytes, part)) for part in parts)
        return cls(run, train, val, test - train - val, key_of(digests, split["test"]))

    def among(self, digests: NDArray[np.uint8]) -> tuple[Bools, Bools, Bools]:
        """Tell which images are training, validation and test ones, ``bool[N]`` each."""
        short, parts = [*map(bytes, short_digest(digests))], (self.train, self.val, self.test)
        train, val, test = (np.array([key in part for key in short], bool) for part in parts)
        return train, val, test

    def groups(self, digests: NDArray[np.uint8]) -> Ints:
        """Return the units of the run's split, ``int64[N]``; other images get their own."""
        known: dict[bytes, int] = {}
        with contextlib.suppress(RunError):  # stopped before it was evaluated
            of_run = self.run.load_arrays(self.run.split)["digests"]
            for _, kept in RunPredictions.read(self.run):
                if kept.groups is not None:
                    keys = map(bytes, of_run[kept.rows])
                    known.update(zip(keys, kept.groups.tolist(), strict=True))
        short = enumerate(map(bytes, short_digest(digests)))
        return np.array([known.get(key, -1 - row) for row, key in short], np.int64)


def noting_looks(
    answers: Iterator[tuple[_One, Prediction | ImageError]],
    classifier: Classifier,
    watcher: Watcher,
    *,
    inputs: str | None = None,
) -> Generator[tuple[_One, Prediction | ImageError]]:
    """Pass answers through; note those to the run's own test images as one look."""
    run_images = None
    with contextlib.suppress(RunError):  # a damaged run's file still answers
        run_images = OwnImages.of(classifier)
    if run_images is None or not run_images.test:
        yield from answers
        return
    seen: set[bytes] = set()
    try:
        for item, answer in answers:
            if isinstance(answer, Prediction):
                (short,) = short_digest(np.frombuffer(answer.digest, np.uint8)[None])
                digest = short.tobytes()
                if digest in run_images.test:
                    seen.add(digest)
            yield item, answer
    finally:
        if seen:
            looks = looks_in_words(
                note_look(run_images.run, run_images.key, len(seen), None, inputs, watcher=watcher)
            )
            watcher.note(
                f"{len(seen):,} of these are the run's own test images, by now {looks}: who "
                "chooses by them can no longer test by them"
            )
