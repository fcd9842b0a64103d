"""Which files below a folder, or in an archive, are images: one walk for all who look for some."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
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
    # One flat string a name: a million nested tuples would take a gigabyte.
    return _NUMBER.sub(_by_value, name.casefold())


def _by_value(number: re.Match[str]) -> str:
    """Return a number's digits behind their count, so that text sorts as values do."""
    digits = number[0]
    if not digits.isascii():
        digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
    digits = digits.lstrip("0")
    return f"\1{chr(min(len(digits), 0x10FFFF))}{digits}"


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
        raise SourceError(
            "a readable folder", f"{called or place}: {reason}", "Check its rights."
        ) from error


class _Entry(NamedTuple):
    """An image, a folder, or a link to a folder, with what it leads to."""

    name: str
    kind: Literal["image", "folder", "link"]
    target: str = ""


class ImageTree:
    """The images below a folder, each named by its path from there."""

    def __init__(self, root: Path, *, follow_links: bool = False, stream: bool = False) -> None:
        self.root = str(root)
        #: Links to images and folders that lead out of the root and were passed over.
        self.left_out = 0
        #: Runs of Opsin that were passed over: the images that they hold are figures.
        self.runs = 0
        #: Folders that could not be read, and the first of them with the reason.
        self.unreadable = 0
        self.first_unreadable = ""
        #: What else is left out, by kind.
        self.passed = LeftOutCounts()
        #: Folders without anything in them.
        self.bare: set[str] = set()
        self._counted: set[str] = set()
        self._follow_links = follow_links
        self._stream = stream
        self._inside = os.path.realpath(root)
        self._listed: dict[str, list[_Entry]] = {}

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, links among them, in natural order."""
        return [each.name for each in self._listing(folder) if each.kind != "image"]

    def loose(self, folder: str = "") -> list[str]:
        """Return the images right in a folder, the root itself by default."""
        within = f"{folder}/" if folder else ""
        return [f"{within}{each.name}" for each in self._listing(folder) if each.kind == "image"]

    def images(self, folder: str = "") -> Iterator[str]:
        """Yield the images in a folder and in all below it; what links lead to comes last."""
        above = [folder.rsplit("/", depth)[0] for depth in range(1, folder.count("/") + 1)]
        # Folders that are not entered again, and those below which everything is listed already.
        closed = {os.path.realpath(self._place(each)) for each in (["", *above] if folder else [])}
        walked = set[str]()
        links = deque([(folder, os.path.realpath(self._place(folder)))])
        while links:
            start, place = links.popleft()
            if place in closed or _is_below(place, walked):
                continue
            walked.add(place)
            closed.add(place)
            ahead: list[tuple[str, str, Iterator[_Entry] | None]] = [(start, place, None)]
            while ahead:
                name, real, entries = ahead.pop()
                in_order = False
                if entries is None:
                    entries, in_order = self._entries(name)
                inner: list[tuple[str, str, None]] = []
                for entry in entries:
                    path = f"{name}/{entry.name}" if name else entry.name
                    if entry.kind == "image":
                        yield path
                    elif entry.kind == "link":
                        links.append((path, entry.target))
                    elif (target := f"{real.rstrip(os.sep)}{os.sep}{entry.name}") not in closed:
                        inner.append((path, target, None))
                        if not in_order:
                            break  # the rest of this one afterwards
                if inner and not in_order:
                    ahead.append((name, real, entries))
                ahead += reversed(inner)

    def _entries(self, folder: str) -> tuple[Iterator[_Entry], bool]:
        """Return a folder's entries, and whether they are in order: a huge stream is not."""
        if folder in self._listed:
            return iter(self._listed.pop(folder)), True
        scanned = self._scan(folder)
        first = list(itertools.islice(scanned, SORTED + 1 if self._stream else None))
        if self._stream and len(first) > SORTED:
            return itertools.chain(first, scanned), False
        return iter(_in_order(first)), True

    def is_empty(self) -> bool:
        """Tell whether nothing lies in the root at all."""
        with os.scandir(self.root) as entries:
            return next(entries, None) is None

    def _listing(self, folder: str) -> list[_Entry]:
        if folder not in self._listed:
            self._listed[folder] = _in_order(self._scan(folder))
        return self._listed[folder]

    def _place(self, folder: str) -> str:
        return f"{self.root}/{folder}" if folder else self.root

    def _scan(self, folder: str) -> Iterator[_Entry]:
        """Yield what counts in a folder, as the file system lists it."""
        place = self._place(folder)
        if is_run(place):
            self.runs += 1
            return
        try:
            with readable_folder(place), os.scandir(place) as entries:
                first, bare = folder not in self._counted, True
                if not self._stream:  # a stream comes to each folder once
                    self._counted.add(folder)
                for entry in entries:
                    bare, kind = False, kind_of_entry(entry)
                    if kind in ("image", "folder"):
                        target = os.path.realpath(entry.path) if entry.is_symlink() else ""
                        if not target or self._follow_links or is_within(target, self._inside):
                            link = bool(target) and kind == "folder"
                            yield _Entry(entry.name, "link" if link else kind, target)
                            continue
                        self.left_out += 1
                    if first:
                        self._leave_out(entry, f"{folder}/{entry.name}" if folder else entry.name)
                if bare and not self._stream:
                    self.bare.add(folder)
        except SourceError as error:
            if not (self._stream and folder):
                raise
            self.unreadable += 1
            reason = error.received.removeprefix(f"{place}: ")
            self.first_unreadable = self.first_unreadable or f"{folder}: {reason}"

    def _leave_out(self, entry: os.DirEntry[str], name: str) -> None:
        kind = kind_of_entry(entry)
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


def _in_order(entries: Iterable[_Entry]) -> list[_Entry]:
    # Twice, so that names of the same key, such as 1 and 01, have an order of their own.
    return sorted(sorted(entries), key=lambda entry: natural(entry.name))


def _is_below(real: str, walked: set[str]) -> bool:
    """Tell whether a walk from one of some folders came to another, by visible folders only."""
    place = real
    while place not in walked:
        above, name = os.path.split(place)
        if above == place or not is_visible(name):
            return False
        place = above
    return True


def holds_images(folder: Path) -> bool:
    """Tell whether a folder has an image in it or below; it is read until one is found."""
    return next(iter(ImageTree(folder, stream=True).images()), None) is not None
