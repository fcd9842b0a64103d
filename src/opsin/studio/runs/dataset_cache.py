"""A small cache of open decoded images, and of the corrections of their labels."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, SourceError
from opsin.core.recipe import DataRecipe
from opsin.core.storage import write_bytes
from opsin.core.stored_arrays import StoredArrays
from opsin.data.audit import Finding
from opsin.data.cache import digest_names, short_digest
from opsin.data.corrections import Decoded, correct
from opsin.data.dataset import fingerprint_of
from opsin.data.fill_cache import cache_key, look_up
from opsin.data.run_images import has_no_images, pair_up, read_images, recipe_of_run, rows_of_run
from opsin.data.sources.contents import take
from opsin.data.sources.named import NAMES
from opsin.studio.datasets.catalogue import Library, LibraryDataset, without_places
from opsin.studio.datasets.corrections import Corrections, RunCorrections
from opsin.studio.datasets.dataset_search import key_of
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.folders import Folders
from opsin.studio.errors import NotThere
from opsin.studio.people import by_studio
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import IMAGES, ComputedOnce

# Options that decide which images a set has, and those that it takes over from a run.
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


class NotDecoded(NotThere):
    """Images not decoded yet; their dataset's page decodes them."""


@dataclass
class _OpenDataset:
    """An open dataset, and its corrections once requested."""

    images: DecodedDataset
    corrections: Corrections | None = None


class DatasetCache:
    """An LRU cache of the open images of datasets and runs."""

    def __init__(self, sets: Library, runs: RunIndex, places: ImagePlaces, most: int = 2) -> None:
        self._sets, self._runs, self._places = sets, runs, places
        self._open = ComputedOnce[tuple[str, str], _OpenDataset](most)

    async def of_set(self, set_id: str) -> DecodedDataset:
        """Open the images of a set, without its corrections."""
        return (await self._set(set_id)).images

    async def corrections_of(self, set_id: str) -> Corrections:
        """Return the corrections of a set's labels, shared by all windows."""
        opened = await self._set(set_id)
        if opened.corrections is None:
            made = await IMAGES.run(lambda: Corrections(self._sets.folder(set_id), opened.images))
            opened.corrections = opened.corrections or made
        return opened.corrections

    async def of_run(self, run_id: str) -> DecodedDataset:
        """Open the images of a run, with the corrections that it was trained with."""
        directory = await IMAGES.run(self._runs.get, run_id)

        def read() -> _OpenDataset:
            self._places.check(directory)
            return _OpenDataset(open_run(run_id, directory))

        return (await self._open.get(("run", run_id), lambda: IMAGES.run(read))).images

    async def corrections_of_run(self, run_id: str) -> tuple[LibraryDataset, RunCorrections]:
        """Return the set of a run, and the corrections of the run's images."""
        opened = await self.of_run(run_id)
        directory = await IMAGES.run(self._runs.get, run_id)
        the_set = await IMAGES.run(_set_of_run, self._sets, opened, directory)
        rows = await IMAGES.run(_rows_in, await self.of_set(the_set.id), opened)
        return the_set, RunCorrections(await self.corrections_of(the_set.id), opened, rows)

    async def look(self, set_id: str) -> bool:
        """Load the last audit of an open set; return whether it is new."""
        opened = self._open.kept(("set", set_id))
        return opened is not None and await IMAGES.run(_take_look, opened.images, self._sets)

    async def changed(self, set_id: str) -> bool:
        """Return whether a set's sources have changed; if so, close it."""
        opened = self._open.kept(("set", set_id))
        if opened is None:
            return True
        key = await IMAGES.run(lambda: _key(self._sets.get(set_id).recipe()))
        if key == opened.images.key:
            return False
        self.forget(set_id)
        return True

    def forget(self, id_: str) -> None:
        """Close a changed or removed set or run."""
        for kind in ("set", "run"):
            self._open.forget((kind, id_))

    async def _set(self, set_id: str) -> _OpenDataset:
        """Open a set; only one of a page's concurrent requests reads it."""
        the_set = await IMAGES.run(self._sets.get, set_id)

        def read() -> _OpenDataset:
            with without_places(the_set.sources[0], the_set.title):
                opened = open_set(the_set)
            _take_look(opened, self._sets)
            return _OpenDataset(opened)

        return await self._open.get(("set", set_id), lambda: IMAGES.run(read))


def open_set(the_set: LibraryDataset) -> DecodedDataset:
    """Open the decoded images of a set."""
    recipe = the_set.recipe()
    key = _key(recipe)
    decoded = look_up(key, recipe)
    if decoded is None:
        raise _unread(the_set.title)
    return DecodedDataset(the_set.id, decoded, key=key, recipe=recipe)


def open_run(run_id: str, directory: RunDirectory) -> DecodedDataset:
    """Open the images of a run as they were in training."""
    recipe = recipe_of_run(directory)
    record = directory.read(DatasetRecord)
    decoded: Decoded | None = None
    # The images may have been decoded before the recipe had their size.
    asked: tuple[dict[str, None], ...] = (
        {"size": None, "channels": None}, {"size": None}, {"channels": None}, {},
    )  # fmt: skip
    for update in asked:
        read = recipe.model_copy(update=update)
        key = _key(read)
        decoded = look_up(key, read)
        if decoded is not None and list(decoded.images.shape[1:]) == record.shape:
            break
    else:
        raise _unread(recipe.source)
    written, plain = directory.split.is_file(), decoded
    if recipe.labels is not None:
        decoded = correct(decoded, recipe.labels, missing_ok=True)
    if written and fingerprint_of(decoded) != record.fingerprint:
        decoded = _as_trained(directory, plain, record)
    elif written and (rows := rows_of_run(directory, decoded)) is not None:
        decoded = take(decoded, rows)  # files may have been renamed since
    if decoded is None or fingerprint_of(decoded) != record.fingerprint:
        raise NotThere(
            f"The images of {recipe.source} have changed since the run was trained",
            "Put them back, or train again.",
        )
    opened = DecodedDataset(run_id, decoded, key=key, kept=decoded.rows, recipe=read)
    if written:
        opened.take_split(directory.load_arrays(directory.split))
    return opened


def _as_trained(directory: RunDirectory, decoded: Decoded, record: DatasetRecord) -> Decoded | None:
    """Return a run's images in its order, with the classes they had then.

    Others may be there now, or have been moved to other classes.
    """
    images, names = read_images(directory), decoded.names
    then = [(image.digest, image.name) for image in images]
    now = list(zip(digest_names(short_digest(decoded.digests)), names, strict=True))
    pairs = sorted(pair_up(then, now, (lambda one: one, lambda one: one[0])))
    if [one for one, _ in pairs] != list(range(len(then))):
        return None
    number = {name: label for label, name in enumerate(record.classes)}
    labels = np.array([number.get(image.label, 0) for image in images], np.int64)
    kept = take(decoded, np.array([other for _, other in pairs], np.int64))
    return replace(kept, classes=tuple(record.classes), labels=labels)


def _take_look(opened: DecodedDataset, sets: Library) -> bool:
    """Load the parts and findings, unless they are of other images."""
    look = sets.looked(opened.id)
    if look is None or look.when == opened.looked or look.found.images != len(opened):
        return False
    try:
        the_set = sets.get(opened.id)
        with StoredArrays(sets.folder(opened.id) / "rows.npz") as stored:
            opened.take_split({part: stored.read(part) for part in ("train", "val", "test")})
    except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile):
        return False  # the next audit rewrites them
    source = the_set.sources[0], the_set.title
    opened.findings = {finding.kind: in_names(finding, *source) for finding in look.found.findings}
    opened.looked = look.when
    return True


def in_names(finding: Finding, path: str, name: str) -> Finding:
    """Replace a path by its name in a finding's notes on files."""
    cases = (
        case if case.rows else replace(case, note=case.note.replace(path, name))
        for case in finding.cases
    )
    return replace(finding, cases=tuple(cases))


def _key(recipe: DataRecipe) -> str:
    return cache_key(key_of(recipe), recipe)


def _unread(title: str) -> OpsinError:
    return NotDecoded(
        f"The photos of {title} were not read yet", "Open its page Photos, which reads them."
    )


def _set_of_run(sets: Library, opened: DecodedDataset, directory: RunDirectory) -> LibraryDataset:
    """Find the set of a run's images, or add it with the run's corrections."""
    recipe = opened.recipe
    same = ("sources", *_SAME)
    for dataset in sets.all():
        other = dataset.recipe()
        if all(getattr(other, name) == getattr(recipe, name) for name in same):
            return dataset
    if len(recipe.sources) > 1:
        raise SourceError(
            f"This run has {len(recipe.sources)} sources",
            "Correct their labels with: opsin report RUN --fix labels.csv",
        )
    usual = DataRecipe.of(*recipe.sources)
    options = {
        name: value
        for name in _TAKEN_OVER
        if (value := getattr(recipe, name)) != getattr(usual, name)
    }
    with by_studio():  # images that its people see anyway
        added = sets.add_source(recipe.sources[0], **options)
    path = sets.corrections_path(added.id)
    if directory.corrections.is_file() and not path.exists():
        write_bytes(path, directory.corrections.read_bytes())
    return added


def _rows_in(whole: DecodedDataset, opened: DecodedDataset) -> NDArray[np.int64]:
    """The row of each of a run's images in their set."""
    kept = np.array(opened.source_rows(range(len(opened))), np.int64)
    names, there = opened.decoded.names, whole.decoded.names
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
