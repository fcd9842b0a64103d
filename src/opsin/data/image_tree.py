"""Which files below a folder, or in an archive, are images: one walk for all who look for some."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import unicodedata
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from opsin.core.errors import SourceError
from opsin.data.formats import SUFFIXES
from opsin.data.left_out import LeftOutCounts

#: Files that make a folder a run of Opsin.
RUN_FILES: Final = ("recipe.json", "status.json")
#: File of an unpacked archive that says what of it was not unpacked.
LEFT_OUT_FILE: Final = ".opsin-left-out.json"
#: Entries of one folder that a stream sorts; to be sorted, they must be in memory.
SORTED: Final = 10_000

# What systems leave in folders and archives, beside hidden files.
_LITTER: Final = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_IMAGES: Final = frozenset(SUFFIXES)
_NUMBER: Final = re.compile(r"\d+")


def is_visible(name: str) -> bool:
    """Tell whether a file or folder of this name counts: not hidden, and not left by a system."""
    return not name.startswith(".") and name not in _LITTER


def is_image_name(name: str) -> bool:
    """Tell whether a name ends as an image's does."""
    return os.path.splitext(name)[1].lower() in _IMAGES  # noqa: PTH122  as text


def is_within(place: str, folder: str) -> bool:
    """Tell whether a path is a folder or lies below it; both absolute, links resolved."""
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


def is_run(folder: str) -> bool:
    """Tell whether a folder is a run of Opsin."""
    return all(os.path.isfile(f"{folder}/{name}") for name in RUN_FILES)  # noqa: PTH113


def natural(name: str) -> str:
    """Return a key that sorts numbers inside names by their value, before other text."""

    def with_length(number: re.Match[str]) -> str:
        digits = number[0]
        if not digits.isascii():
            digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
        digits = digits.lstrip("0")
        return f"\1{chr(min(len(digits), 0x10FFFF))}{digits}"

    # One flat string a name: a million nested tuples would take a gigabyte.
    return _NUMBER.sub(with_length, name.casefold())


def kind_of_entry(entry: os.DirEntry[str]) -> Literal["folder", "image", "file"] | None:
    """Return what an entry of a folder is, links followed."""
    if not is_visible(entry.name):
        return None
    try:
        if entry.is_dir():
            return "folder"
        if not entry.is_file():
            return None
    except OSError:  # a link to itself, say
        return None
    return "image" if is_image_name(entry.name) else "file"


@contextlib.contextmanager
def readable_folder(place: str, *, called: str | None = None) -> Iterator[None]:
    """Say in one line why a folder cannot be read."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError(f"{called or place}: {reason}", "Check its rights.") from error


class Walk:
    """What a walk over a folder, or over what looks like one, comes by beside images."""

    def __init__(self, root: str) -> None:
        self.root = root
        #: Folders down to two levels, those without images among them, and those without anything.
        self.folders: list[str] = []
        self.bare: set[str] = set()
        #: Links to images and folders that lead out of the root, and the folders that they lie in.
        self.links_out = 0
        self.linked_out: set[str] = set()
        #: Runs of Opsin: the images that they hold are figures.
        self.runs = 0
        #: Folders that could not be read, and the first of them with the reason.
        self.unreadable = 0
        self.first_unreadable = ""
        #: What else is left out, by kind.
        self.passed = LeftOutCounts()


class _Entry(NamedTuple):
    """An image, a folder, or a link to a folder, with what it leads to."""

    name: str
    kind: Literal["image", "folder", "link"]
    target: str = ""


class ImageTree(Walk):
    """The images below a folder; a `stream` of them passes over folders that cannot be read."""

    def __init__(self, root: Path, *, follow_links: bool = False, stream: bool = False) -> None:
        super().__init__(str(root))
        self._follow_links = follow_links
        self._stream = stream
        self._inside = os.path.realpath(root)

    def images(self) -> Iterator[str]:
        """Yield each image by its path from the root, a folder's before those of folders in it."""
        entered = set[str]()
        links = deque([("", self._inside)])
        while links:
            if links[0][1] in entered:
                self.passed.add("link in the folder itself", links.popleft()[0])
                continue
            folders = [links.popleft()]
            while folders:
                folder, real = folders.pop()
                if real in entered:  # below what a link leads to
                    continue
                entered.add(real)
                if folder and folder.count("/") < 2:
                    self.folders.append(folder)
                inner = []
                for entry in self._entries(folder):
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.kind == "image":
                        yield path
                    elif entry.kind == "link":
                        links.append((path, entry.target))
                    else:
                        inner.append((path, f"{real.rstrip(os.sep)}{os.sep}{entry.name}"))
                folders += reversed(inner)

    def _entries(self, folder: str) -> Iterator[_Entry]:
        """Yield a folder's entries in natural order; a stream of very many, as they come."""
        scanned = self._scan(folder)
        first = list(itertools.islice(scanned, SORTED + 1 if self._stream else None))
        if not self._stream or len(first) <= SORTED:
            # Twice, so that names of the same key, such as 1 and 01, have an order of their own.
            first = sorted(sorted(first), key=lambda entry: natural(entry.name))
        return itertools.chain(first, scanned)

    def _scan(self, folder: str) -> Iterator[_Entry]:
        """Yield what counts in a folder, as the file system lists it."""
        place = f"{self.root}/{folder}" if folder else self.root
        if is_run(place):
            self.runs += 1
            return
        try:
            with readable_folder(place), os.scandir(place) as entries:
                bare = True
                for entry in entries:
                    bare, kind = False, kind_of_entry(entry)
                    if kind in ("image", "folder"):
                        target = os.path.realpath(entry.path) if entry.is_symlink() else ""
                        if not target or self._follow_links or is_within(target, self._inside):
                            link = bool(target) and kind == "folder"
                            yield _Entry(entry.name, "link" if link else kind, target)
                            continue
                        self.links_out += 1
                        self.linked_out.add(folder)
                    self._leave_out(entry, kind, f"{folder}/{entry.name}" if folder else entry.name)
                if bare:
                    self.bare.add(folder)
        except SourceError as error:
            if not (self._stream and folder):
                raise
            self.unreadable += 1
            reason = error.message.removeprefix(f"{place}: ")
            self.first_unreadable = self.first_unreadable or f"{folder}: {reason}"

    def _leave_out(self, entry: os.DirEntry[str], kind: str | None, name: str) -> None:
        if entry.name == LEFT_OUT_FILE:
            return
        if kind == "file":
            self.passed.add_file(name)
        elif kind is not None:
            self.passed.add("link out of the folder", name)
        elif is_visible(entry.name):
            self.passed.add("link or device that cannot be read", name)
        else:
            hidden = "folder" if entry.is_dir(follow_symlinks=False) else "file"
            self.passed.add(f"hidden {hidden}", name)


def holds_images(folder: Path) -> bool:
    """Tell whether a folder has an image in it or below; it is read until one is found."""
    return next(ImageTree(folder, stream=True).images(), None) is not None
