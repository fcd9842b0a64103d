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
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import OpsinError, SourceError
from opsin.core.files import file_stamp
from opsin.data.corrections import LEFT_OUT, read_corrections
from opsin.data.image_tree import is_image_name, is_visible, natural
from opsin.data.images import PackedImage, content_of
from opsin.data.sources.folder import open_folder
from opsin.data.sources.named import NAMES
from opsin.data.split import TRAIN, part_named
from opsin.studio.datasets.catalogue import LibraryDataset
from opsin.studio.datasets.dataset_search import list_images
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.upload_import import TRAY
from opsin.studio.errors import NotThere
from opsin.studio.people import allows

#: Label of photographs that are left out.
OUT: Final = -1


@dataclass(frozen=True, eq=False)
class Contents:
    """The photographs in a dataset's source, and in its tray.

    Args:
        classes: Names of the classes, empty ones too.
        names: Each photograph's name, its path below the source.
        labels: Each photograph's class in the source: ``int64[N]``.
        files: The files, or contents in one file; ``None`` for arrays, which have no original.
        parts: Whether the source has parts of its own for training and test.
        tray: Files without a class.
        whole: Whether these are all; otherwise, a few of the first classes.
    """

    classes: tuple[str, ...]
    names: Sequence[str]
    labels: NDArray[np.int64]
    files: Sequence[str | PackedImage] | None
    parts: bool = False
    tray: tuple[Path, ...] = ()
    whole: bool = True

    @cached_property
    def stamps(self) -> list[tuple[int, int]]:
        """Each photograph's time of change and size."""
        files = self.files or [""] * len(self.names)
        return [
            file_stamp(file)[:2] if file and isinstance(file, str) else (0, row)
            for row, file in enumerate(files)
        ]

    @cached_property
    def tokens(self) -> list[str]:
        """Each photograph's name in addresses; it differs for another content of the same name."""
        files = self.files or [""] * len(self.names)
        return [
            _token(file.file if isinstance(file, PackedImage) else "", name, *stamp)
            for file, name, stamp in zip(files, self.names, self.stamps, strict=True)
        ]

    @cached_property
    def tray_tokens(self) -> list[str]:
        """The same for the tray."""
        stamps = [(file, file_stamp(str(file))) for file in self.tray]
        return [_token(TRAY, file.name, stamp.mtime_ns, stamp.size) for file, stamp in stamps]

    @cached_property
    def places(self) -> dict[str, int | Path]:
        """Positions, or files of the tray, by token."""
        places: dict[str, int | Path] = {token: row for row, token in enumerate(self.tokens)}
        return places | dict(zip(self.tray_tokens, self.tray, strict=True))

    def original(self, token: str) -> bytes:
        """The content of a photograph's file, by its name in addresses."""
        place = self.places.get(token)
        if place is None or self.files is None:
            raise NotThere("There is no such photograph any more", "Load the page again.")
        image = place if isinstance(place, Path) else self.files[place]
        return content_of(image, "the photograph")

    def path(self, at: int) -> Path:
        """The file of a photograph."""
        file = self.files[at] if self.files else None
        if not isinstance(file, str):
            raise SourceError("These photographs lie in one file", "Correct their classes instead.")
        return Path(file)


def read_contents(dataset: LibraryDataset, most: int | None = None) -> Contents:
    """List a dataset's photographs, and read what their addresses need.

    Args:
        dataset: Untrusted tables and archives are read in a sandbox.
        most: Number of classes, and of photographs of each, where a few are enough.
    """
    if dataset.made_here:
        contents = _read_folder(Path(dataset.sources[0]), most)
    elif set(dataset.sources) & set(NAMES):
        return Contents((), (), np.zeros(0, np.int64), None)
    else:
        listed = list_images(dataset.recipe())
        files = None
        if "files" in listed:
            files = [f if isinstance(f, str) else PackedImage(*f) for f in listed["files"]]
        labels = np.array(listed["labels"], np.int64)
        contents = Contents(
            tuple(listed["classes"]), listed["names"], labels, files, listed["parts"]
        )
    if contents.files is not None:
        _ = contents.places
    return contents


def _token(*parts: object) -> str:
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return hashlib.blake2s(text, digest_size=8).hexdigest()


def _read_folder(root: Path, most: int | None) -> Contents:
    """List the class folders of a dataset that was made here; what came last comes first."""
    if not root.is_dir():
        raise SourceError("The photographs of this project are gone", "Restore their folder.")
    classes = sorted((Path(path).name for path in _folders(root)), key=natural)
    classes = list(filter(is_visible, classes))
    tray = root.parent / TRAY
    loose = list(tray.iterdir()) if tray.is_dir() and not tray.is_symlink() else []
    loose = [file for file in loose if is_visible(file.name) and is_image_name(file.name)]
    loose = sorted(
        (file for file in loose if not file.is_symlink()), key=lambda file: natural(file.name)
    )
    if any(part_named(name) == TRAIN and _folders(root / name) for name in classes):
        parts = open_folder(root)
        files = [str(root / name) for name in parts.names]
        return Contents(parts.classes, parts.names, parts.labels, files, True, tuple(loose))
    names, labels, stamps = list[str](), array("q"), list[tuple[int, int]]()
    for label, class_ in enumerate(classes):
        if most is not None and label >= most:
            break
        images = itertools.islice(_images_below(str(root), class_), most)
        listed = sorted(images, key=lambda item: item[1], reverse=True)
        names += [name for name, _ in listed]
        stamps += [stamp for _, stamp in listed]
        labels.extend([label] * len(listed))
    contents = Contents(
        tuple(classes), names, np.array(labels, np.int64), [f"{root}/{name}" for name in names],
        tray=tuple(loose), whole=most is None,
    )  # fmt: skip
    vars(contents)["stamps"] = stamps  # they were read on the way
    return contents


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
        classes: Names of the classes now.
        labels: Class of each photograph now, `OUT` if it is left out: ``int64[N]``.
        rows: Row of each in the decoded images, -1 until it was read: ``int64[N]``.
        opened: The decoded images, once they were read.
        gone: Number of corrections of photographs that are not there any more.
    """

    dataset: LibraryDataset
    contents: Contents
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    opened: DecodedDataset | None = None
    gone: int = 0

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

    def name(self, at: int) -> str:
        """A photograph's path below the source."""
        return self.contents.names[at]

    def class_of(self, at: int) -> str:
        """A photograph's class now; ``""`` if it is left out."""
        label = int(self.labels[at])
        return "" if label == OUT else self.classes[label]

    def address(self, at: int, *, large: bool = False, in_tray: bool = False) -> str:
        """Address of a photograph's thumbnail, or of its original form."""
        contents = self.contents
        if contents.files is None:
            assert self.opened is not None
            return self.opened.address(int(self.rows[at]))
        token = (contents.tray_tokens if in_tray else contents.tokens)[at]
        return f"/{'originals' if large else 'thumbnails'}/{self.dataset.id}/{token}"

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


def album_of(
    dataset: LibraryDataset,
    contents: Contents,
    corrections: Path,
    *,
    opened: DecodedDataset | None = None,
    labels: NDArray[np.int64] | None = None,
    gone: int = 0,
) -> Album:
    """Put files, decoded images and their labels now together.

    Before the images were decoded, the table of corrections is applied by names.
    """
    if contents.files is None:
        if opened is None or labels is None:
            empty = np.zeros(0, np.int64)
            return Album(dataset, contents, (), empty, empty)
        decoded = opened.decoded
        contents = replace(
            contents, classes=decoded.classes, names=decoded.names, labels=decoded.labels
        )
        return Album(
            dataset, contents, decoded.classes, labels, np.arange(len(labels)), opened, gone
        )
    number = {name: label for label, name in enumerate(contents.classes)}
    now, rows = contents.labels.copy(), np.full(len(contents.names), -1)
    if opened is None or labels is None:
        corrected = _corrected(corrections)
        for at, name in enumerate(contents.names if corrected else ()):
            if (label := corrected.get(name)) is not None:
                now[at] = number.get(label, OUT)
        return Album(dataset, contents, contents.classes, now, rows)
    row_of = {name: row for row, name in enumerate(opened.decoded.names)}
    numbers = np.array([number.get(name, OUT) for name in (*opened.classes, "")], np.int64)
    own = opened.decoded.labels
    for at, name in enumerate(contents.names):
        row = row_of.get(name)
        if row is not None and numbers[own[row]] == contents.labels[at]:
            rows[at], now[at] = row, numbers[labels[row]]
    return Album(dataset, contents, contents.classes, now, rows, opened, gone)


def _corrected(path: Path) -> dict[str, str]:
    """Corrected labels by name; ``-`` is left out."""
    with contextlib.suppress(OpsinError):
        return {row.name: row.label or LEFT_OUT for row in read_corrections(path)}
    return {}
