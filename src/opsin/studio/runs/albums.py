"""Opens the photographs of datasets, and changes them; every change can be undone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.format import counted
from opsin.studio.datasets.album import (
    Album,
    Contents,
    album_of,
    read_contents,
    stamp_of_folders,
)
from opsin.studio.datasets.catalogue import Library
from opsin.studio.datasets.corrections import OUT, Corrections
from opsin.studio.datasets.decoded_dataset import NotDecoded
from opsin.studio.datasets.photo_files import Change, PhotoFiles, no_class
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.datasets.uploads import Uploads
from opsin.studio.errors import NotThere
from opsin.studio.people import NotAllowed, require
from opsin.studio.runs.dataset_cache import DatasetCache
from opsin.studio.threads import IMAGES, UPLOADS, ComputedOnce, Threads

T = TypeVar("T")

# Listings in memory.
_OPEN: Final = 4


class Albums:
    """The photographs of all datasets, shared by all windows."""

    def __init__(self, sets: Library, opened: DatasetCache, uploads: Uploads) -> None:
        self._sets, self._opened, self._uploads = sets, opened, uploads
        self._contents = ComputedOnce[str, Contents](_OPEN)
        self._stamps: dict[str, object] = {}
        self._unread: dict[str, Contents] = {}  # found to be not decoded

    async def _read(self, set_id: str) -> Contents:
        dataset = self._sets.get(set_id)

        def read() -> Contents:
            contents = read_contents(dataset)
            _ = contents.places  # for addresses, in this thread
            return contents

        return await self._contents.get(set_id, lambda: IMAGES.run(read))

    async def original(self, set_id: str, token: str) -> bytes:
        """The content of a photograph's file, by its name in addresses."""
        return await IMAGES.run((await self._read(set_id)).original, token)

    async def open(self, set_id: str, *, at_once: bool = False) -> Album:
        """The photographs of a dataset now; at once only files, and labels by their names."""
        dataset = self._sets.get(set_id)
        stamp = await IMAGES.run(
            lambda: (self._opened.files(set_id).moves, stamp_of_folders(dataset.place))
        )
        if self._stamps.get(set_id) != stamp:  # files came or went, by whomever
            self._stamps[set_id] = stamp
            self._contents.forget(set_id)
        contents, corrections = await self._read(set_id), None
        table = self._sets.corrections_path(set_id)
        # Finding out that nothing was read yet takes seconds for very many files.
        if self._unread.get(set_id) is not contents and not (at_once and contents.files):
            try:
                corrections = await self._opened.corrections_of(set_id)
                return await IMAGES.run(album_of, dataset, contents, table, corrections)
            except (NotDecoded, SourceError):
                self._unread[set_id] = contents
        return await IMAGES.run(album_of, dataset, contents, table)

    async def of_run(self, run_id: str) -> tuple[Album, NDArray[np.int64]]:
        """The photographs of a run's dataset, and where each of the run's is there, or -1."""
        dataset, rows = await self._opened.set_of_run(run_id)
        album = await self.open(dataset.id)
        if album.opened is None:
            raise _unread()
        at_row = await IMAGES.run(lambda: album.at_row)
        return album, np.array([at_row.get(row, -1) for row in rows.tolist()], np.int64)

    async def read_again(self, set_id: str) -> bool:
        """Take in images that were read meanwhile; return whether there are any."""
        waited = self._unread.pop(set_id, None) is not None
        new = await self._opened.read_again(set_id)
        with contextlib.suppress(NotDecoded, NotAllowed):
            known = await self._opened.corrections_of(set_id)
            text = "Forgot corrections of photographs that are gone"
            await self._change(set_id, lambda own: own.make(text, (), known.without_gone(), known))
        return new or waited

    # What is changed.

    async def move(self, album: Album, chosen: Sequence[int], class_: str) -> str:
        """Give photographs another class; return what was done, in words."""
        if class_ not in album.classes:
            raise no_class(class_)
        rows, new = _split(album, chosen)
        known = album.opened is not None and class_ in album.opened.classes
        if not (known or album.can_add):
            raise _unread()
        # If the class is new, no image of the source is in it: files go there.
        files = new if known else list(chosen)
        text = f"{counted(len(chosen), 'photograph')} moved to {class_}"
        label = class_ if known else None
        return await self._write(album, text, rows, label, files=files, folder=class_)

    async def remove(self, album: Album, chosen: Sequence[int]) -> str:
        """Remove photographs; earlier classifiers keep theirs."""
        rows, new = _split(album, chosen)
        return await self._write(
            album, f"{counted(len(chosen), 'photograph')} removed", rows, "", files=new
        )

    async def restore(self, album: Album, chosen: Sequence[int]) -> str:
        """Take back what was changed of photographs' classes."""
        rows, _ = _split(album, chosen)
        return await self._write(album, f"{counted(len(chosen), 'photograph')} restored", rows)

    async def _write(
        self, album: Album, text: str, rows: Sequence[int], class_: str | None = None, *,
        files: Sequence[int] = (), folder: str = "",
    ) -> str:  # fmt: skip
        """Relabel decoded rows as in `Corrections.changes`, and move files into a class's folder.

        Without a folder, files are removed.
        """
        known = await self._corrections(album, rows)
        paths = [album.contents.path(at) for at in files]

        def work(own: PhotoFiles) -> None:
            moves = own.to_class(paths, folder) if folder and paths else own.to_trash(paths)
            own.make(text, moves, known.changes(rows, class_) if known else (), known)

        await self._change(album, work)
        return text

    async def add(self, album: Album | str, files: Sequence[SentFile], class_: str = "") -> str:
        """Take in uploaded files: into a class, or wherever their folders say."""
        moved: list[Path] = []

        def work(own: PhotoFiles) -> str:
            self._uploads.finish(files, own.source, loose=class_, moved=moved)
            return own.added(moved) if moved else "These photographs are here already"

        return await self._change(album, work, UPLOADS)

    async def keep(self, set_id: str, class_: str, content: bytes, name: str) -> Path:
        """Add an image that was tried to a class; return its file."""
        return await self._change(set_id, lambda own: own.keep(class_, content, name), UPLOADS)

    async def take_out(self, set_id: str, path: Path) -> None:
        """Remove a file that `keep` added."""

        def work(own: PhotoFiles) -> None:
            if path.exists():
                own.make("1 photograph removed", own.to_trash([path]))

        await self._change(set_id, work, UPLOADS)

    async def add_class(self, album: Album | str, name: str) -> str:
        """Add an empty class; return its name."""
        return await self._change(album, lambda own: own.add_class(name))

    async def change_class(self, album: Album, class_: str, new: str = "") -> str:
        """Rename a class, or remove it (no new name); return what was done, in words.

        Files first go where their labels are, so that none is lost with the folder.
        """
        if new == class_:
            return ""
        if class_ not in album.classes:
            raise no_class(class_)
        label, labels = album.classes.index(class_), album.labels
        here, there = album.contents.labels == label, labels == label
        away = np.flatnonzero((here != there) & (labels != OUT)).tolist()
        out = [] if new else np.flatnonzero(here & (labels == OUT)).tolist()
        rows = [int(album.rows[at]) for at in (*away, *out)]
        if min(rows, default=0) < 0:
            raise _unread()
        known = await self._corrections(album, rows)
        text = f"Renamed {class_} to {new}" if new else f"Removed the class {class_}"

        def work(own: PhotoFiles) -> None:
            moves = [
                move for at in away
                for move in own.to_class([album.contents.path(at)], album.class_of(at))
            ]  # fmt: skip
            moves += own.renamed(class_, new) if new else own.to_trash([own.source / class_])
            own.make(text, moves, known.changes(rows, None) if known else (), known)

        await self._change(album, work)
        return text

    async def last_change(self, set_id: str) -> Change | None:
        """The change that `undo` would take back."""
        changes = await IMAGES.run(lambda: self._opened.files(set_id).changes())
        return changes[-1] if changes else None

    async def undo(self, set_id: str) -> str:
        """Take back the last change, in whichever window it was made; return its words."""
        change = await self._change(set_id, lambda own: own.undo())
        return change.text if change else ""

    def sweep(self, older: float) -> None:
        """Delete photographs for good that were removed so many seconds ago."""
        for dataset in self._sets.all():
            with contextlib.suppress(NotThere), self._opened.files(dataset.id).lock:
                self._opened.files(dataset.id).sweep(older)

    async def _corrections(self, album: Album, rows: Sequence[int]) -> Corrections | None:
        if not rows:
            return None
        known = await self._opened.corrections_of(album.dataset.id)
        if album.opened is None or known.opened.key != album.opened.key:  # its rows are others now
            raise SourceError("The photographs are others by now", "Look at them, then repeat it.")
        return known

    async def _change(
        self, album: Album | str, work: Callable[[PhotoFiles], T], pool: Threads = IMAGES
    ) -> T:
        """Change a dataset's files or labels in a thread, one change at a time."""
        set_id = album if isinstance(album, str) else album.dataset.id

        def locked() -> T:
            require("labeller")
            own = self._opened.files(set_id)
            with own.lock:
                return work(own)

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
