"""The photographs of a dataset as people see them, and what they may change."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import OpsinError, SourceError
from opsin.core.format import counted
from opsin.data.corrections import LEFT_OUT, read_corrections
from opsin.studio.datasets.catalogue import LibraryDataset, without_places
from opsin.studio.datasets.corrections import Corrections
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.pages.photo_contents import Contents, read_contents, stamp_of_folders
from opsin.studio.pages.photo_files import Change, PhotoFiles
from opsin.studio.people import allows, require
from opsin.studio.runs.dataset_cache import NotDecoded
from opsin.studio.threads import IMAGES, UPLOADS, ComputedOnce

if TYPE_CHECKING:
    from opsin.studio.state import Studio

#: Label of images that are left out.
OUT: Final = -1
_OPEN: Final = 4
_ALBUMS: Final = WeakKeyDictionary["Studio", "Albums"]()


def albums_of(studio: Studio) -> Albums:
    """The albums of a studio, which all its windows share."""
    return _ALBUMS.setdefault(studio, Albums(studio))


@dataclass(frozen=True, eq=False)
class Album:
    """The photographs of a dataset at one time.

    Args:
        contents: Its files; for sources of arrays, its decoded images.
        labels: Class of each photograph now, `OUT` if it is left out: ``int64[N]``.
        rows: Row of each in the decoded images, -1 until it was read: ``int64[N]``.
    """

    dataset: LibraryDataset
    contents: Contents
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    opened: DecodedDataset | None = None

    @property
    def can_add(self) -> bool:
        """Whether photographs and classes can be added, renamed and removed."""
        return self.dataset.made_here and not self.contents.parts and allows("labeller")

    @cached_property
    def counts(self) -> dict[str, int]:
        """Photographs of each class."""
        numbers = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, numbers.tolist(), strict=True))

    @cached_property
    def _of_class(self) -> list[NDArray[np.int64]]:
        order = np.argsort(self.labels, kind="stable")
        ends = np.searchsorted(self.labels[order], np.arange(len(self.classes) + 1))
        return [order[low:high] for low, high in itertools.pairwise(ends)]

    def of(self, label: int) -> NDArray[np.int64]:
        """Positions of the photographs of a class, in the order of the contents."""
        return self._of_class[label]

    def left_out(self) -> NDArray[np.int64]:
        """Positions of the photographs that were removed and can be restored."""
        return np.flatnonzero(self.labels == OUT)

    def name(self, at: int) -> str:
        """A photograph's path below the source."""
        return self.contents.names[at]

    def class_of(self, at: int) -> str:
        """A photograph's class now; ``""`` if it is left out."""
        label = int(self.labels[at])
        return "" if label == OUT else self.classes[label]

    def address(self, at: int, *, large: bool = False) -> str:
        """Address of a photograph's thumbnail, or of its original form."""
        if self.contents.files is None:
            assert self.opened is not None
            return self.opened.address(int(self.rows[at]))
        route = "originals" if large else "thumbnails"
        return f"/{route}/{self.dataset.id}/{self.contents.tokens[at]}"

    def tray_address(self, at: int, *, large: bool = False) -> str:
        """The same for a photograph of the tray."""
        route = "originals" if large else "thumbnails"
        return f"/{route}/{self.dataset.id}/{self.contents.tray_tokens[at]}"

    @cached_property
    def at_row(self) -> dict[int, int]:
        """The position of each decoded row."""
        return {row: at for at, row in enumerate(self.rows.tolist()) if row >= 0}

    def why_not_trainable(self) -> str:
        """Why no training can start with these photographs; ``""`` if one can."""
        filled = {name: number for name, number in self.counts.items() if number}
        if len(filled) < 2:
            return "Add photographs to at least two classes first."
        few = next((name for name, number in filled.items() if number < 2), None)
        if few is not None:
            return f"Add another photograph to {few}: each class needs two or more."
        source = np.bincount(self.contents.labels, minlength=len(self.classes))
        for label, (name, number) in enumerate(self.counts.items()):
            if not number and label < len(source) and source[label]:
                return f"{name} has no photographs left: add some, or remove the class."
        return ""


class Albums:
    """Opens albums and changes them; every change can be undone."""

    def __init__(self, studio: Studio) -> None:
        self._sets, self._opened, self._uploads = studio.sets, studio.opened, studio.uploads
        self._files: dict[str, PhotoFiles] = {}
        self._contents = ComputedOnce[str, Contents](_OPEN)
        self._stamps: dict[str, object] = {}
        self._unread: dict[str, Contents] = {}

    async def contents(self, set_id: str) -> Contents:
        """The files of a dataset's photographs."""
        dataset = self._sets.get(set_id)

        def read() -> Contents:
            with without_places(dataset.sources[0], dataset.title):
                contents = read_contents(dataset)
            if contents.files is not None:  # reads the disk, so not later on the event loop
                contents.tokens, contents.tray_tokens  # noqa: B018
            return contents

        return await self._contents.get(set_id, lambda: IMAGES.run(read))

    async def _look_for_files(self, set_id: str) -> None:
        """List the files again if a folder of theirs was changed, by whomever."""
        dataset = self._sets.get(set_id)
        if dataset.made_here:
            stamp = await IMAGES.run(stamp_of_folders, Path(dataset.sources[0]))
            if self._stamps.get(set_id) != stamp:
                self._stamps[set_id] = stamp
                self.files_changed(set_id)

    def files_changed(self, set_id: str) -> None:
        """List the files again; the decoded images stay open until others are there."""
        self._contents.forget(set_id)

    async def open(self, set_id: str, *, at_once: bool = False) -> Album:
        """The photographs of a dataset now; at once only files, and labels by their names."""
        dataset = self._sets.get(set_id)
        await self._look_for_files(set_id)
        contents = await self.contents(set_id)
        opened: DecodedDataset | None = None
        labels: NDArray[np.int64] | None = None
        # Finding out that nothing was read yet takes seconds for very many files.
        if self._unread.get(set_id) is not contents and not (at_once and contents.files):
            self._unread[set_id] = contents
            with contextlib.suppress(NotDecoded, SourceError):
                opened = await self._opened.of_set(set_id)
                labels = await IMAGES.run((await self._opened.corrections_of(set_id)).labels)
                self._unread.pop(set_id, None)
        path = self._sets.corrections_path(set_id)
        return await IMAGES.run(_album, dataset, contents, opened, labels, path)

    async def read_again(self, set_id: str) -> bool:
        """Take in images that were read meanwhile; return whether there are any."""
        waited = self._unread.pop(set_id, None) is not None
        new = await self._opened.changed(set_id)
        return await self._opened.look(set_id) or new or waited

    async def move(self, album: Album, chosen: Sequence[int], class_: str) -> str:
        """Give photographs another class; return what was done, in words."""
        require("labeller")
        if class_ not in album.classes:
            raise SourceError(f"There is no class {class_!r:.80} any more", "Choose another one.")
        text = f"{counted(len(chosen), 'photograph')} moved to {class_}"
        known = album.opened is not None and class_ in album.opened.classes
        if not (known or album.can_add):
            raise SourceError("These photographs are still being read", "Try again in a moment.")
        rows, new = self._split(album, chosen)
        corrections = await self._corrections(album) if rows else None

        def work() -> None:
            step: int | None = None
            files = [album.contents.path(at) for at in new]
            with self._lock(album) as own:
                if known:
                    step = _step(corrections, lambda known: known.put(rows, class_))
                elif corrections:  # the class is new: no image of the source is in it
                    step = _step(corrections, lambda known: known.take_back(rows))
                    files += [album.contents.path(album.at_row[row]) for row in rows]
                wanted = own.source / class_ if files else None
                files = [file for file in files if file.parent != wanted]
                moves = own.move_to(files, class_) if files else ()
                if moves or step is not None:
                    own.note(text, moves, step)

        await IMAGES.run(work)
        if new or not known:
            self.files_changed(album.dataset.id)
        return text

    async def remove(self, album: Album, chosen: Sequence[int]) -> str:
        """Remove photographs; earlier classifiers keep theirs."""
        rows, new = self._split(album, chosen)
        text = f"{counted(len(chosen), 'photograph')} removed"
        corrections = await self._corrections(album) if rows else None

        def work() -> None:
            with self._lock(album) as own:
                step = _step(corrections, lambda known: known.put(rows, None))
                moves = own.remove(map(album.contents.path, new)) if new else ()
                own.note(text, moves, step)

        await IMAGES.run(work)
        if new:
            self.files_changed(album.dataset.id)
        return text

    async def restore(self, album: Album, chosen: Sequence[int]) -> str:
        """Take back what was changed of photographs' classes."""
        rows, _ = self._split(album, chosen)
        text = f"{counted(len(chosen), 'photograph')} restored"
        corrections = await self._corrections(album)

        def work() -> None:
            with self._lock(album) as own:
                step = _step(corrections, lambda known: known.take_back(rows))
                own.note(text, (), step)

        await IMAGES.run(work)
        return text

    async def sort(self, album: Album, chosen: Sequence[int], class_: str) -> str:
        """Move photographs of the tray into a class, or remove them (no class)."""
        files = [album.contents.tray[at] for at in chosen]
        done = f"moved to {class_}" if class_ else "removed"
        text = f"{counted(len(files), 'photograph')} {done}"

        def work() -> None:
            with self._lock(album) as own:
                own.note(text, own.move_to(files, class_) if class_ else own.remove(files))

        await IMAGES.run(work)
        self.files_changed(album.dataset.id)
        return text

    async def add(self, album: Album, files: Sequence[SentFile], class_: str = "") -> str:
        """Take in uploaded files: into a class, or wherever their folders say."""
        moved: list[Path] = []

        def work() -> str:
            with self._lock(album) as own:
                self._uploads.finish(files, own.source, loose=class_, moved=moved)
                return own.added(moved) if moved else "These photographs are here already"

        text = await UPLOADS.run(work)
        self.files_changed(album.dataset.id)
        return text

    async def keep(self, set_id: str, class_: str, content: bytes, name: str) -> Path:
        """Add an image that was tried to a class; return its file."""

        def work() -> Path:
            own, began = self._own(set_id), time.time()
            with own.lock:
                path = self._sets.keep_image(set_id, class_, content, name)
                if path.stat().st_mtime < began - 1:
                    raise SourceError(f"It is among your photographs of {class_} already")
                own.added([path])
            return path

        path = await UPLOADS.run(work)
        self.files_changed(set_id)
        return path

    async def take_out(self, set_id: str, path: Path) -> None:
        """Remove a file that `keep` added."""

        def work() -> None:
            own = self._own(set_id)
            with own.lock:
                if path.exists():
                    own.note("1 photograph removed", own.remove([path]))

        await UPLOADS.run(work)
        self.files_changed(set_id)

    async def add_class(self, album: Album, name: str) -> str:
        """Add an empty class; return its name."""

        def work() -> str:
            with self._lock(album) as own:
                return own.add_class(name)

        name = await IMAGES.run(work)
        self.files_changed(album.dataset.id)
        return name

    async def change_class(self, album: Album, class_: str, new: str = "") -> str:
        """Rename a class, or remove it (no new name); return what was done, in words.

        Files first go where their labels are, so that none is lost with the folder.
        """
        if new == class_:
            return ""
        label, source = album.classes.index(class_), album.contents.labels
        here, there = source == label, album.labels == label
        away = np.flatnonzero((here != there) & (album.labels != OUT)).tolist()
        out = [] if new else np.flatnonzero(here & (album.labels == OUT)).tolist()
        back = [int(album.rows[at]) for at in (*away, *out)]
        corrections = await self._corrections(album) if back else None
        text = f"Renamed {class_} to {new}" if new else f"Removed the class {class_}"

        def work() -> None:
            with self._lock(album) as own:
                if new:
                    own.new_name(new, class_)  # before anything moves
                step = _step(corrections, lambda known: known.take_back(back))
                moves: list[tuple[str, str]] = []
                for target in {int(album.labels[at]) for at in away}:
                    files = [album.contents.path(at) for at in away if album.labels[at] == target]
                    moves += own.move_to(files, album.classes[target])
                moves += own.rename_class(class_, new) if new else own.remove_class(class_)
                own.note(text, moves, step)

        await IMAGES.run(work)
        self.files_changed(album.dataset.id)
        return text

    def last_change(self, set_id: str) -> Change | None:
        """The change that `undo` would take back. Reads a small file."""
        changes = self._own(set_id).changes()
        return changes[-1] if changes else None

    async def undo(self, set_id: str) -> str:
        """Take back the last change, in whichever window it was made; return its words."""
        require("labeller")
        own = self._own(set_id)
        change = await IMAGES.run(self.last_change, set_id)
        corrections: Corrections | None = None
        with contextlib.suppress(NotDecoded):
            corrections = await self._opened.corrections_of(set_id)
        done = await IMAGES.run(corrections.steps) if corrections else (0, 0)
        if corrections and (change is None or (change.step is not None and done[0] > change.step)):
            # Labels were changed on another page since.
            return "Last correction" if await IMAGES.run(corrections.undo) else ""
        change = await IMAGES.run(own.take_last)
        if change is None:
            return ""
        if change.moves:
            self.files_changed(set_id)
        if change.step is not None:
            with contextlib.suppress(NotDecoded):
                await self._opened.changed(set_id)  # by now, it may know other classes
                await IMAGES.run((await self._opened.corrections_of(set_id)).undo)
        return change.text

    def _split(self, album: Album, chosen: Sequence[int]) -> tuple[list[int], list[int]]:
        """Decoded rows of photographs, and positions of those that are not read yet."""
        require("labeller")
        new = [at for at in chosen if album.rows[at] < 0]
        known = all(album.labels[at] == album.contents.labels[at] for at in new)
        if new and not (album.can_add and known):
            raise SourceError("These photographs are still being read", "Try again in a moment.")
        return [int(album.rows[at]) for at in chosen if album.rows[at] >= 0], new

    async def _corrections(self, album: Album) -> Corrections:
        known = await self._opened.corrections_of(album.dataset.id)
        if album.opened is None or known.key != album.opened.key:  # its rows are others now
            raise SourceError("The photographs are others by now", "Look at them, then repeat it.")
        return known

    def _own(self, set_id: str) -> PhotoFiles:
        if set_id not in self._files:
            dataset = self._sets.get(set_id)
            source = Path(dataset.sources[0]) if dataset.made_here else None
            folder = self._sets.folder(set_id)
            self._files[set_id] = PhotoFiles(folder, source, lambda: self._sets.get(set_id).title)
            self._files[set_id].sweep()
        return self._files[set_id]

    @contextlib.contextmanager
    def _lock(self, album: Album) -> Iterator[PhotoFiles]:
        require("labeller")
        self._sets.get(album.dataset.id)  # it may have been removed in another window
        own = self._own(album.dataset.id)
        with own.lock:
            yield own


def _step(corrections: Corrections | None, work: Callable[[Corrections], int]) -> int | None:
    """Change labels; return the number of steps then, or ``None`` if nothing changed."""
    return corrections.steps()[0] if corrections and work(corrections) else None


def _album(
    dataset: LibraryDataset,
    contents: Contents,
    opened: DecodedDataset | None,
    labels: NDArray[np.int64] | None,
    path: Path,
) -> Album:
    """Put files, decoded images and corrections together."""
    if contents.files is None:
        if opened is None:
            empty = np.zeros(0, np.int64)
            return Album(dataset, contents, (), empty, empty)
        decoded = opened.decoded
        contents = replace(
            contents, classes=decoded.classes, names=decoded.names, labels=decoded.labels
        )
        now = decoded.labels if labels is None else labels
        return Album(dataset, contents, decoded.classes, now, np.arange(len(now)), opened)
    number = {name: label for label, name in enumerate(contents.classes)}
    now, rows = contents.labels.copy(), np.full(len(contents.names), -1)
    if opened is None or labels is None:
        corrected = _corrected(path)
        for at, name in enumerate(contents.names if corrected else ()):
            if (label := corrected.get(name)) is not None:
                now[at] = number.get(label, OUT)
        return Album(dataset, contents, contents.classes, now, rows, None)
    row_of = {name: row for row, name in enumerate(opened.decoded.names)}
    numbers = np.array([number.get(name, OUT) for name in (*opened.classes, "")], np.int64)
    own = opened.decoded.labels
    for at, name in enumerate(contents.names):
        row = row_of.get(name)
        if row is not None and numbers[own[row]] == contents.labels[at]:
            rows[at], now[at] = row, numbers[labels[row]]
    return Album(dataset, contents, contents.classes, now, rows, opened)


def _corrected(path: Path) -> dict[str, str]:
    """Corrected labels by name, before the images were read; ``-`` is left out."""
    with contextlib.suppress(OpsinError):
        return {row.name: row.label or LEFT_OUT for row in read_corrections(path)}
    return {}
