"""The photographs of a dataset at one time: their files, and the class that each has now."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import OpsinError, SourceError
from opsin.core.files import FileStamp, file_stamp
from opsin.data.corrections import (
    LEFT_OUT,
    Correction,
    as_written,
    correct,
    read_corrections,
    unmatched,
    write_corrections,
)
from opsin.data.image_tree import is_image_name, is_visible, natural
from opsin.data.images import content_of
from opsin.data.sources.named import NAMES
from opsin.studio.datasets.catalogue import LibraryDataset
from opsin.studio.datasets.dataset_search import list_images
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.uploads import TRAY
from opsin.studio.errors import NotThere
from opsin.studio.people import allows
from opsin.studio.words import opaque

#: The labels of photographs that are left out, and of those without a class, in the tray.
OUT: Final = -1
UNSORTED: Final = -2

Lines = dict[tuple[str, str], str]
#: An image's digest, name, and labels in the table before and after; ``None`` is the source's.
#: By content and name, since rows change when a dataset grows.
LabelChange = tuple[str, str, str | None, str | None]


@dataclass(frozen=True, eq=False)
class Contents:
    """The photographs in a dataset's source and in its tray."""

    classes: tuple[str, ...]  # empty ones too
    names: Sequence[str]  # paths below the source
    labels: NDArray[np.int64]  # each photograph's class in the source, or `UNSORTED`
    files: Sequence[str] | None = None  # images in arrays or in one file have no original
    stamps: Sequence[tuple[int, int]] = ()  # time of change and size

    @cached_property
    def tokens(self) -> list[str]:
        """Each photograph's name in addresses; it differs for another content of the same name."""
        stamped = zip(self.names, self.stamps, strict=True)
        return [opaque(f"{name}\0{time}\0{size}") for name, (time, size) in stamped]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {token: at for at, token in enumerate(self.tokens if self.files is not None else ())}

    def original(self, token: str) -> bytes:
        """The content of a photograph's file, by its name in addresses."""
        at = self._places.get(token)
        if at is None or self.files is None:
            raise NotThere("There is no such photograph any more", "Load the page again.")
        return content_of(self.files[at], "the photograph")

    def path(self, at: int) -> Path:
        """The file of a photograph."""
        if self.files is None:
            raise SourceError("These photographs lie in one file", "Correct their classes instead.")
        return Path(os.path.normpath(self.files[at]))


def read_contents(dataset: LibraryDataset) -> Contents:
    """List a dataset's photographs; untrusted tables and archives are read in a sandbox."""
    if dataset.made_here:
        return _read_folder(dataset.place)
    if set(dataset.sources) & set(NAMES):
        return Contents((), (), np.zeros(0, np.int64))
    listed = list_images(dataset.recipe(), dataset.title)
    contents = Contents(tuple(listed["classes"]), listed["names"], np.array(listed["labels"]))
    if listed["files"] is not None:
        stamps = [(stamp.mtime_ns, stamp.size) for stamp in map(file_stamp, listed["files"])]
        return replace(contents, files=listed["files"], stamps=stamps)
    return contents


def _read_folder(root: Path) -> Contents:
    """List the class folders of a dataset that was made here; what came last comes first."""
    if not root.is_dir():
        raise SourceError("The photographs of this project are gone", "Restore their folder.")
    visible = filter(is_visible, (Path(path).name for path in _folders(root)))
    classes = tuple(sorted(visible, key=natural))
    tops, found = list(enumerate(classes)), list[tuple[int, int, str, int]]()
    if not (root.parent / TRAY).is_symlink():
        tops.append((UNSORTED, f"../{TRAY}"))
    for label, top in tops:
        for folder, folders, names in os.walk(f"{root}/{top}"):
            folders[:] = filter(is_visible, folders)
            for name in filter(is_image_name, filter(is_visible, names)):
                path = f"{folder}/{name}"
                with contextlib.suppress(FileNotFoundError):  # it is just being moved
                    state = os.lstat(path)  # a Path takes ten times as long
                    if stat.S_ISREG(state.st_mode):
                        found.append((label, -state.st_mtime_ns, path, state.st_size))
    found.sort()
    names, labels = [path[len(f"{root}/") :] for _, _, path, _ in found], [of[0] for of in found]
    stamps = [(-time, size) for _, time, _, size in found]
    files = [path for _, _, path, _ in found]
    return Contents(classes, names, np.array(labels, np.int64), files, stamps)


def _folders(root: Path) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def stamp_of_folders(root: Path) -> list[tuple[str, int]]:
    """The class folders and the tray, with the times when files came or went."""
    folders = sorted([*_folders(root), str(root), str(root.parent / TRAY)])
    return [(folder, file_stamp(folder).mtime_ns) for folder in folders]


def read_lines(path: Path) -> Lines:
    """The labels of a table of corrections by digest and name; none if there is no table."""
    rows = read_corrections(path) if path.is_file() else ()
    return {(row.digest, row.name): row.label for row in rows}


def change_lines(path: Path, lines: Lines, changes: Collection[LabelChange]) -> None:
    """Write a table of corrections with some changes."""
    after = dict(lines) | {(digest, name): label for digest, name, _, label in changes}
    rows = (Correction(*key, label) for key, label in after.items() if label is not None)
    write_corrections(path, rows)


class Corrections:
    """The labels of decoded images as their table says; it may be changed by hand."""

    def __init__(self, path: Path, opened: DecodedDataset) -> None:
        self._path, self.opened = path, opened
        self._read: tuple[FileStamp, NDArray[np.int64], Lines] | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """Each image's class now, `OUT` if it is left out: ``int64[N]``."""
        return self._now()[0]

    def changes(self, rows: Collection[int], class_: str | None) -> list[LabelChange]:
        """What relabels images, leaves them out (``""``), or takes corrections back (``None``)."""
        chosen, labels = np.array(list(rows), np.int64), self.labels
        wanted = labels.copy()
        if class_ is None:
            wanted[chosen] = self.opened.decoded.labels[chosen]
        else:
            wanted[chosen] = self.opened.classes.index(class_) if class_ else OUT
        if (wanted == OUT).all():
            raise SourceError("All photographs would be left out", "Keep some.")
        before, after = self._lines(labels, chosen), self._lines(wanted, chosen)
        keys = dict.fromkeys(map(self._key, chosen.tolist()))
        changes = [(*key, before.get(key), after.get(key)) for key in keys]
        return [change for change in changes if change[2] != change[3]]

    def without_gone(self) -> list[LabelChange]:
        """What drops the lines about images that are not there any more: training refuses them."""
        return [(*key, label, None) for key, label in self._now()[1].items()]

    def write(self, changes: Collection[LabelChange]) -> None:
        """Make changes; each image has one line afterwards, by its digest and name."""
        labels, gone = self._now()
        corrected = np.flatnonzero(labels != self.opened.decoded.labels)
        change_lines(self._path, self._lines(labels, corrected) | gone, changes)

    def _key(self, row: int) -> tuple[str, str]:
        return self.opened.digest(row), as_written(self.opened.decoded.names[row])

    def _lines(self, labels: NDArray[np.int64], rows: NDArray[np.int64]) -> Lines:
        # If a class is named like the mark, an empty cell leaves images out instead.
        classes, own = self.opened.classes, self.opened.decoded.labels
        names = [*classes, "" if LEFT_OUT in classes else LEFT_OUT]  # `OUT` is the last
        corrected = rows[labels[rows] != own[rows]]
        return {self._key(row): names[labels[row]] for row in corrected.tolist()}

    def _now(self) -> tuple[NDArray[np.int64], Lines]:
        """The labels, and the lines of images that are not there, as training reads them."""
        stamp = file_stamp(self._path)
        if self._read is None or self._read[0] != stamp:
            whole, gone = self.opened.decoded, dict[tuple[str, str], str]()
            labels = whole.labels.copy()
            if self._path.is_file():
                rows = read_corrections(self._path)
                corrected = correct(whole, self._path, rows, missing_ok=True)
                labels[:] = OUT
                labels[corrected.rows] = corrected.labels
                gone = {(row.digest, row.name): row.label for row in unmatched(rows, whole)}
            self._read = stamp, labels, gone
        return self._read[1:]


@dataclass(frozen=True, eq=False)
class Album:
    """The photographs of a dataset with their classes."""

    dataset: LibraryDataset
    contents: Contents  # for sources of arrays, the decoded images
    labels: NDArray[np.int64]  # class of each photograph now, `OUT` or `UNSORTED`
    rows: NDArray[np.int64]  # of each in the decoded images, -1 until it was read
    opened: DecodedDataset | None = None  # the decoded images, once they were read
    gone: int = 0  # corrections of photographs that are not there

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes now."""
        return self.contents.classes

    @property
    def can_add(self) -> bool:
        """Whether photographs and classes can be added, renamed and removed."""
        return self.dataset.made_here and allows("labeller")

    @cached_property
    def counts(self) -> dict[str, int]:
        """Photographs of each class."""
        return {name: len(self.of(label)) for label, name in enumerate(self.classes)}

    @cached_property
    def _of_class(self) -> list[NDArray[np.int64]]:
        order = np.argsort(self.labels, kind="stable")
        ends = np.searchsorted(self.labels[order], np.arange(UNSORTED, len(self.classes) + 1))
        return [order[low:high] for low, high in itertools.pairwise(ends)]

    def of(self, label: int) -> NDArray[np.int64]:
        """Positions of the photographs of a class, `OUT` or `UNSORTED`, in their order."""
        return self._of_class[label - UNSORTED]

    def name(self, at: int) -> str:
        """A photograph's path below the source."""
        return self.contents.names[at]

    def class_of(self, at: int) -> str:
        """A photograph's class now; ``""`` if it has none or is left out."""
        label = int(self.labels[at])
        return self.classes[label] if label >= 0 else ""

    def address(self, at: int, *, large: bool = False) -> str:
        """Address of a photograph's thumbnail, or of its original form."""
        if self.opened is not None and self.contents.files is None:
            return self.opened.address(int(self.rows[at]))
        route = "originals" if large else "thumbnails"
        return f"/{route}/{self.dataset.id}/{self.contents.tokens[at]}"

    @cached_property
    def at_row(self) -> dict[int, int]:
        """The position of each decoded row."""
        return {row: at for at, row in enumerate(self.rows.tolist()) if row >= 0}

    def why_not_trainable(self) -> str:
        """Why no training can start with these photographs; ``""`` if one can."""
        filled = {name: number for name, number in self.counts.items() if number}
        if len(filled) < 2:
            return "Add photographs to at least two classes first."
        if few := next((name for name, number in filled.items() if number < 2), None):
            return f"Add another photograph to {few}: each class needs two or more."
        source = np.unique(self.contents.labels[self.contents.labels >= 0]).tolist()
        if empty := next((self.classes[of] for of in source if self.classes[of] not in filled), ""):
            return f"{empty} has no photographs left: add some, or remove the class."
        return ""


def album_of(
    dataset: LibraryDataset, contents: Contents, table: Path, corrections: Corrections | None = None
) -> Album:
    """Put files, decoded images and their labels now together.

    Before the images were decoded, the table of corrections is applied by names.
    """
    if contents.files is None and corrections is not None:
        whole = corrections.opened.decoded
        contents = replace(contents, classes=whole.classes, names=whole.names, labels=whole.labels)
        rows = np.arange(len(whole.labels))
        gone = len(corrections.without_gone())
        return Album(dataset, contents, corrections.labels, rows, corrections.opened, gone)
    number = {name: label for label, name in enumerate(contents.classes)}
    now, rows = contents.labels.copy(), np.full(len(contents.names), -1)
    if corrections is None:
        corrected = dict[str, str]()
        with contextlib.suppress(OpsinError):
            corrected = {name: label for (_, name), label in read_lines(table).items()}
        for at, name in enumerate(contents.names if corrected else ()):
            if name in corrected:
                now[at] = number.get(corrected[name], OUT)
        return Album(dataset, contents, now, rows)
    opened, labels = corrections.opened, corrections.labels
    row_of = {name: row for row, name in enumerate(opened.decoded.names)}
    numbers = np.array([number.get(name, OUT) for name in (*opened.classes, "")], np.int64)
    rows = np.array([row_of.get(name, -1) for name in contents.names], np.int64)
    rows[numbers[opened.decoded.labels[rows]] != contents.labels] = -1  # moved since it was read
    now, gone = np.where(rows < 0, now, numbers[labels[rows]]), len(corrections.without_gone())
    return Album(dataset, contents, now, rows, opened, gone)
