"""Which images a classifier knows, and how often its test set was looked at."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import DatasetRecord, LoggedEvaluation
from opsin.core.artifacts.run_directory import RunDirectory, find_runs
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.errors import ImageError, OpsinError, RunError, SourceError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.data.cache import as_keys, short_digest
from opsin.data.dataset import Dataset, look_at, read_corrected
from opsin.data.decoded import Decoded
from opsin.data.lazy_images import ReferenceSet
from opsin.data.near_duplicates import SMALLEST, near_duplicates
from opsin.data.run_images import is_moved, load_run_images, recipe_of_run
from opsin.data.sources.named import is_place
from opsin.data.spelling import places_among
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction

if TYPE_CHECKING:
    from opsin.core.artifacts.run_report import Leaks
    from opsin.data.dataset import Dataset
    from opsin.runtime.classifier import Classifier

_One = TypeVar("_One")


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
    directory: RunDirectory, key: str | None, images: int, accuracy: float | None,
    inputs: str | None = None, *, watcher: Watcher,
) -> int:  # fmt: skip
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


@dataclass(frozen=True)
class OwnImages:
    """A run's images by the hash of their prepared pixels.

    Args:
        run: The run.
        train: Digests of training images.
        val: Digests of validation images.
        test: Digests of test images that are in neither.
        key: Identity of its test set (`key_of`), or ``None`` without one.
    """

    run: RunDirectory
    train: frozenset[bytes]
    val: frozenset[bytes]
    test: frozenset[bytes]
    key: str | None

    @classmethod
    def of(cls, classifier: Classifier) -> OwnImages | None:
        """Read them from a file's run, or return ``None`` without one."""
        run = RunDirectory(classifier.path.parent)
        if not run.split.is_file():
            return None
        split = run.load_arrays(run.split)
        digests = split["digests"]
        train, val, test = (
            frozenset(digests[row].tobytes() for row in split[part])
            for part in ("train", "val", "test")
        )
        return cls(run, train, val, test - train - val, key_of(digests, split["test"]))

    def among(
        self, digests: NDArray[np.uint8]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell which images are training, validation and test ones, ``bool[N]`` each."""
        short = [digest.tobytes() for digest in short_digest(digests)]
        train, val, test = (
            np.fromiter((digest in part for digest in short), bool, len(short))
            for part in (self.train, self.val, self.test)
        )
        return train, val, test

    def groups(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the units of the run's split, ``int64[N]``; other images get their own."""
        known: dict[bytes, int] = {}
        with contextlib.suppress(RunError):  # stopped before it was evaluated
            of_run = self.run.load_arrays(self.run.split)["digests"]
            for _, kept in RunPredictions.read(self.run):
                if kept.groups is not None:
                    keys = (digest.tobytes() for digest in of_run[kept.rows])
                    known.update(zip(keys, kept.groups.tolist(), strict=True))
        short = [digest.tobytes() for digest in short_digest(digests)]
        return np.array([known.get(key, -1 - row) for row, key in enumerate(short)], np.int64)


def noting_looks(
    answers: Iterator[tuple[_One, Prediction | ImageError]], classifier: Classifier,
    watcher: Watcher, *, inputs: str | None = None,
) -> Generator[tuple[_One, Prediction | ImageError]]:  # fmt: skip
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


# Bytes of all images that are compared; more would take longer than the evaluation.
_MOST: Final = 512 << 20


def known_images(
    classifier: Classifier,
    sources: Sequence[str | os.PathLike[str]] = (),
    *,
    watcher: Watcher = SILENT,
) -> ReferenceSet:
    """Return the images of a classifier's run, or of other sources."""
    data = _of_run(classifier, sources, watcher)
    is_run = data is not None
    if data is None:
        preparation = classifier.metadata.preparation
        data = look_at(
            *sources, size=(preparation.height, preparation.width), channels=preparation.channels,
            resize=preparation.resize, bits=preparation.bits or 16, watcher=watcher,
        )  # fmt: skip
    class_index = known_classes(classifier, data.classes, data.recipe.source)
    split = data.split
    return ReferenceSet(
        data.images, class_index[data.labels], data.names, split.train, split.val,
        data.recipe.source, split.test, own=is_run, groups=data.units,
    )  # fmt: skip


def known_classes(classifier: Classifier, classes: Sequence[str], source: str) -> NDArray[np.int64]:
    """Return each class's index among the classifier's; raise `SourceError` for others."""
    indices = places_among(classes, classifier.classes)
    foreign = [name for name, index in zip(classes, indices, strict=True) if index < 0]
    if foreign:
        raise SourceError(
            f"{source} also has {', '.join(foreign[:5])}, which the classifier does not know",
            f"Rename folders, or give other images: it knows {', '.join(classifier.classes)}.",
        )
    return np.array(indices, np.int64)


def _of_run(
    classifier: Classifier, sources: Sequence[str | os.PathLike[str]], watcher: Watcher
) -> Dataset | None:
    """Return the images of the file's run, or ``None`` if ``sources`` are others."""
    directory = RunDirectory(classifier.path.parent)
    if sources:
        if not directory.recipe.is_file() or not is_moved(directory):
            return None
        try:
            return load_run_images(directory, sources, watcher=watcher)
        except OpsinError as error:
            watcher.note(f"these are taken for other images than the run's: {error}")
            return None
    if not directory.recipe.is_file():
        raise SourceError(
            f"{classifier.path} lies in no run directory, which would name images that it knows",
            "Name them: --data SOURCE.",
        )
    return load_run_images(directory, watcher=watcher)


def can_compare(images: int, shape: Sequence[int]) -> bool:
    """Tell whether so many images of a shape are searched for near duplicates."""
    return min(shape[:2]) >= SMALLEST and images * math.prod(shape) <= _MOST


def nearly_seen(
    run_images: OwnImages, decoded: Decoded, rows: NDArray[np.int64], watcher: Watcher
) -> NDArray[np.bool_] | None:
    """Tell which images are near duplicates of a run's training images, ``bool[M]``."""
    shape = decoded.images.shape[1:]
    listed = len(decoded.labels) + len(decoded.unreadable)
    if not can_compare(listed, shape):
        return None
    try:
        recipe = recipe_of_run(run_images.run)
        if not all(map(is_place, filter(None, (*recipe.sources, recipe.test)))):
            return None  # which may be on another machine
        known = read_corrected(recipe, watcher=watcher, for_training=False, missing_ok=True)[1]
    except OpsinError:  # they are not at hand
        return None
    if known.images.shape[1:] != shape:
        return None
    train, val, _ = run_images.among(known.digests)
    _, once = np.unique(as_keys(known.digests), return_index=True)
    learnt = once[(train | val)[once]]
    if not can_compare(len(learnt) + listed, shape):
        return None
    near = near_duplicates(
        np.concatenate([known.images[learnt], decoded.images[rows]]),
        np.concatenate([known.digests[learnt], decoded.digests[rows]]),
        mirrored=known.mirrored,
        watcher=watcher,
    )
    one, other = near.pairs.T  # the smaller row first
    keys = as_keys(decoded.digests[rows])
    copies = keys[other[(one < len(learnt)) & (other >= len(learnt))] - len(learnt)]
    return np.isin(keys, copies) & ~np.isin(keys, as_keys(known.digests[learnt]))
