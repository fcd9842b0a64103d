"""The walk over a folder or an unpacked archive that finds its images."""

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

#: Files that mark a folder as a run of Opsin.
RUN_FILES: Final = ("recipe.json", "status.json")
#: File that lists the members of an archive that were not unpacked.
LEFT_OUT_FILE: Final = ".opsin-left-out.json"
#: Most entries of a folder that a stream sorts, since sorting holds them in memory.
SORTED: Final = 10_000

# Files that systems leave in folders and archives.
_LITTER: Final = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_IMAGES: Final = frozenset(SUFFIXES)
_NUMBER: Final = re.compile(r"\d+")


def is_visible(name: str) -> bool:
    """Tell whether a name is neither hidden nor left by a system."""
    return not name.startswith(".") and name not in _LITTER


def is_image_name(name: str) -> bool:
    """Tell whether a name has an image's ending."""
    return os.path.splitext(name)[1].lower() in _IMAGES  # noqa: PTH122  as text


def is_within(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or below it; both absolute, links resolved."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def is_run(folder: str) -> bool:
    """Tell whether a folder is a run of Opsin."""
    return all(os.path.isfile(f"{folder}/{name}") for name in RUN_FILES)  # noqa: PTH113


def natural(name: str) -> str:
    """Return a sort key that orders numbers in names by value, before other text."""

    def with_length(number: re.Match[str]) -> str:
        digits = number[0]
        if not digits.isascii():
            digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
        digits = digits.lstrip("0")
        return f"\1{chr(min(len(digits), 0x10FFFF))}{digits}"

    # Flat strings: a million nested tuples would take a gigabyte.
    return _NUMBER.sub(with_length, name.casefold())


def kind_of_entry(entry: os.DirEntry[str]) -> Literal["folder", "image", "file"] | None:
    """Return the kind of an entry of a folder, links followed."""
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
def readable_folder(path: str, *, called: str | None = None) -> Iterator[None]:
    """Turn an `OSError` about a folder into a `SourceError`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError(f"{called or path}: {reason}", "Check its rights.") from error


class Walk:
    """What a walk over a folder, or over a store's prefix, finds besides images."""

    def __init__(self, root: str) -> None:
        self.root = root
        #: Folders down to two levels, and the empty ones.
        self.folders: list[str] = []
        self.bare: set[str] = set()
        #: Number of links that lead out of the root, and the folders that hold them.
        self.links_out = 0
        self.linked_out: set[str] = set()
        #: Runs of Opsin, whose images are figures.
        self.runs = 0
        #: Folders that could not be read, and the first of them with the reason.
        self.unreadable = 0
        self.first_unreadable = ""
        #: Everything else that is left out, by kind.
        self.passed = LeftOutCounts()


class _Entry(NamedTuple):
    """An image, a folder, or a link to a folder with its target."""

    name: str
    kind: Literal["image", "folder", "link"]
    target: str = ""


class ImageTree(Walk):
    """The images below a folder; a `stream` skips unreadable folders."""

    def __init__(self, root: Path, *, follow_links: bool = False, stream: bool = False) -> None:
        super().__init__(str(root))
        self._follow_links = follow_links
        self._stream = stream
        self._inside = os.path.realpath(root)

    def images(self) -> Iterator[str]:
        """Yield the images' paths from the root, each folder's own before its sub-folders'."""
        entered = set[str]()
        links = deque([("", self._inside)])
        while links:
            if links[0][1] in entered:
                self.passed.add("link in the folder itself", links.popleft()[0])
                continue
            folders = [links.popleft()]
            while folders:
                folder, real = folders.pop()
                if real in entered:  # reached through a link before
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
        """Yield a folder's entries in natural order, or unsorted if a stream has very many."""
        scanned = self._scan(folder)
        first = list(itertools.islice(scanned, SORTED + 1 if self._stream else None))
        if not self._stream or len(first) <= SORTED:
            # Twice, so that names of equal keys, such as 1 and 01, have a fixed order.
            first = sorted(sorted(first), key=lambda entry: natural(entry.name))
        return itertools.chain(first, scanned)

    def _scan(self, folder: str) -> Iterator[_Entry]:
        """Yield a folder's images and folders in the file system's order."""
        path = f"{self.root}/{folder}" if folder else self.root
        if is_run(path):
            self.runs += 1
            return
        try:
            with readable_folder(path), os.scandir(path) as entries:
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
            reason = error.message.removeprefix(f"{path}: ")
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
    """Tell whether a folder has an image in it or below."""
    return next(ImageTree(folder, stream=True).images(), None) is not None
