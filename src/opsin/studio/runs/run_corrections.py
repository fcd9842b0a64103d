"""Corrections of the images of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.core.storage import write_bytes
from opsin.data.run_images import pair_up
from opsin.studio.datasets.catalogue import Library, LibraryDataset
from opsin.studio.datasets.dataset_corrections import Corrections
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.errors import NotThere
from opsin.studio.runs.dataset_cache import DatasetCache, recipe_of
from opsin.studio.runs.run_index import RunIndex


class RunCorrections:
    """Corrections of a run's images, by the run's rows; stored in its set."""

    def __init__(self, whole: Corrections, opened: DecodedDataset, rows: NDArray[np.int64]) -> None:
        self.whole = whole
        self._opened = opened
        self._rows = rows
        self._place = {int(row): index for index, row in enumerate(rows)}

    def now(self) -> dict[int, str | None]:
        """Return the class of each image that differs from training."""
        changes = self.whole.now()
        labels, classes = self._opened.decoded.labels, self._opened.classes
        # Corrections of the training may have been undone since.
        asked = {*changes, *(int(row) for row in self._rows[self._differs()])}
        now = {self._place[row]: self.whole.label(row) for row in asked if row in self._place}
        return {index: label for index, label in now.items() if label != classes[labels[index]]}

    def put(self, rows: Collection[int], label: str | None) -> int:
        """Like `Corrections.put`, with the run's rows."""
        return self.whole.put(self._in_set(rows), label)

    def take_back(self, rows: Collection[int]) -> int:
        """Like `Corrections.take_back`, with the run's rows."""
        return self.whole.take_back(self._in_set(rows))

    def _in_set(self, rows: Collection[int]) -> list[int]:
        self._opened.source_rows(rows)
        return [int(self._rows[row]) for row in rows]

    def _differs(self) -> NDArray[np.bool_]:
        """Which images the run's own corrections relabelled."""
        names = np.array(self._opened.classes, object)[self._opened.decoded.labels]
        source = np.array(self.whole.classes, object)[self.whole.source_labels[self._rows]]
        different: NDArray[np.bool_] = names != source
        return different


async def of_run(
    cache: DatasetCache, runs: RunIndex, sets: Library, run_id: str
) -> tuple[LibraryDataset, RunCorrections]:
    """Return the set of a run, and the corrections of its images."""
    opened = await cache.of_run(run_id)
    the_set = await asyncio.to_thread(lambda: _set_of(sets, opened, runs.get(run_id)))
    whole_set = await cache.of_set(the_set.id)
    whole = await cache.corrections_of(the_set.id)
    rows = await asyncio.to_thread(_rows_in, whole_set, opened)
    return the_set, RunCorrections(whole, opened, rows)


def _set_of(sets: Library, opened: DecodedDataset, directory: RunDirectory) -> LibraryDataset:
    recipe = opened.recipe
    same = ("test", "classes", "columns", "follow_links")
    for dataset in sets.all():
        other = recipe_of(dataset)
        if other.sources == recipe.sources and all(
            getattr(other, name) == getattr(recipe, name) for name in same
        ):
            return dataset
    if len(recipe.sources) > 1:
        raise SourceError(
            f"This run has {len(recipe.sources)} sources",
            "Correct their labels with: opsin report RUN --fix labels.csv",
        )
    usual = DataRecipe.of(*recipe.sources)
    kept = (*same, "size", "channels", "resize", "max_unreadable")
    options = {
        name: value for name in kept if (value := getattr(recipe, name)) != getattr(usual, name)
    }
    added = sets.add_source(recipe.sources[0], **options)
    path = sets.corrections_path(added.id)
    if directory.corrections.is_file() and not path.exists():
        write_bytes(path, directory.corrections.read_bytes())
    return added


def _rows_in(whole: DecodedDataset, opened: DecodedDataset) -> NDArray[np.int64]:
    kept = np.array(opened.source_rows(range(len(opened))), np.int64)
    names = opened.decoded.names
    there = whole.decoded.names
    if kept.size and kept.max() < len(there) and [there[row] for row in kept] == names:
        return kept
    # Also by content: two images may have one name.
    mine, theirs = (
        [(name, digest.tobytes()) for name, digest in zip(side.names, side.digests, strict=True)]
        for side in (opened.decoded, whole.decoded)
    )
    rows = np.full(len(names), -1)
    for one, other in pair_up(mine, theirs, (lambda key: key, lambda key: key[0])):
        rows[one] = other
    lost = int((rows < 0).sum())
    if lost:
        raise NotThere(
            f"{lost:,} of the run's images are not in their set",
            "Look at the set again under Data, or train again.",
        )
    return rows
