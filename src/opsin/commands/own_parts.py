"""A run's images in the parts that it was trained with, whatever Opsin would cut today."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from dataclasses import replace

import numpy as np

from opsin.core.artifacts.dataset_record import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import SourceError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.data.cache import Decoded, short_digest
from opsin.data.dataset import Dataset, fingerprint_of, load_recipe
from opsin.data.image_subset import take
from opsin.data.run_images import rows_of_run
from opsin.data.run_source import Places, is_moved, recipe_of_run
from opsin.data.split import Split


def load_of_run(run: RunDirectory, data: Places = (), *, watcher: Watcher = SILENT) -> Dataset:
    """Read the images that a run was made from, in its order and its parts; prove they are these.

    Where the recorded place is gone, the run remembers the new one.

    Args:
        run: The run.
        data: Where its images are now; see `recipe_of_run`.
        watcher: Is told how far the work is.

    Raises:
        MovedError: They are not where they were, and ``data`` names no other place.
        SourceError: There are others now, by the fingerprint that the run keeps.
        RecipeError: ``data`` names more places than the run has sources, or fewer.
        RunError: The run's files are damaged.
    """
    recipe = recipe_of_run(run, data)
    if not run.dataset.is_file():  # ended before it wrote what it was made from
        return load_recipe(recipe, watcher=watcher)

    def prove(decoded: Decoded) -> Decoded:
        same = fingerprint_of(decoded) == run.read(DatasetRecord).fingerprint
        rows = np.arange(len(decoded.labels)) if same else None
        if same and run.split.is_file():
            rows = rows_of_run(run, decoded)
        if rows is None:
            raise SourceError(
                f"the images that {run.path} was made from",
                f"{recipe.source} has changed: {_difference(run, decoded)}",
                f"Restore them, or train again; to see what changed: "
                f"opsin data {shlex.join(recipe.sources)} --since {shlex.quote(str(run.path))}",
            )
        # Files that were renamed come in another order; the run's rows stay what they are.
        in_order = np.array_equal(rows, np.arange(len(rows)))
        return decoded if in_order else take(decoded, rows)

    # A correction of an image that is gone is no error of its own: the fingerprint tells.
    # Nor is a split that Opsin would refuse today.
    dataset = load_recipe(
        recipe,
        watcher=watcher,
        missing_ok=True,
        for_training=not run.split.is_file(),
        prove=prove,
    )
    if is_moved(run):
        _remember(run, dataset)
    return in_own_parts(run, dataset)


def in_own_parts(directory: RunDirectory, dataset: Dataset) -> Dataset:
    """Return a run's images with the split that the run keeps.

    How Opsin cuts a split has changed and may change again; what a classifier learnt from has not.

    Args:
        directory: The run.
        dataset: Its images in its order.

    Raises:
        RunError: ``split.npz`` is damaged.
    """
    if not directory.split.is_file():
        return dataset
    kept = directory.load_arrays(directory.split)
    return replace(dataset, split=Split(*(kept[part] for part in ("train", "val", "test"))))


def _difference(run: RunDirectory, decoded: Decoded) -> str:
    """Say in words how images differ from those that a run was made from."""
    digests = short_digest(decoded.digests)
    then = Counter(digest.tobytes() for digest in run.load_arrays(run.split)["digests"])
    now = Counter(digest.tobytes() for digest in digests)
    missing, others = (then - now).total(), (now - then).total()
    if not missing and not others:
        return "the images are the same, but classes of some are others"
    said = f"of {then.total():,} images {missing:,} are missing" if missing else "none is missing"
    return f"{said}, and {others:,} others are there" if others else said


def _remember(run: RunDirectory, dataset: Dataset) -> None:
    """Write where the images are now into ``dataset.json``, unless that cannot be written."""
    located = dataset.located
    record = run.read(DatasetRecord)
    place = {"sources": list(located.sources), "test": located.test}
    moved = record.model_copy(update={"location": record.location.model_copy(update=place)})
    with contextlib.suppress(StorageError):
        moved.write(run.path)
