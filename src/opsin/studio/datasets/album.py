"""The photographs of a dataset at one time: their files, and the class that each has now."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import OpsinError, SourceError
from opsin.core.files import file_stamp
from opsin.data.image_tree import is_image_name, is_visible, natural
from opsin.data.images import PackedImage, content_of
from opsin.data.sources.named import NAMES
from opsin.studio.datasets.catalogue import LibraryDataset
from opsin.studio.datasets.corrections import OUT, Corrections, read_lines
from opsin.studio.datasets.dataset_search import list_images
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.upload_import import TRAY
from opsin.studio.errors import NotThere
from opsin.studio.people import allows

#: The label of photographs without a class, which wait in the tray.
UNSORTED: Final = -2


@dataclass(frozen=True, eq=False)
class Contents:
    """The photographs in a dataset's source and in its tray.

    Args:
        classes: Names of the classes, empty ones too.
        names: Each photograph's name, its path below the source.
        labels: Each photograph's class in the source, or `UNSORTED`: ``int64[N]``.
        files: The files, or contents in one file; ``None`` for arrays, which have no original.
        stamps: Each photograph's time of change and size, or its place in the one file.
    """

    classes: tuple[str, ...]
    names: Sequence[str]
    labels: NDArray[np.int64]
    files: Sequence[str | PackedImage] | None = None
    stamps: Sequence[tuple[int, int]] = ()

    @cached_property
    def tokens(self) -> list[str]:
        """Each photograph's name in addresses; it differs for another content of the same name."""
        first = next(iter(self.files or ()), None)
        place = first.file if isinstance(first, PackedImage) else ""
        texts = (
            f"{place}\0{name}\0{time}\0{size}".encode("utf-8", "surrogateescape")
            for name, (time, size) in zip(self.names, self.stamps, strict=True)
        )
        return [hashlib.blake2s(text, digest_size=8).hexdigest() for text in texts]

    @cached_property
    def places(self) -> dict[str, int]:
        """Positions by token."""
        return {token: at for at, token in enumerate(self.tokens)}

    def original(self, token: str) -> bytes:
        """The content of a photograph's file, by its name in addresses."""
        at = self.places.get(token) if self.files is not None else None
        if at is None or self.files is None:
            raise NotThere("There is no such photograph any more", "Load the page again.")
        return content_of(self.files[at], "the photograph")

    def path(self, at: int) -> Path:
        """The file of a photograph."""
        file = self.files[at] if self.files else None
        if not isinstance(file, str):
            raise SourceError("These photographs lie in one file", "Correct their classes instead.")
        return Path(os.path.normpath(file))


def read_contents(dataset: LibraryDataset) -> Contents:
    """List a dataset's photographs; untrusted tables and archives are read in a sandbox."""
    if dataset.made_here:
        return _read_folder(dataset.place)
    if set(dataset.sources) & set(NAMES):
        return Contents((), (), np.zeros(0, np.int64))
    listed = list_images(dataset.recipe(), dataset.title)
    classes, names, labels = tuple(listed["classes"]), listed["names"], np.array(listed["labels"])
    if "files" in listed:
        stamps = [(stamp.mtime_ns, stamp.size) for stamp in map(file_stamp, listed["files"])]
        return Contents(classes, names, labels, listed["files"], stamps)
    if "packed" in listed:
        packed = [PackedImage(*image) for image in listed["packed"]]
        return Contents(classes, names, labels, packed, [(0, at) for at in range(len(names))])
    return Contents(classes, names, labels)


def _read_folder(root: Path) -> Contents:
    """List the class folders of a dataset that was made here; what came last comes first."""
    if not root.is_dir():
        raise SourceError("The photographs of this project are gone", "Restore their folder.")
    visible = filter(is_visible, (Path(path).name for path in _folders(root)))
    classes = tuple(sorted(visible, key=natural))
    names, labels, stamps = list[str](), array("q"), list[tuple[int, int]]()

    def add(label: int, listed: Sequence[tuple[str, tuple[int, int]]]) -> None:
        names.extend(name for name, _ in listed)
        stamps.extend(stamp for _, stamp in listed)
        labels.extend([label] * len(listed))

    for label, class_ in enumerate(classes):
        images = _images_below(str(root), class_)
        add(label, sorted(images, key=itemgetter(1), reverse=True))
    tray = root.parent / TRAY
    if tray.is_dir() and not tray.is_symlink():
        loose = _images_below(str(root), f"../{TRAY}")
        add(UNSORTED, sorted(loose, key=lambda item: natural(item[0])))
    return Contents(
        classes, names, np.array(labels, np.int64), [f"{root}/{name}" for name in names], stamps
    )


def _images_below(root: str, folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the names of images of a folder with their times of change and sizes."""
    with os.scandir(f"{root}/{folder}") as entries:
        for entry in entries:
            if not is_visible(entry.name) or entry.is_symlink():
                continue
            if entry.is_dir():
                yield from _images_below(root, f"{folder}/{entry.name}")
            elif is_image_name(entry.name):
                state = entry.stat(follow_symlinks=False)
                yield f"{folder}/{entry.name}", (state.st_mtime_ns, state.st_size)


def _folders(root: Path) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def stamp_of_folders(root: Path) -> list[tuple[str, int]]:
    """The class folders and the tray, with the times when files came or went."""
    folders = sorted([*_folders(root), str(root), str(root.parent / TRAY)])
    return [(folder, file_stamp(folder).mtime_ns) for folder in folders]


@dataclass(frozen=True, eq=False)
class Album:
    """The photographs of a dataset with their classes.

    Args:
        dataset: The dataset.
        contents: Its files; for sources of arrays, its decoded images.
        labels: Class of each photograph now, `OUT` or `UNSORTED`: ``int64[N]``.
        rows: Row of each in the decoded images, -1 until it was read: ``int64[N]``.
        opened: The decoded images, once they were read.
    """

    dataset: LibraryDataset
    contents: Contents
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    opened: DecodedDataset | None = None

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
        numbers = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, numbers.tolist(), strict=True))

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
        if self.contents.files is None:
            assert self.opened is not None
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
        for label in np.unique(self.contents.labels).tolist():
            if label >= 0 and self.classes[label] not in filled:
                name = self.classes[label]
                return f"{name} has no photographs left: add some, or remove the class."
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
    own = opened.decoded.labels
    for at, name in enumerate(contents.names):
        row = at if contents.files is None else row_of.get(name)
        if row is not None and numbers[own[row]] == contents.labels[at]:
            rows[at], now[at] = row, numbers[labels[row]]
    return Album(dataset, contents, now, rows, opened)
