"""A run's images in the parts that it was trained with, whatever Opsin would cut today."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset
from opsin.data.split import Split
from opsin.run import RunDirectory
from opsin.workflow.changes import read_pictures


def in_own_parts(directory: RunDirectory, dataset: Dataset) -> Dataset:
    """Return a run's images with the split that the run keeps.

    How Opsin cuts a split has changed and may change again; what a classifier learnt from has not.

    Args:
        directory: The run.
        dataset: Its images, with its fingerprint, in any order.

    Raises:
        RunError: ``split.npz`` or ``pictures.csv`` is damaged.
    """
    if not directory.split.is_file():
        return dataset
    kept = directory.load_arrays(directory.split)
    place = rows_now(directory, dataset)
    return replace(
        dataset, split=Split(*(np.sort(place[kept[part]]) for part in ("train", "val", "test")))
    )


def rows_now(directory: RunDirectory, dataset: Dataset) -> NDArray[np.int64]:
    """Return the row in ``dataset`` of each image of a run, ``int64[N]``.

    Images are told by their content, since files may have been renamed, and so reordered. Copies
    are matched one to one: those of one class with each other, and of these those of one name.

    Args:
        directory: The run.
        dataset: Its images, with its fingerprint, in any order.

    Raises:
        RunError: ``split.npz`` or ``pictures.csv`` is damaged.
    """
    then = directory.load_arrays(directory.split)["digests"]
    now = short_digest(dataset.digests)
    if np.array_equal(then, now):
        return np.arange(len(now))
    known = [("", "")] * len(then)
    if directory.pictures.is_file():
        known = [(each.label, each.name) for each in read_pictures(directory)]
    before = [(digest.tobytes(), *about) for digest, about in zip(then, known, strict=True)]
    after = [
        (digest.tobytes(), dataset.classes[label], name)
        for digest, label, name in zip(now, dataset.labels, dataset.names, strict=True)
    ]
    place = np.empty(len(then), np.int64)
    place[sorted(range(len(before)), key=before.__getitem__)] = sorted(
        range(len(after)), key=after.__getitem__
    )
    return place
