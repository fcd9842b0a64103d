"""Images of a run, recognised by digest: training, validation or test."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.commands.test_set_usage import key_of, looks_in_words, note_look
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.errors import ImageError, RunError
from opsin.core.events import Watcher
from opsin.data.cache import short_digest
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction

_One = TypeVar("_One")


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
