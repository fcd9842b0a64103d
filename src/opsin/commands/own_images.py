"""Which images are a run's own: learnt from, chosen by, its test images, or near duplicates."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.commands.test_set_usage import count_looks, key_of, looks_in_words, note_look
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ImageError, OpsinError, RunError, StorageError
from opsin.core.events import Watcher
from opsin.data.cache import Decoded, as_keys, digest_rows, short_digest
from opsin.data.dataset import read_corrected
from opsin.data.duplicate_groups import near_duplicates
from opsin.data.near_duplicates.find import SMALLEST
from opsin.data.run_images import recipe_of_run
from opsin.data.sources.named import NAMES
from opsin.runtime.classifier import Classifier, Prediction

_One = TypeVar("_One")

# Bytes of all images that are compared; more would take longer than the evaluation.
_MOST: Final = 512 << 20


@dataclass(frozen=True)
class OwnImages:
    """A run's images by the hash of their prepared pixels.

    Args:
        run: The run.
        train: Digests of those it learnt from.
        val: Digests of those it was chosen by.
        test: Digests of its test images that are in neither.
        key: What tells its test set from others (`key_of`); ``None`` where it has none.
    """

    run: RunDirectory
    train: frozenset[bytes]
    val: frozenset[bytes]
    test: frozenset[bytes]
    key: str | None

    @classmethod
    def of(cls, classifier: Classifier) -> OwnImages | None:
        """Read them from the run that a file lies in; ``None`` where it lies in none.

        Raises:
            RunError: The run's files are damaged.
        """
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
        """Tell which images are for training, for validation and for the test, ``bool[N]`` each.

        Args:
            digests: Hash of each image's prepared pixels, ``uint8[N, 32]``.
        """
        short = [digest.tobytes() for digest in short_digest(digests)]
        train, val, test = (
            np.fromiter((digest in part for digest in short), bool, len(short))
            for part in (self.train, self.val, self.test)
        )
        return train, val, test

    def note_look(self, images: int, accuracy: float | None) -> int:
        """Keep in the run that its test images were looked at once more; count the looks."""
        with contextlib.suppress(StorageError):  # a run that may only be read answers all the same
            note_look(self.run, self.key, {"images": images, "accuracy": accuracy})
        return count_looks(self.run, self.key)


def noting_looks(
    answers: Iterator[tuple[_One, Prediction | ImageError]],
    classifier: Classifier,
    watcher: Watcher,
) -> Generator[tuple[_One, Prediction | ImageError]]:
    """Yield answers as they are; count those to the run's own test images, each once, as a look.

    Args:
        answers: Images with their answers.
        classifier: Whose they are.
        watcher: Is told at the end how many there were.
    """
    own = None
    with contextlib.suppress(RunError):  # a damaged run's file still answers
        own = OwnImages.of(classifier)
    if own is None or not own.test:
        yield from answers
        return
    seen: set[bytes] = set()
    try:
        for item, answer in answers:
            if isinstance(answer, Prediction):
                digest = short_digest(digest_rows(answer.pixels[None]))[0].tobytes()
                if digest in own.test:
                    seen.add(digest)
            yield item, answer
    finally:
        if seen:
            looks = looks_in_words(own.note_look(len(seen), None))
            watcher.note(
                f"{len(seen):,} of these are the run's own test images, by now {looks}: who "
                "chooses by them can no longer test by them"
            )


def nearly_seen(
    own: OwnImages, decoded: Decoded, rows: NDArray[np.int64], watcher: Watcher
) -> NDArray[np.bool_] | None:
    """Tell which images are near duplicates of some that a run learnt from or was chosen by.

    Args:
        own: The run's own images.
        decoded: Images as the run's file prepares them.
        rows: Those in question, ``int64[M]``; exact copies are no near duplicates.
        watcher: Is told how far the work is.

    Returns:
        ``bool[M]``; ``None`` where it cannot be told: the run's images are gone or would have to be
        downloaded, there are too many, or they are too small to tell a copy from a likeness.
    """
    shape = decoded.images.shape[1:]
    if min(shape[:2]) < SMALLEST:
        return None
    known = _images_of(own, watcher)
    if known is None or known.images.shape[1:] != shape:
        return None
    train, val, _ = own.among(known.digests)
    _, once = np.unique(as_keys(known.digests), return_index=True)
    learnt = once[(train | val)[once]]
    if (len(learnt) + len(rows)) * int(np.prod(shape)) > _MOST:
        return None
    near = near_duplicates(
        np.concatenate([known.images[learnt], decoded.images[rows]]),
        np.concatenate([known.digests[learnt], decoded.digests[rows]]),
        mirrored=known.about["mirrored"],
        watcher=watcher,
    )
    one, other = near.pairs.T  # the smaller row first
    keys = as_keys(decoded.digests[rows])
    found = keys[other[(one < len(learnt)) & (other >= len(learnt))] - len(learnt)]
    return np.isin(keys, found) & ~np.isin(keys, as_keys(known.digests[learnt]))


def _images_of(own: OwnImages, watcher: Watcher) -> Decoded | None:
    """Read the images that a run was made from, where they are at hand."""
    try:
        recipe = recipe_of_run(own.run)
        if {*recipe.sources, recipe.test} & set(NAMES):
            return None  # which may be on another machine
        return read_corrected(recipe, watcher=watcher, for_training=False, missing_ok=True)
    except OpsinError:
        return None
