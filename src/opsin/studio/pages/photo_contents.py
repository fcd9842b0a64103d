"""A dataset's images in their original form."""

from __future__ import annotations

import contextlib
import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.child_process import Header
from opsin.core.errors import SourceError
from opsin.core.files import file_stamp
from opsin.core.recipe import DataRecipe
from opsin.core.sandbox import Sandbox
from opsin.data import sources
from opsin.data.image_tree import is_image_name, is_visible, natural
from opsin.data.images import content_of
from opsin.data.sources.contents import Files, PackedImages
from opsin.data.sources.folder import open_folder
from opsin.data.sources.named import NAMES
from opsin.data.split import TRAIN, part_named
from opsin.studio.datasets.upload_import import TRAY
from opsin.studio.errors import NotThere

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset

# Most seconds and bytes for listing a source.
_SECONDS: Final = 120.0
_MEMORY: Final = 1 << 30


@dataclass(frozen=True, eq=False)
class Contents:
    """The images of a dataset's source, and its tray.

    Args:
        classes: Names of the classes, empty ones too.
        names: Each image's name, its path below the source.
        labels: Each image's class in the source: ``int64[N]``.
        files: The files, or contents in one file; ``None`` for arrays, which have no original.
        parts: Whether the source has parts of its own for training and test.
        tray: Files without a class.
    """

    classes: tuple[str, ...]
    names: Sequence[str]
    labels: NDArray[np.int64]
    files: Files | PackedImages | None
    parts: bool
    tray: tuple[Path, ...] = ()

    @cached_property
    def stamps(self) -> list[tuple[int, int]]:
        """Each image's time of change and size."""
        if not isinstance(self.files, Files):
            return [(0, row) for row in range(len(self.names))]
        stamps = map(file_stamp, self.files.places())
        return [(stamp.mtime_ns, stamp.size) for stamp in stamps]

    @cached_property
    def tokens(self) -> list[str]:
        """Each image's name in addresses; it differs for another content of the same name."""
        place = str(self.files.file) if isinstance(self.files, PackedImages) else ""
        pairs = zip(self.names, self.stamps, strict=True)
        return [_token(place, name, *stamp) for name, stamp in pairs]

    @cached_property
    def tray_tokens(self) -> list[str]:
        """The same for the tray."""
        stamps = [(file, file_stamp(str(file))) for file in self.tray]
        return [_token(TRAY, file.name, stamp.mtime_ns, stamp.size) for file, stamp in stamps]

    @cached_property
    def _places(self) -> dict[str, int | Path]:
        places: dict[str, int | Path] = {token: row for row, token in enumerate(self.tokens)}
        return places | dict(zip(self.tray_tokens, self.tray, strict=True))

    def original(self, token: str) -> bytes:
        """The content of an image's file, by its name in addresses."""
        place = self._places.get(token)
        if place is None or self.files is None:
            raise NotThere("There is no such photograph any more", "Load the page again.")
        image = place if isinstance(place, Path) else self.files[place]
        return content_of(image, "the photograph")

    def path(self, row: int) -> Path:
        """The file of an image, by its position."""
        if not isinstance(self.files, Files):
            raise SourceError("These photographs lie in one file", "Correct their classes instead.")
        return self.files.folder / self.names[row]


def _token(*parts: object) -> str:
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return hashlib.blake2s(text, digest_size=8).hexdigest()


@cache
def _sandbox(owner: int) -> Sandbox:
    """This process's sandbox; forks need their own locks and pipes."""
    del owner
    return Sandbox(f"{__name__}:list_images", seconds=_SECONDS, memory=_MEMORY)


def list_images(header: Header, _: memoryview) -> tuple[Header, Sequence[bytes]]:
    """List a recipe's images, in the sandbox: names, classes, labels, and where they lie."""
    recipe = DataRecipe.model_validate(header["recipe"])
    found = sources.find_all(recipe).open()
    found = found.keep(recipe.classes) if recipe.classes else found
    answer: Header = {
        "names": list(found.names), "labels": found.labels.tolist(),
        "classes": list(found.classes), "parts": bool(found.source_parts.any()),
    }  # fmt: skip
    if isinstance(found.images, Files):
        answer["files"] = list(found.images.places())
    elif isinstance(found.images, PackedImages):
        answer |= {"packed": str(found.images.file), "ends": found.images.ends.tolist()}
    return answer, []


def read_contents(dataset: LibraryDataset) -> Contents:
    """List a dataset's images; those of untrusted tables and archives in a sandbox."""
    if dataset.made_here:
        return _read_folder(Path(dataset.sources[0]))
    options = {name: value for name, value in dataset.options.items() if name != "labels"}
    recipe = DataRecipe.of(*dataset.sources, **options)
    if set(dataset.sources) & set(NAMES):
        return Contents((), (), np.zeros(0, np.int64), None, parts=False)
    listed, _ = _sandbox(os.getpid()).call({"recipe": recipe.model_dump(mode="json")})
    files: Files | PackedImages | None = None
    if "files" in listed:
        files = Files(Path(), listed["files"])
    elif "packed" in listed:
        files = PackedImages(Path(listed["packed"]), np.array(listed["ends"], np.int64))
    labels = np.array(listed["labels"], np.int64)
    return Contents(tuple(listed["classes"]), listed["names"], labels, files, parts=listed["parts"])


def _read_folder(root: Path) -> Contents:
    """List the class folders of a dataset that was made here; what came last comes first."""
    if not root.is_dir():
        raise SourceError("The photographs of this project are gone", "Restore their folder.")
    with os.scandir(root) as entries:
        folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    classes = sorted(filter(is_visible, folders), key=natural)
    tray = root.parent / TRAY
    loose = list(tray.iterdir()) if tray.is_dir() and not tray.is_symlink() else []
    loose = [file for file in loose if is_visible(file.name) and is_image_name(file.name)]
    loose = sorted(
        (file for file in loose if not file.is_symlink()), key=lambda file: natural(file.name)
    )
    if any(part_named(name) == TRAIN and _has_folders(root / name) for name in classes):
        images = open_folder(root)
        files = Files(root, images.names)
        return Contents(images.classes, images.names, images.labels, files, True, tuple(loose))
    names, labels, stamps = list[str](), array("q"), list[tuple[int, int]]()
    for label, class_ in enumerate(classes):
        found = sorted(_images_below(str(root), class_), key=lambda item: item[1], reverse=True)
        names += [name for name, _ in found]
        stamps += [stamp for _, stamp in found]
        labels.extend([label] * len(found))
    contents = Contents(
        tuple(classes), names, np.array(labels, np.int64), Files(root, names), False, tuple(loose)
    )
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


def _has_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir() for entry in entries)


def stamp_of_folders(root: Path) -> list[tuple[str, int]]:
    """The class folders and the tray, with the times when files came or went."""
    folders: list[str] = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    folders += [str(root), str(root.parent / TRAY)]
    return [(folder, file_stamp(folder).mtime_ns) for folder in sorted(folders)]
