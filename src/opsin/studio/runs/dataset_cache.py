"""Decoded images that are open, few at most."""

from __future__ import annotations

import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError
from opsin.core.recipe import DataRecipe
from opsin.core.stored_arrays import StoredArrays
from opsin.data.apply_corrections import correct
from opsin.data.audit import Finding
from opsin.data.dataset import fingerprint_of
from opsin.data.decoded_store import Decoded, take
from opsin.data.fill_cache import cache_key, look_up
from opsin.data.run_images import recipe_of_run, rows_of_run
from opsin.data.sources.named import NAMES
from opsin.studio.datasets.catalogue import Library, LibraryDataset, without_places
from opsin.studio.datasets.dataset_corrections import Corrections
from opsin.studio.datasets.dataset_search import key_of
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.folders import Folders
from opsin.studio.errors import NotThere
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import IMAGES, ComputedOnce

# Seconds after which the files of a set's sources are looked at again: of 60,000 that takes two.
_FRESH: Final = 60.0


class ImagePlaces:
    """The places where the studio may look for the images of runs."""

    def __init__(self, sets: Library, folders: Folders, home: Path) -> None:
        self._sets, self._folders, self._own = sets, folders, Folders([home])

    def check(self, run: RunDirectory) -> None:
        """Check that the images of a run lie in these places."""
        recipe = recipe_of_run(run)
        known = {*NAMES, *(source for dataset in self._sets.all() for source in dataset.sources)}
        for source in filter(None, (*recipe.sources, recipe.test, recipe.labels)):
            if not (source in known or self._folders.holds(source) or self._own.holds(source)):
                raise NotThere(
                    f"The images of {run.path.name} lie where this studio may not look",
                    "If the run is yours, allow that folder: opsin studio --root FOLDER",
                )


class NotDecoded(NotThere):
    """Images that have not been read yet; opening their dataset's page reads them."""


@dataclass
class _OpenDataset:
    """What is open, and the corrections of its labels once somebody asked for them."""

    images: DecodedDataset
    corrections: Corrections | None = None


class DatasetCache:
    """Keeps the images of datasets and runs open; the least recently used are closed."""

    def __init__(self, sets: Library, runs: RunIndex, places: ImagePlaces, most: int = 2) -> None:
        self._sets, self._runs, self._places = sets, runs, places
        self._open = ComputedOnce[tuple[str, str], _OpenDataset](most)

    def is_open(self, set_id: str) -> bool:
        """Tell whether the images of a set are there at once."""
        return self._open.kept(("set", set_id)) is not None

    async def of_set(self, set_id: str) -> DecodedDataset:
        """Open the images of a set, without its corrections."""
        return (await self._set(set_id)).images

    async def corrections_of(self, set_id: str) -> Corrections:
        """Return the corrections of a set's labels, the same for all windows."""
        opened = await self._set(set_id)
        if opened.corrections is None:
            made = await IMAGES.run(lambda: Corrections(self._sets.folder(set_id), opened.images))
            opened.corrections = opened.corrections or made
        return opened.corrections

    async def look(self, set_id: str) -> bool:
        """Take over what the last look at an open set found; return whether that was news."""
        opened = self._open.kept(("set", set_id))
        if opened is None:
            return False
        return await IMAGES.run(_take_look, opened.images, self._sets)

    async def of_run(self, run_id: str) -> DecodedDataset:
        """Open the images of a run, with the corrections that it was trained with."""
        directory = await IMAGES.run(self._runs.get, run_id)

        def read() -> _OpenDataset:
            self._places.check(directory)
            return _OpenDataset(open_run(run_id, directory))

        return (await self._open.get(("run", run_id), lambda: IMAGES.run(read))).images

    async def changed(self, set_id: str) -> bool:
        """Look whether a set's sources are still what was opened; if not, it is closed."""
        opened = self._open.kept(("set", set_id))
        if opened is None:
            return True
        key = await IMAGES.run(lambda: _key(recipe_of(self._sets.get(set_id))))
        if key == opened.images.key:
            opened.images.checked = time.monotonic()
            return False
        self.forget(set_id)
        return True

    def is_fresh(self, set_id: str) -> bool:
        """Tell whether a set is open, was looked at, and its sources were seen a moment ago."""
        opened = self._open.kept(("set", set_id))
        if opened is None or opened.images.findings is None:
            return False
        return time.monotonic() - opened.images.checked < _FRESH

    def forget(self, id_: str) -> None:
        """Close a set or a run, since it was changed or removed."""
        for kind in ("set", "run"):
            self._open.forget((kind, id_))

    async def _set(self, set_id: str) -> _OpenDataset:
        """Open a set; many images of a page ask at once, and one of them reads."""
        the_set = await IMAGES.run(self._sets.get, set_id)

        def read() -> _OpenDataset:
            with without_places(the_set.sources[0], the_set.title):
                opened = open_set(the_set)
            _take_look(opened, self._sets)
            return _OpenDataset(opened)

        return await self._open.get(("set", set_id), lambda: IMAGES.run(read))


def recipe_of(the_set: LibraryDataset) -> DataRecipe:
    """Return how the images of a set are read, without its corrections."""
    options = {name: value for name, value in the_set.options.items() if name != "labels"}
    return DataRecipe.of(*the_set.sources, **options)


def open_set(the_set: LibraryDataset) -> DecodedDataset:
    """Open the images of a set that were read before."""
    recipe = recipe_of(the_set)
    key, decoded = _read_before(recipe)
    if decoded is None:
        raise _unread(the_set.title)
    return DecodedDataset(the_set.id, decoded, key=key, recipe=recipe)


def open_run(run_id: str, directory: RunDirectory) -> DecodedDataset:
    """Open the images of a run as it was trained with them."""
    recipe = recipe_of_run(directory)
    record = directory.read(DatasetRecord)
    # Older runs: their images may have been cached before the size was fixed in the recipe.
    asked: tuple[dict[str, None], ...] = (
        {"size": None, "channels": None}, {"size": None}, {"channels": None}, {},
    )  # fmt: skip
    for update in asked:
        read = recipe.model_copy(update=update)
        key, decoded = _read_before(read)
        if decoded is not None and list(decoded.images.shape[1:]) == record.shape:
            break
    else:
        raise _unread(recipe.source)
    if recipe.labels is not None:
        decoded = correct(decoded, recipe.labels, missing_ok=True)
    written = directory.split.is_file()
    rows = rows_of_run(directory, decoded) if written else np.arange(len(decoded.labels))
    if rows is None or fingerprint_of(decoded) != record.fingerprint:
        raise NotThere(
            f"The images of {recipe.source} have changed since the run was trained",
            "Put them back, or train again.",
        )
    if not np.array_equal(rows, np.arange(len(rows))):  # files were renamed since
        decoded = take(decoded, rows)
    opened = DecodedDataset(run_id, decoded, key=key, kept=decoded.rows, recipe=read)
    if written:
        opened.take_split(directory.load_arrays(directory.split))
    return opened


def _take_look(opened: DecodedDataset, sets: Library) -> bool:
    """Learn the parts and the findings, unless they are of other images."""
    look = sets.looked(opened.id)
    if look is None or look.when == opened.looked or look.found.images != len(opened):
        return False
    try:
        the_set = sets.get(opened.id)
        with StoredArrays(sets.rows_path(opened.id)) as stored:
            parts = {part: stored.read(part) for part in ("train", "val", "test")}
        opened.take_split(parts)
    except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile):
        return False  # the next look writes them again
    source = the_set.sources[0], the_set.title
    opened.findings = {finding.kind: in_names(finding, *source) for finding in look.found.findings}
    opened.looked = look.when
    return True


def in_names(finding: Finding, path: str, name: str) -> Finding:
    """Return a finding that calls a place by its name where it speaks of files."""
    cases = (
        case if case.rows else replace(case, note=case.note.replace(path, name))
        for case in finding.cases
    )
    return replace(finding, cases=tuple(cases))


def _key(recipe: DataRecipe) -> str:
    return cache_key(key_of(recipe), recipe)


def _read_before(recipe: DataRecipe) -> tuple[str, Decoded | None]:
    key = _key(recipe)
    return key, look_up(key, recipe)


def _unread(title: str) -> OpsinError:
    return NotDecoded(
        f"The images of {title} were not read yet", "Open its page under Data, which reads them."
    )
