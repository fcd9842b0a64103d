"""Opens the photographs of datasets, and changes them; every change can be undone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.format import counted
from opsin.studio.datasets.album import (
    OUT,
    Album,
    Contents,
    album_of,
    read_contents,
    stamp_of_folders,
)
from opsin.studio.datasets.catalogue import Library, without_places
from opsin.studio.datasets.corrections import Corrections
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.photo_files import Change, PhotoFiles, no_class
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.datasets.uploads import Uploads
from opsin.studio.errors import NotThere
from opsin.studio.people import require
from opsin.studio.runs.dataset_cache import DatasetCache, NotDecoded
from opsin.studio.threads import IMAGES, UPLOADS, ComputedOnce, Threads

T = TypeVar("T")

# Listings in memory, and photographs of each class in a first glimpse.
_OPEN: Final = 4
_FIRST: Final = 24


class Albums:
    """The photographs of all datasets, shared by all windows."""

    def __init__(self, sets: Library, opened: DatasetCache, uploads: Uploads) -> None:
        self._sets, self._opened, self._uploads = sets, opened, uploads
        self._files: dict[str, PhotoFiles] = {}
        self._contents = ComputedOnce[str, Contents](_OPEN)
        self._glimpsed: dict[str, Contents] = {}
        self._stamps: dict[str, object] = {}
        self._unread: dict[str, Contents] = {}  # found to be not decoded

    async def _read(self, set_id: str) -> Contents:
        dataset = self._sets.get(set_id)

        def read() -> Contents:
            with without_places(dataset.sources[0], dataset.title):
                return read_contents(dataset)

        contents = await self._contents.get(set_id, lambda: IMAGES.run(read))
        self._glimpsed.pop(set_id, None)
        return contents

    async def original(self, set_id: str, token: str) -> bytes:
        """The content of a photograph's file, by its name in addresses."""
        contents = self._glimpsed.get(set_id)
        if contents is None or token not in contents.places:
            contents = await self._read(set_id)
        return await IMAGES.run(contents.original, token)

    def files_changed(self, set_id: str) -> None:
        """List the files again; the decoded images stay open until others are there."""
        self._contents.forget(set_id)

    async def glimpse(self, set_id: str) -> Album | None:
        """A few photographs of each class, where listing all may take a while."""
        dataset = self._sets.get(set_id)
        if not dataset.made_here or self._contents.kept(set_id):
            return None
        contents = await IMAGES.run(read_contents, dataset, _FIRST)
        self._glimpsed[set_id] = contents
        return await IMAGES.run(album_of, dataset, contents, self._sets.corrections_path(set_id))

    async def open(self, set_id: str, *, at_once: bool = False) -> Album:
        """The photographs of a dataset now; at once only files, and labels by their names."""
        dataset = self._sets.get(set_id)
        stamp = await IMAGES.run(stamp_of_folders, Path(dataset.sources[0]))
        if self._stamps.get(set_id) != stamp:  # files came or went, by whomever
            self._stamps[set_id] = stamp
            self.files_changed(set_id)
        contents = await self._read(set_id)
        opened: DecodedDataset | None = None
        labels: NDArray[np.int64] | None = None
        gone = 0
        # Finding out that nothing was read yet takes seconds for very many files.
        if self._unread.get(set_id) is not contents and not (at_once and contents.files):
            try:
                opened = await self._opened.of_set(set_id)
                corrections = await self._opened.corrections_of(set_id)
                labels = await IMAGES.run(corrections.labels)
                gone = corrections.gone
            except (NotDecoded, SourceError):
                self._unread[set_id] = contents
        path = self._sets.corrections_path(set_id)
        return await IMAGES.run(
            album_of, dataset, contents, path, opened=opened, labels=labels, gone=gone
        )

    async def read_again(self, set_id: str) -> bool:
        """Take in images that were read meanwhile; return whether there are any."""
        waited = self._unread.pop(set_id, None) is not None
        new = await self._opened.changed(set_id)
        return await self._opened.look(set_id) or new or waited

    async def move(self, album: Album, chosen: Sequence[int], class_: str) -> str:
        """Give photographs another class; return what was done, in words."""
        require("labeller")
        if class_ not in album.classes:
            raise no_class(class_)
        text = f"{counted(len(chosen), 'photograph')} moved to {class_}"
        known = album.opened is not None and class_ in album.opened.classes
        if not (known or album.can_add):
            raise _unread()
        rows, new = self._split(album, chosen)
        corrections = await self._corrections(album, rows)

        def work(own: PhotoFiles) -> None:
            files = [album.contents.path(at) for at in new]
            if known:
                step = _step(corrections, lambda labels: labels.put(rows, class_))
            else:  # the class is new: no image of the source is in it
                step = _step(corrections, lambda labels: labels.take_back(rows))
                files += [album.contents.path(album.at_row[row]) for row in rows]
            moves = own.move_to(files, class_) if files else ()
            if moves or step is not None:
                own.note(text, moves, step)

        await self._change(album, work, files=bool(new) or not known)
        return text

    async def remove(self, album: Album, chosen: Sequence[int]) -> str:
        """Remove photographs; earlier classifiers keep theirs."""
        rows, new = self._split(album, chosen)
        text = f"{counted(len(chosen), 'photograph')} removed"
        corrections = await self._corrections(album, rows)

        def work(own: PhotoFiles) -> None:
            step = _step(corrections, lambda labels: labels.put(rows, None))
            moves = own.remove(map(album.contents.path, new)) if new else ()
            own.note(text, moves, step)

        await self._change(album, work, files=bool(new))
        return text

    async def restore(self, album: Album, chosen: Sequence[int]) -> str:
        """Take back what was changed of photographs' classes."""
        rows, _ = self._split(album, chosen)
        text = f"{counted(len(chosen), 'photograph')} restored"
        corrections = await self._corrections(album, rows)

        def work(own: PhotoFiles) -> None:
            own.note(text, step=_step(corrections, lambda labels: labels.take_back(rows)))

        await self._change(album, work, files=False)
        return text

    async def forget_gone(self, album: Album) -> str:
        """Drop the corrections of photographs that are not there any more."""
        corrections = await self._opened.corrections_of(album.dataset.id)
        await IMAGES.run(corrections.forget_gone)
        return ""

    async def sort(self, album: Album, chosen: Sequence[int], class_: str) -> str:
        """Move photographs of the tray into a class, or remove them (no class)."""
        files = [album.contents.tray[at] for at in chosen]
        done = f"moved to {class_}" if class_ else "removed"
        text = f"{counted(len(files), 'photograph')} {done}"

        def work(own: PhotoFiles) -> None:
            own.note(text, own.move_to(files, class_) if class_ else own.remove(files))

        await self._change(album, work)
        return text

    async def add(self, album: Album | str, files: Sequence[SentFile], class_: str = "") -> str:
        """Take in uploaded files: into a class, or wherever their folders say."""
        moved: list[Path] = []

        def work(own: PhotoFiles) -> str:
            self._uploads.finish(files, own.source, loose=class_, moved=moved)
            return own.added(moved) if moved else "These photographs are here already"

        return await self._change(album, work, pool=UPLOADS)

    async def keep(self, set_id: str, class_: str, content: bytes, name: str) -> Path:
        """Add an image that was tried to a class; return its file."""

        def work(own: PhotoFiles) -> Path:
            began = time.time()
            path = self._sets.keep_image(set_id, class_, content, name)
            if path.stat().st_mtime < began - 1:
                raise SourceError(f"It is among your photographs of {class_} already")
            own.added([path])
            return path

        return await self._change(set_id, work, pool=UPLOADS)

    async def take_out(self, set_id: str, path: Path) -> None:
        """Remove a file that `keep` added."""

        def work(own: PhotoFiles) -> None:
            if path.exists():
                own.note("1 photograph removed", own.remove([path]))

        await self._change(set_id, work, pool=UPLOADS)

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
        label, source = album.classes.index(class_), album.contents.labels
        here, there = source == label, album.labels == label
        away = np.flatnonzero((here != there) & (album.labels != OUT)).tolist()
        out = [] if new else np.flatnonzero(here & (album.labels == OUT)).tolist()
        back = [int(album.rows[at]) for at in (*away, *out)]
        if min(back, default=0) < 0:
            raise _unread()
        corrections = await self._corrections(album, back)
        text = f"Renamed {class_} to {new}" if new else f"Removed the class {class_}"

        def work(own: PhotoFiles) -> None:
            if new:
                own.new_name(new, class_)  # before anything moves
            step = _step(corrections, lambda labels: labels.take_back(back))
            moves: list[tuple[str, str]] = []
            for target in {int(album.labels[at]) for at in away}:
                files = [album.contents.path(at) for at in away if album.labels[at] == target]
                moves += own.move_to(files, album.classes[target])
            moves += own.rename_class(class_, new) if new else own.remove_class(class_)
            own.note(text, moves, step)

        await self._change(album, work)
        return text

    async def last_change(self, set_id: str) -> Change | None:
        """The change that `undo` would take back."""
        changes = await IMAGES.run(lambda: self._own(set_id).changes())
        return changes[-1] if changes else None

    async def undo(self, set_id: str) -> str:
        """Take back the last change, in whichever window it was made; return its words."""
        require("labeller")
        change = await self.last_change(set_id)
        corrections: Corrections | None = None
        with contextlib.suppress(NotDecoded):
            corrections = await self._opened.corrections_of(set_id)
        done = await IMAGES.run(corrections.steps) if corrections else 0
        if corrections and (change is None or (change.step is not None and done > change.step)):
            # Labels were changed on another page since.
            return "Last correction" if await IMAGES.run(corrections.undo) else ""
        change = await IMAGES.run(self._own(set_id).take_last)
        if change is None:
            return ""
        if change.moves:
            self.files_changed(set_id)
        if change.step is not None:
            with contextlib.suppress(NotDecoded):
                await self._opened.changed(set_id)  # by now, it may know other classes
                await IMAGES.run((await self._opened.corrections_of(set_id)).undo)
        return change.text

    def sweep(self, older: float) -> None:
        """Delete photographs for good that were removed so many seconds ago."""
        for dataset in self._sets.all():
            with contextlib.suppress(NotThere), self._own(dataset.id).lock:
                self._own(dataset.id).sweep(older)

    def _split(self, album: Album, chosen: Sequence[int]) -> tuple[list[int], list[int]]:
        """Decoded rows of photographs, and positions of those that are not read yet."""
        require("labeller")
        new = [at for at in chosen if album.rows[at] < 0]
        known = all(album.labels[at] == album.contents.labels[at] for at in new)
        if new and not (album.can_add and known):
            raise _unread()
        return [int(album.rows[at]) for at in chosen if album.rows[at] >= 0], new

    async def _corrections(self, album: Album, rows: Sequence[int]) -> Corrections | None:
        if not rows:
            return None
        known = await self._opened.corrections_of(album.dataset.id)
        if album.opened is None or known.key != album.opened.key:  # its rows are others now
            raise SourceError("The photographs are others by now", "Look at them, then repeat it.")
        return known

    def _own(self, set_id: str) -> PhotoFiles:
        if set_id not in self._files:
            dataset = self._sets.get(set_id)
            source = Path(dataset.sources[0]) if dataset.made_here else None
            own = PhotoFiles(
                self._sets.folder(set_id), source, lambda: self._sets.get(set_id).title
            )
            own.sweep()
            return self._files.setdefault(set_id, own)
        return self._files[set_id]

    async def _change(
        self, album: Album | str, work: Callable[[PhotoFiles], T], *, files: bool = True,
        pool: Threads = IMAGES,
    ) -> T:  # fmt: skip
        """Change a dataset's files or labels in a thread, one change at a time."""
        set_id = album if isinstance(album, str) else album.dataset.id

        def locked() -> T:
            require("labeller")
            self._sets.get(set_id)  # it may have been removed in another window
            own = self._own(set_id)
            with own.lock:
                return work(own)

        try:
            return await pool.run(locked)
        finally:
            if files:
                self.files_changed(set_id)


def _step(corrections: Corrections | None, work: Callable[[Corrections], int]) -> int | None:
    """Change labels; return the number of steps then, or ``None`` if nothing changed."""
    return corrections.steps() if corrections and work(corrections) else None


def _unread() -> SourceError:
    return SourceError("These photographs are still being read", "Try again in a moment.")
