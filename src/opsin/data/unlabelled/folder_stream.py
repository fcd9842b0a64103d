"""Pictures in a folder of any layout."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.images import SUFFIXES
from opsin.data.sources.folder import LITTER, is_run, natural
from opsin.data.unlabelled.stream import Unlabelled

#: Entries of one folder that are put into order; to sort, they must be in memory.
SORTED: Final = 10_000

_SUFFIXES: Final = frozenset(SUFFIXES)


def pictures_in_folder(
    root: Path, *, follow_links: bool = False, watcher: Watcher = SILENT
) -> Iterator[Unlabelled]:
    """Yield each picture in a folder and in all below it, once.

    First the pictures of a folder, then its folders, each in natural order (``2`` before ``10``);
    a folder with more than 10,000 entries comes in the order of the file system, since sorting
    would keep all its names in memory. Hidden files and folders, and files that do not end like a
    picture, are passed over. Symbolic links to folders come last, and lead to nothing that was
    listed before, so that loops end; those that lead out of the root are passed over, unless
    ``follow_links``. A folder within that cannot be read is passed over, too, and told.

    Args:
        root: The folder; it may be a link itself.
        follow_links: Also follow links that lead out of it.
        watcher: Is told what was passed over.

    Raises:
        SourceError: It cannot be read, or holds no pictures.
    """
    walk = _Walk(root, follow_links=follow_links)
    found = False
    for name in walk.names():
        found = True
        place = f"{walk.root}/{name}"
        yield Unlabelled(name, place, place)
    if not found:
        raise _nothing_there(walk)
    if walk.left_out:
        watcher.note(
            f"Passed over, for they lead out of {root}: links, {walk.left_out:,} in all; "
            "--follow-links follows them."
        )
    if walk.runs:
        watcher.note(
            f"Passed over in {root}: runs of Opsin, {walk.runs:,} in all; they hold figures."
        )
    if walk.unreadable:
        watcher.note(
            f"Passed over: folders that cannot be read, {walk.unreadable:,} in all "
            f"({walk.first_unreadable}); check their rights."
        )


def count_pictures(root: Path, *, follow_links: bool = False) -> int | None:
    """Return how many pictures `pictures_in_folder` will yield."""
    try:
        return sum(1 for _ in _Walk(root, follow_links=follow_links).names())
    except SourceError:
        return None


class _Entry(NamedTuple):
    name: str
    is_folder: bool


class _Folder(NamedTuple):
    """A folder on the way.

    Args:
        name: By which name it is reached from the root, ``""`` for the root itself.
        real: Where it is, without links.
    """

    name: str
    real: str


class _Walk:
    """The names of the pictures below a root, relative to it.

    Real folders are a tree, so each is reached once, and only where links lead has to be
    remembered: the memory does not grow with the number of folders.
    """

    def __init__(self, root: Path, *, follow_links: bool) -> None:
        self.root = str(root)
        self.follow_links = follow_links
        #: Links to pictures and folders that lead out of the root and were passed over.
        self.left_out = 0
        #: Runs of Opsin that were passed over: what they hold are figures.
        self.runs = 0
        #: Folders that could not be read, and the first of them with the reason.
        self.unreadable = 0
        self.first_unreadable = ""
        self._inside = os.path.realpath(root)
        # Where walks began: all that is visible below these has been listed.
        self._walked = {self._inside}
        self._links: deque[_Folder] = deque()

    def names(self) -> Iterator[str]:
        """Yield the pictures' names.

        Raises:
            SourceError: The root cannot be read.
        """
        yield from self._below(_Folder("", self._inside))
        while self._links:
            link = self._links.popleft()
            if not self._is_listed(link.real):
                self._walked.add(link.real)
                yield from self._below(link)

    def _below(self, start: _Folder) -> Iterator[str]:
        ahead: list[_Folder | tuple[_Folder, Iterator[_Entry]]] = [start]
        while ahead:
            top = ahead.pop()
            if isinstance(top, _Folder):
                entries = self._entries(top)
                first = list(itertools.islice(entries, SORTED + 1))
                if len(first) > SORTED:
                    ahead.append((top, itertools.chain(first, entries)))
                    continue
                # Twice, so that names of the same key, such as 1 and 01, have an order too.
                first.sort()
                first.sort(key=lambda entry: natural(entry.name))
                yield from (_join(top.name, name) for name, is_folder in first if not is_folder)
                within = (self._within(top, e.name) for e in reversed(first) if e.is_folder)
                ahead += [folder for folder in within if folder.real not in self._walked]
            else:
                folder, entries = top
                for name, is_folder in entries:
                    if not is_folder:
                        yield _join(folder.name, name)
                    elif (inner := self._within(folder, name)).real not in self._walked:
                        ahead += [top, inner]  # the rest of this one afterwards
                        break

    def _within(self, folder: _Folder, name: str) -> _Folder:
        return _Folder(_join(folder.name, name), os.path.join(folder.real, name))  # noqa: PTH118

    def _entries(self, folder: _Folder) -> Iterator[_Entry]:
        """Yield the pictures and the real folders in a folder; keep the links to folders."""
        place = f"{self.root}/{folder.name}" if folder.name else self.root
        if is_run(place):
            self.runs += 1
            return
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    found = self._look_at(entry, folder)
                    if found:
                        yield found
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if not folder.name:
                raise SourceError(
                    "a readable folder", f"{place}: {reason}", "Check its rights."
                ) from error
            self.unreadable += 1
            self.first_unreadable = self.first_unreadable or f"{folder.name}: {reason}"

    def _look_at(self, entry: os.DirEntry[str], folder: _Folder) -> _Entry | None:
        if not _is_visible(entry.name):
            return None
        picture = os.path.splitext(entry.name)[1].lower() in _SUFFIXES  # noqa: PTH122  as text
        try:
            is_folder = entry.is_dir()
            if not is_folder and not (picture and entry.is_file()):
                return None
        except OSError:  # a link to itself, say
            return None
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not (self.follow_links or _below(target, self._inside)):
                self.left_out += 1
                return None
            if is_folder:
                self._links.append(_Folder(_join(folder.name, entry.name), target))
                return None
        return _Entry(entry.name, is_folder)

    def _is_listed(self, real: str) -> bool:
        """Tell whether a walk before came to a folder, by visible folders only."""
        place = real
        while place not in self._walked:
            above, name = os.path.split(place)
            if above == place or not _is_visible(name):
                return False
            place = above
        return True


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name not in LITTER


def _below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


def _nothing_there(walk: _Walk) -> SourceError:
    received = f"{walk.root} holds none"
    advice = f"Pictures end in {', '.join(SUFFIXES[:6])} …"
    if walk.left_out:
        received += f", but {walk.left_out:,} links that lead out of it"
        advice = "Follow them with --follow-links, or copy the pictures."
    elif walk.runs:
        received += f", but {walk.runs:,} runs of Opsin, whose figures are no images of yours"
        advice = "Give the images that are to be classified."
    elif walk.unreadable:
        received += f", and {walk.unreadable:,} folders that cannot be read"
        advice = f"Check their rights; the first is {walk.first_unreadable}."
    return SourceError("a folder with pictures", received, advice)
