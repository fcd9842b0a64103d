"""A small cache of open decoded images, and of the corrections of their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.core.storage import write_bytes
from opsin.data.run_images import has_no_images, pair_up, recipe_of_run
from opsin.data.sources.named import NAMES
from opsin.studio.datasets.catalogue import Library, LibraryDataset
from opsin.studio.datasets.corrections import Corrections
from opsin.studio.datasets.decoded_dataset import (
    DecodedDataset,
    key_of_images,
    open_run,
    open_set,
)
from opsin.studio.datasets.folders import Folders
from opsin.studio.datasets.photo_files import PhotoFiles
from opsin.studio.errors import NotThere
from opsin.studio.people import acting
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import IMAGES, ComputedOnce

# Options that decide which images a dataset has, and those that it takes over from a run.
_SAME: Final = ("test", "classes", "columns", "follow_links")
_TAKEN_OVER: Final = (*_SAME, "size", "channels", "resize", "max_unreadable")


class ImagePlaces:
    """The places where the studio may read images of runs."""

    def __init__(self, sets: Library, folders: Folders, home: Path) -> None:
        self._sets, self._folders, self._own = sets, folders, Folders([home])

    def check(self, run: RunDirectory) -> None:
        """Check that the images of a run lie in these places."""
        if has_no_images(run):
            return
        recipe = recipe_of_run(run)
        known = {*NAMES, *(source for dataset in self._sets.all() for source in dataset.sources)}
        for source in filter(None, (*recipe.sources, recipe.test, recipe.labels)):
            if not (source in known or self._folders.holds(source) or self._own.holds(source)):
                raise NotThere(
                    f"The images of {run.path.name} lie where this studio may not look",
                    "If the run is yours, allow that folder: opsin studio --root FOLDER",
                )


class DatasetCache:
    """The open images of the datasets and runs that were looked at last."""

    def __init__(self, sets: Library, runs: RunIndex, places: ImagePlaces, most: int = 2) -> None:
        self._sets, self._runs, self._places = sets, runs, places
        self._of_sets = ComputedOnce[str, Corrections](most)
        self._of_runs = ComputedOnce[str, DecodedDataset](most)
        self._files: dict[str, PhotoFiles] = {}

    def files(self, set_id: str) -> PhotoFiles:
        """The files of a dataset, and what can be undone; reads the disk."""
        dataset = self._sets.get(set_id)
        if set_id not in self._files:
            place = dataset.place if dataset.made_here else None
            own = PhotoFiles(self._sets.folder(set_id), place, lambda: self._sets.get(set_id).title)
            own.sweep()
            return self._files.setdefault(set_id, own)
        return self._files[set_id]

    async def of_set(self, set_id: str) -> DecodedDataset:
        """Open the images of a dataset, without its corrections."""
        return (await self.corrections_of(set_id)).opened

    async def corrections_of(self, set_id: str) -> Corrections:
        """The corrections of a dataset's labels, shared by all windows."""
        dataset = self._sets.get(set_id)

        def read() -> Corrections:
            opened = open_set(dataset)
            self._take_look(opened)
            return Corrections(self._sets.corrections_path(set_id), opened)

        return await self._of_sets.get(set_id, lambda: IMAGES.run(read))

    async def of_run(self, run_id: str) -> DecodedDataset:
        """Open the images of a run, with the corrections that it was trained with."""
        directory = await IMAGES.run(self._runs.get, run_id)

        def read() -> DecodedDataset:
            self._places.check(directory)
            return open_run(run_id, directory)

        return await self._of_runs.get(run_id, lambda: IMAGES.run(read))

    async def set_of_run(self, run_id: str) -> tuple[LibraryDataset, NDArray[np.int64]]:
        """The dataset of a run, and the row of each of the run's images in it."""
        opened = await self.of_run(run_id)
        directory = await IMAGES.run(self._runs.get, run_id)
        dataset = await IMAGES.run(_set_of_run, self._sets, opened, directory)
        return dataset, await IMAGES.run(_rows_in, await self.of_set(dataset.id), opened)

    async def read_again(self, set_id: str) -> bool:
        """Take in new images, and what a check has found; return whether there is any of it."""
        known = self._of_sets.kept(set_id)
        if known is None:
            return True
        if await IMAGES.run(key_of_images, self._sets.get(set_id)) != known.opened.key:
            self.forget(set_id)
            return True
        return await IMAGES.run(self._take_look, known.opened)

    def forget(self, id_: str) -> None:
        """Close a changed or removed dataset or run."""
        self._of_sets.forget(id_)
        self._of_runs.forget(id_)

    def _take_look(self, opened: DecodedDataset) -> bool:
        """Take in the findings of the last check, unless they are of other images."""
        look = self._sets.looked(opened.id)
        if look is None or look.found is None or look.job == opened.looked:
            return False
        if look.found.images != len(opened):
            return False
        opened.findings = {finding.kind: finding for finding in look.found.findings}
        opened.looked = look.job
        return True


def _set_of_run(sets: Library, opened: DecodedDataset, directory: RunDirectory) -> LibraryDataset:
    """Find the dataset of a run's images, or add it with the run's corrections."""
    recipe = opened.recipe
    for dataset in sets.all():
        other = dataset.recipe()
        if all(getattr(other, name) == getattr(recipe, name) for name in ("sources", *_SAME)):
            return dataset
    if len(recipe.sources) > 1:
        raise SourceError(
            f"This run has {len(recipe.sources)} sources",
            "Correct their labels with: opsin report RUN --fix labels.csv",
        )
    usual = DataRecipe.of(*recipe.sources)
    options = {name: getattr(recipe, name) for name in _TAKEN_OVER
               if getattr(recipe, name) != getattr(usual, name)}  # fmt: skip
    with acting():  # images that its people see anyway
        added = sets.add_source(recipe.sources[0], **options)
    path = sets.corrections_path(added.id)
    if directory.corrections.is_file() and not path.exists():
        write_bytes(path, directory.corrections.read_bytes())
    return added


def _rows_in(whole: DecodedDataset, opened: DecodedDataset) -> NDArray[np.int64]:
    """The row of each of a run's images in their dataset."""
    kept, names, there = opened.decoded.rows, opened.decoded.names, whole.decoded.names
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
    if lost := int((rows < 0).sum()):
        raise NotThere(
            f"{lost:,} of the classifier's photos are not in its project any more",
            "Add them again, or train again.",
        )
    return rows
