"""A folder with one sub-folder for each class."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.images import SUFFIXES
from opsin.data.sources.contents import Files, LabelledImages
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL

#: Folders that stand for a part of the split.
PARTS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
#: What systems leave in folders and archives, beside hidden files.
LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})


def open_folder(
    root: Path, *, follow_links: bool = False, watcher: Watcher = SILENT
) -> LabelledImages:
    """List ``root/<class>/**/*`` or ``root/train|val|test/<class>/**/*``.

    Class names are the folders' names in natural order (``2`` before ``10``); pictures may lie in
    folders within these, to any depth. Hidden files and folders are passed over, and so are files
    that do not end like a picture.

    Args:
        root: The folder; it may be a link itself.
        follow_links: Also follow symbolic links that lead out of the folder.
        watcher: Is told of links that were passed over.

    Raises:
        SourceError: The folder is empty or laid out otherwise, or a class has nothing but links
            that lead out of it.
    """
    tree = _Tree(root, follow_links=follow_links)
    folders = tree.folders("")
    parts = {name: PARTS[name.lower()] for name in folders if _is_part(tree, name)}
    if TRAIN in parts.values():
        found = [(f"{part}/{name}", code) for part, code in parts.items()
                 for name in tree.folders(part)]  # fmt: skip
        _tell_loose(tree, [name for name in folders if name not in parts], watcher)
    else:
        found = [(name, UNASSIGNED) for name in folders]
    names: list[str] = []
    listed: list[tuple[str, int, int]] = []
    for folder, code in found:
        pictures = tree.pictures(folder)
        if pictures:
            names += pictures
            listed.append((folder.rpartition("/")[2], code, len(pictures)))
    if not listed:
        raise _explain(tree, folders)
    if tree.left_out:
        watcher.note(
            f"Passed over, for they lead out of {root}: links, {tree.left_out:,} in all; "
            "--follow-links follows them."
        )
    if tree.runs:
        watcher.note(
            f"Passed over in {root}: runs of Opsin, {tree.runs:,} in all; they hold figures."
        )
    classes = order_classes((name for name, _, _ in listed), root)
    label = {name: index for index, name in enumerate(classes)}
    counts = [count for _, _, count in listed]
    return LabelledImages(
        source=str(root),
        classes=classes,
        labels=np.repeat(np.array([label[name] for name, _, _ in listed], np.int64), counts),
        given=np.repeat(np.array([code for _, code, _ in listed], np.uint8), counts),
        names=names,
        pictures=Files(root, names),
    )


def _tell_loose(tree: _Tree, others: Iterable[str], watcher: Watcher) -> None:
    """Say which parts hold pictures without a class, as the tests of competitions do."""
    for name in others:
        loose = len(tree.pictures(name)) if name.lower() in PARTS else 0
        if loose:
            watcher.note(
                f"Passed over: {loose:,} pictures in {name}, for they have no class (sort them "
                "into a folder for each class, or classify them: opsin predict)"
            )


def order_classes(names: Iterable[str], source: Path) -> tuple[str, ...]:
    """Return different class names in natural order.

    Raises:
        SourceError: One of them cannot be shown.
    """
    classes = sorted(sorted(set(names)), key=natural)
    for name in classes:
        if not name.isprintable():
            raise SourceError(
                "class names of printable characters",
                f"{source} has {name!r}",
                "Rename the class.",
            )
    return tuple(classes)


def natural(name: str) -> str:
    """Return a key that sorts numbers inside names by their value, before other text.

    Example:
        >>> sorted(["b", "a10", "a9", "a"], key=natural)
        ['a', 'a9', 'a10', 'b']
    """
    # One flat string a name: a million nested tuples would take a gigabyte.
    return _NUMBER.sub(_by_value, name.casefold())


_NUMBER = re.compile(r"\d+")


def _by_value(number: re.Match[str]) -> str:
    """Return a number's digits behind their count, so that text sorts as values do."""
    digits = number[0]
    if not digits.isascii():
        digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
    digits = digits.lstrip("0")
    return f"\1{chr(min(len(digits), 0x10FFFF))}{digits}"


class _Listing(NamedTuple):
    """Names in one folder: pictures, folders, and links to folders that may be followed."""

    pictures: list[str]
    folders: list[str]
    linked: list[str]


class _Tree:
    """Folders below a root, each name relative to it; says which links may be followed."""

    def __init__(self, root: Path, *, follow_links: bool) -> None:
        self.root = str(root)
        self.follow_links = follow_links
        #: Links to pictures and folders that lead out of the root and were passed over.
        self.left_out = 0
        #: Runs of Opsin that were passed over: what they hold are figures.
        self.runs = 0
        self._inside = os.path.realpath(root)
        self._scanned: dict[str, _Listing] = {}

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, links among them, in natural order."""
        if folder not in self._scanned:
            self._scanned[folder] = self._scan(folder)
        listing = self._scanned[folder]
        return _sorted([*listing.folders, *listing.linked])

    def loose(self) -> int:
        """Return how many pictures lie in the root itself."""
        return len(self._scanned[""].pictures)

    def pictures(self, folder: str) -> list[str]:
        """Return the pictures in a folder and in all below it.

        A folder that is reached a second time, through links, is not listed again: so loops end.

        Raises:
            SourceError: It cannot be read, or holds only links that lead out of the root.
        """
        left_out = self.left_out
        found: list[str] = []
        # The folders above are on the way already: a link back to one of them is a loop.
        above = folder.split("/")[:-1]
        seen = {self._identity("/".join(above[:depth])) for depth in range(len(above) + 1)}
        ahead, linked = [folder], list[str]()
        while ahead or linked:
            # Links last: what they lead to is then known by its own name.
            here = ahead.pop() if ahead else linked.pop(0)
            identity = self._identity(here)
            if identity in seen:
                continue
            seen.add(identity)
            listing = self._scanned.pop(here, None) or self._scan(here)
            found += [f"{here}/{name}" for name in _sorted(listing.pictures)]
            ahead += [f"{here}/{name}" for name in reversed(_sorted(listing.folders))]
            linked += [f"{here}/{name}" for name in _sorted(listing.linked)]
        if not found and self.left_out > left_out:
            raise SourceError(
                f"pictures within {self.root}",
                f"the folder {folder} holds only links that lead out of it",
                "Follow them with --follow-links, or copy the pictures.",
            )
        return found

    def _identity(self, folder: str) -> tuple[int, int]:
        with _readable(self._place(folder)):
            stat = os.stat(self._place(folder))  # noqa: PTH116  as the rest: no Path each
        return stat.st_dev, stat.st_ino

    def _place(self, folder: str) -> str:
        return f"{self.root}/{folder}" if folder else self.root

    def _scan(self, folder: str) -> _Listing:
        if is_run(self._place(folder)):
            self.runs += 1
            return _Listing([], [], [])
        pictures, folders, linked = listing = _Listing([], [], [])
        with _readable(self._place(folder)), os.scandir(self._place(folder)) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in LITTER:
                    continue
                picture = os.path.splitext(entry.name)[1].lower() in _SUFFIXES  # noqa: PTH122
                try:
                    is_folder = entry.is_dir()
                    if not is_folder and not (picture and entry.is_file()):
                        continue
                except OSError:  # a link to itself, say
                    continue
                link = entry.is_symlink()
                if link and not self._may_follow(entry.path):
                    self.left_out += 1
                elif is_folder:
                    (linked if link else folders).append(entry.name)
                else:
                    pictures.append(entry.name)
        return listing

    def _may_follow(self, place: str) -> bool:
        if self.follow_links:
            return True
        target = os.path.realpath(place)
        return target == self._inside or target.startswith(self._inside.rstrip(os.sep) + os.sep)


_SUFFIXES = frozenset(SUFFIXES)


def is_run(folder: str) -> bool:
    """Tell whether a folder is a run of Opsin."""
    files = ("recipe.json", "status.json")
    return all(os.path.isfile(f"{folder}/{name}") for name in files)  # noqa: PTH113


@contextlib.contextmanager
def _readable(place: str) -> Iterator[None]:
    """Say in one line why a folder cannot be read."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError("a readable folder", f"{place}: {reason}", "Check its rights.") from error


def _sorted(names: list[str]) -> list[str]:
    # Twice, so that names of the same key, such as 1 and 01, have an order of their own.
    return sorted(sorted(names), key=natural)


def _is_part(tree: _Tree, name: str) -> bool:
    """Tell a part of the split from a class that happens to be called "test"."""
    return name.lower() in PARTS and bool(tree.folders(name))


def _explain(tree: _Tree, folders: list[str]) -> SourceError:
    root, loose = tree.root, tree.loose()
    if any(_is_part(tree, folder) for folder in folders):
        received = f"{root} has a part of a split, and none called train"
        advice = "Put the training pictures into train/<class>."
    elif tree.runs:
        received = f"{root} holds {tree.runs:,} runs of Opsin, and no images but their figures"
        advice = "Give the images that they were trained on; see the runs with: opsin runs"
    elif tree.left_out:
        received = f"{root} holds only links that lead out of it"
        advice = "Follow them with --follow-links, or copy the pictures."
    elif folders:
        names = ", ".join(folders[:5])
        received = f"{root} has the folders {names}, and none of them holds pictures"
        advice = f"Pictures end in {', '.join(SUFFIXES[:6])} …, one folder for each class."
    elif loose:
        received = f"{root} holds {loose:,} pictures and no folders"
        advice = "Sort a few into sub-folders first."
    else:
        empty = not any(Path(root).iterdir())
        received = f"{root} is empty" if empty else f"{root} holds no pictures"
        advice = "Put pictures into one sub-folder for each class."
    return SourceError("a folder with one sub-folder for each class", received, advice)
