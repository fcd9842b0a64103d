"""Opens the photographs of datasets and runs, and changes them; every change can be undone."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import SourceError
from opsin.core.format import counted
from opsin.core.storage import write_bytes
from opsin.data.corrections import read_corrections
from opsin.data.run_images import has_no_images, pair_up, recipe_of_run
from opsin.data.sources.named import NAMES
from opsin.studio.datasets.album import (
    OUT,
    Album,
    Contents,
    Corrections,
    album_of,
    read_contents,
    stamp_of_folders,
)
from opsin.studio.datasets.catalogue import Library, LibraryDataset
from opsin.studio.datasets.decoded_dataset import (
    DecodedDataset,
    NotDecoded,
    key_of_images,
    open_run,
    open_set,
)
from opsin.studio.datasets.folders import Folders
from opsin.studio.datasets.photo_files import Done, PhotoFiles, no_class
from opsin.studio.datasets.uploads import SentFile, Uploads
from opsin.studio.errors import NotThere
from opsin.studio.people import NotAllowed, acting, require
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import IMAGES, UPLOADS, ComputedOnce, Threads

T = TypeVar("T")

_LOOK: Final = "Look at them, then try again."
# Listings in memory, and decoded images of datasets and of runs.
_LISTED: Final = 4
_OPEN: Final = 2


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
                raise SourceError(
                    f"The photographs of {run.path.name} are where this studio may not look",
                    "If the classifier is yours, start the studio with that folder allowed",
                )


class Albums:
    """The photographs of all datasets and runs, shared by all windows."""

    def __init__(
        self, sets: Library, runs: RunIndex, places: ImagePlaces, uploads: Uploads
    ) -> None:
        self._sets, self._runs, self._places, self._uploads = sets, runs, places, uploads
        self._moved = Counter[str]()  # how often files of a dataset were moved here
        self._stamps: dict[str, object] = {}  # of listings
        self._contents = ComputedOnce[str, Contents](_LISTED)
        self._of_sets = ComputedOnce[str, Corrections](_OPEN)
        self._of_runs = ComputedOnce[str, DecodedDataset](_OPEN)
        self._unread: dict[str, Contents] = {}  # found to be not decoded

    # What there is.

    async def open(self, set_id: str, *, at_once: bool = False) -> Album:
        """The photographs of a dataset now; at once only files, and labels by their names."""
        dataset, table = self._sets.get(set_id), self._sets.corrections_path(set_id)
        stamp = self._moved[set_id], await IMAGES.run(stamp_of_folders, dataset.place)
        if self._stamps.get(set_id) != stamp:  # files came or went, by whomever
            self._stamps[set_id] = stamp
            self._contents.forget(set_id)
        contents = await self._listed(set_id)
        # Finding out that nothing was read yet takes seconds for very many files.
        if self._unread.get(set_id) is not contents and not (at_once and contents.files):
            try:
                known = await self.corrections_of(set_id)
                return await IMAGES.run(album_of, dataset, contents, table, known)
            except (NotDecoded, SourceError):
                self._unread[set_id] = contents
        return await IMAGES.run(album_of, dataset, contents, table)

    def last_change(self, set_id: str) -> str:
        """What `undo` would take back, in words; ``""`` for nothing."""
        return next((change.text for change in self._own(set_id).changes()[-1:]), "")

    async def original(self, set_id: str, token: str) -> bytes:
        """The content of a photograph's file, by its name in addresses."""
        return await IMAGES.run((await self._listed(set_id)).original, token)

    async def corrections_of(self, set_id: str) -> Corrections:
        """The decoded images of a dataset, and the corrections of their labels."""
        dataset = self._sets.get(set_id)

        def read() -> Corrections:
            return Corrections(self._sets.corrections_path(set_id), open_set(dataset))

        return await self._of_sets.get(set_id, lambda: IMAGES.run(read))

    async def of_run(self, run_id: str) -> DecodedDataset:
        """The decoded images of a run, with the corrections that it was trained with."""
        directory = await IMAGES.run(self._runs.get, run_id)

        def read() -> DecodedDataset:
            self._places.check(directory)
            return open_run(run_id, directory)

        return await self._of_runs.get(run_id, lambda: IMAGES.run(read))

    def dataset_of_run(self, run_id: str) -> LibraryDataset:
        """The dataset of a run's images; it is added, with the run's corrections, if it is none."""
        directory = self._runs.get(run_id)
        if has_no_images(directory):
            raise SourceError("It came without photographs", "Make a project of some of your own.")
        self._places.check(directory)
        recipe = recipe_of_run(directory)
        known = (item for item in self._sets.all() if item.sources == recipe.sources)
        if (dataset := next(known, None)) is not None:
            return dataset
        if len(recipe.sources) > 1 or recipe.test:
            raise SourceError(
                "The photographs of this classifier lie in several places",
                "Put them into one folder, then add it: More, Add from.",
            )
        table = directory.corrections
        if table.is_file() and any(row.class_ for row in read_corrections(table)):
            raise SourceError(
                "This classifier learnt from other classes than its folder has",
                "Train again where you changed them.",
            )
        with acting():  # images that its people see anyway
            added = self._sets.add_source(recipe.source)
        with self._sets.lock(added.id):
            path = self._sets.corrections_path(added.id)
            if table.is_file() and not path.exists():
                write_bytes(path, table.read_bytes())
        return added

    async def album_of_run(self, run_id: str) -> tuple[Album, NDArray[np.int64]]:
        """The photographs of a run's dataset, and where each of the run's is there, or -1."""
        opened = await self.of_run(run_id)
        dataset = await IMAGES.run(self.dataset_of_run, run_id)
        while True:
            album = await self.open(dataset.id)
            if album.opened is None:
                await IMAGES.run(self._sets.look, dataset.id)
                raise _unread()
            try:
                rows = await IMAGES.run(_rows_in, album.opened, opened)
                break
            except NotThere:  # unless the training has read photographs since
                if not await self.read_again(dataset.id):
                    raise
        at_row = await IMAGES.run(lambda: album.at_row)
        return album, np.array([at_row.get(row, -1) for row in rows.tolist()], np.int64)

    async def read_again(self, set_id: str) -> bool:
        """Take in new images; return whether there are any."""
        known, new = self._of_sets.kept(set_id), self._unread.pop(set_id, None) is not None
        if not known or await IMAGES.run(key_of_images, self._sets.get(set_id)) != known.opened.key:
            self._of_sets.forget(set_id)
            new = True
        if self._sets.get(set_id).made_here:  # elsewhere they may be away for a while
            with contextlib.suppress(NotDecoded, SourceError, NotAllowed):  # or there are none yet
                await self.forget_gone(set_id)
        return new

    # What is changed.

    async def move(self, album: Album, chosen: Sequence[int], class_: str) -> Done:
        """Give photographs another class, or remove them (``""``); classifiers keep theirs."""
        if class_ and class_ not in album.classes:
            raise no_class(class_)
        rows, files = _split(album, chosen)
        known = not class_ or (album.opened is not None and class_ in album.opened.classes)
        if not known:  # no photograph of the source is in it: files go there
            if not album.can_add:
                raise _unread()
            files = list(chosen)
        corrections = await self._corrections(album, rows)
        paths = [album.contents.path(at) for at in files]
        number = counted(len(chosen), "photograph")
        text = f"{number} moved to {class_}" if class_ else f"{number} removed"

        def work(own: PhotoFiles) -> Done:
            moves = own.to_class(paths, class_) if class_ and paths else own.to_trash(paths)
            labels = corrections.changes(rows, class_ if known else None) if corrections else ()
            return Done(text, own.make(text, moves, labels, corrections))

        return await self._change(album.dataset.id, work)

    async def forget_gone(self, set_id: str) -> Done:
        """Drop the corrections of photographs that are gone: training refuses them."""
        known = await self.corrections_of(set_id)

        def work(own: PhotoFiles) -> Done:
            gone = known.without_gone()
            text = f"Forgot {counted(len(gone), 'correction')} of photographs that are gone"
            return Done(text, own.make(text, (), gone, known))

        return await self._change(set_id, work)

    async def change_class(
        self, album: Album, class_: str, new: str = "", *, into: str = ""
    ) -> Done:
        """Rename a class, merge it ``into`` another, or remove it; return what was done, in words.

        Files first go where their labels are, so that none is lost with the folder.
        """
        if class_ in (new, into):
            return Done("")
        for name in filter(None, (class_, into)):
            if name not in album.classes:
                raise no_class(name)
        label, labels = album.classes.index(class_), album.labels
        here, there = album.contents.labels == label, labels == label
        away = np.flatnonzero((here != there) & (labels != OUT)).tolist()
        out = [] if new else np.flatnonzero(here & (labels == OUT)).tolist()
        rows = [int(album.rows[at]) for at in (*away, *out)]
        if min(rows, default=0) < 0:
            raise _unread()
        known = await self._corrections(album, rows)
        text = f"Renamed {class_} to {new}" if new else f"Removed the class {class_}"
        if into:
            text = f"Merged {class_} into {into}"
            away = np.flatnonzero((here | there) & (labels != OUT)).tolist()

        def work(own: PhotoFiles) -> Done:
            root, now = own.source, self._now(album)
            if now.contents.names != album.contents.names or (now.labels != labels).any():
                raise SourceError("The photographs are others by now", _LOOK)
            moves = [
                move
                for at in away
                for move in own.to_class(
                    [album.contents.path(at)], into if into and there[at] else album.class_of(at)
                )
            ]
            moves += own.renamed(class_, new) if new else own.to_trash([root / class_])
            relabelled = known.changes(rows, None) if known else ()
            return Done(text, own.make(text, moves, relabelled, known))

        return await self._change(album.dataset.id, work)

    async def add(self, set_id: str, files: Sequence[SentFile], class_: str = "") -> Done:
        """Take in uploaded files: into a class, or wherever their folders say."""

        def work(own: PhotoFiles) -> Done:
            moved = self._uploads.finish(files, own.source, loose=class_)
            return own.added(moved) if moved else Done("These photographs are here already")

        return await self._change(set_id, work, UPLOADS)

    async def keep(self, set_id: str, class_: str, content: bytes, name: str) -> Path:
        """Add an image that was tried to a class; return its file."""
        return await self._change(set_id, lambda own: own.keep(class_, content, name), UPLOADS)

    async def take_out(self, set_id: str, path: Path) -> None:
        """Remove a file that `keep` added."""

        def work(own: PhotoFiles) -> None:
            if path.exists():
                own.make("1 photograph removed", own.to_trash([path]))

        await self._change(set_id, work, UPLOADS)

    async def settle(self, set_id: str, key: tuple[str, str], is_settled: bool = True) -> None:
        """Settle something for all windows, or take that back."""
        await self._change(set_id, lambda own: own.settle(key, is_settled))

    async def add_class(self, set_id: str, name: str) -> Done:
        """Add an empty class."""
        return await self._change(set_id, lambda own: own.add_class(name))

    async def undo(self, set_id: str, only: float | None = None, *, earlier: bool = False) -> Done:
        """Take back the last change, whosever, or only if it is that of a time."""
        return await self._change(set_id, lambda own: Done(own.undo(only, earlier=earlier)))

    def sweep(self, older: float) -> None:
        """Delete photographs for good that were removed so many seconds ago."""
        for dataset in self._sets.all():
            with contextlib.suppress(NotThere), self._sets.lock(dataset.id):
                self._own(dataset.id).sweep(older)

    async def _listed(self, set_id: str) -> Contents:
        dataset = self._sets.get(set_id)

        def read() -> Contents:
            contents = read_contents(dataset)
            _ = contents.tokens if contents.files is not None else ()  # in this thread
            return contents

        return await self._contents.get(set_id, lambda: IMAGES.run(read))

    def _own(self, set_id: str) -> PhotoFiles:
        dataset = self._sets.get(set_id)  # it may have been removed in another window
        place = dataset.place if dataset.made_here else None
        return PhotoFiles(self._sets.folder(set_id), place, dataset.title)

    def _now(self, album: Album) -> Album:
        """An album of the same decoded images, with the files and labels now."""
        table, opened = self._sets.corrections_path(album.dataset.id), album.opened
        labels = Corrections(table, opened) if opened is not None else None
        return album_of(album.dataset, read_contents(album.dataset), table, labels)

    async def _corrections(self, album: Album, rows: Sequence[int]) -> Corrections | None:
        if not rows:
            return None
        known = await self.corrections_of(album.dataset.id)
        if album.opened is None or known.opened.key != album.opened.key:  # its rows are others now
            raise SourceError("The photographs have changed", _LOOK)
        return known

    async def _change(
        self, set_id: str, work: Callable[[PhotoFiles], T], pool: Threads = IMAGES
    ) -> T:
        """Change a dataset's files or labels in a thread, one change at a time."""

        def locked() -> T:
            require("labeller")
            with self._sets.lock(set_id):
                own = self._own(set_id)
                try:
                    return work(own)
                finally:
                    self._moved[set_id] += own.moved

        return await pool.run(locked)


def _split(album: Album, chosen: Sequence[int]) -> tuple[list[int], list[int]]:
    """Decoded rows of photographs, and positions of those that are not read yet."""
    require("labeller")
    new = [at for at in chosen if album.rows[at] < 0]
    known = all(album.labels[at] == album.contents.labels[at] for at in new)
    if new and not (album.can_add and known):
        raise _unread()
    return [int(album.rows[at]) for at in chosen if album.rows[at] >= 0], new


def _unread() -> SourceError:
    return SourceError("These photographs are still being read", "Try again in a moment.")


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
            f"The project no longer has {counted(lost, 'photograph')} of this classifier",
            "Add them again, or train again.",
        )
    return rows
