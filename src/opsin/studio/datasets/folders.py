"""Folders below the roots that visitors may browse, by opaque ids."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2s
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from opsin.core.files import file_stamp
from opsin.core.format import count, counted, file_size
from opsin.data.image_tree import is_within, kind_of_entry, natural, readable
from opsin.data.sources import archive, table
from opsin.studio.errors import NotThere
from opsin.studio.people import require

# Images and folders in a folder are counted up to this number, and so many entries are shown.
_COUNTED: Final = 10_000
_LISTED: Final = 300
_FILES: Final = (*archive.SUFFIXES, *table.SUFFIXES, ".npz")


class FolderEntry(NamedTuple):
    """A folder, or a file that is a source, and what it holds in words."""

    id: str
    name: str
    about: str = ""


#: What is above all roots, where there are several.
TOP: Final = FolderEntry("", "Folders")


class Listing(NamedTuple):
    """A folder's content, or the roots."""

    here: FolderEntry
    above: Sequence[FolderEntry]
    folders: Sequence[FolderEntry]
    files: Sequence[FolderEntry] = ()
    passed_over: int = 0


class Folders:
    """The folders that visitors may browse: some roots, and what is below."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = [os.path.realpath(root) for root in roots]
        self._known: dict[str, str] = {}
        for root in self._roots:
            self._entry(root)

    def path(self, identity: str) -> Path:
        """Return the path of an id."""
        require("owner")
        path = self._known.get(identity)
        if path is None or os.path.realpath(path) != path or not Path(path).exists():
            raise NotThere(
                "The folder or file is gone, or the studio was started anew since",
                "Begin again at the top.",
            )
        return Path(path)

    def list(self, identity: str = "") -> Listing:
        """Return a folder's content, or the roots; reads the disk, so not for the event loop."""
        require("owner")
        start = [TOP] if len(self._roots) > 1 else []
        if start and not identity:
            return Listing(TOP, (), [self._counted(root) for root in self._roots])
        path = str(self.path(identity or self._entry(self._roots[0]).id))
        found: dict[str, set[str]] = {"folder": set(), "file": set()}
        passed_over = 0
        with readable(path, called=Path(path).name), os.scandir(path) as entries:
            for entry in entries:
                kind = kind_of_entry(entry)
                if kind == "folder" or (kind == "file" and entry.name.lower().endswith(_FILES)):
                    target = os.path.realpath(entry.path)
                    if self.holds(target):
                        found[kind].add(target)
                    else:
                        passed_over += 1
        folders, files = (
            sorted(sorted(paths), key=lambda path: natural(Path(path).name))
            for paths in found.values()
        )
        # Of nested roots, the outermost.
        root = min((root for root in self._roots if is_within(path, root)), key=len)
        above = [each for each in reversed(Path(path).parents) if is_within(str(each), root)]
        return Listing(
            self._counted(path), [*start, *(self._entry(str(each)) for each in above)],
            [self._counted(folder) for folder in folders[:_LISTED]],
            [self._entry(file, file_size(file_stamp(file).size)) for file in files[:_LISTED]],
            passed_over + max(0, len(folders) - _LISTED) + max(0, len(files) - _LISTED),
        )  # fmt: skip

    def holds(self, path: str) -> bool:
        """Whether a path is a root or below one, links resolved."""
        real = os.path.realpath(os.path.expanduser(path))  # noqa: PTH111  never raises
        return any(is_within(real, root) for root in self._roots)

    def _entry(self, path: str, about: str = "") -> FolderEntry:
        # Sixteen digits of a hash: the same after a restart, and revealing nothing.
        identity = blake2s(os.fsencode(path), digest_size=8).hexdigest()
        self._known[identity] = path
        return FolderEntry(identity, Path(path).name or path, about)

    def _counted(self, folder: str) -> FolderEntry:
        kinds: Counter[str | None] = Counter()
        # Unreadable folders look empty; opening them shows the error.
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            kinds.update(map(kind_of_entry, islice(entries, _COUNTED + 1)))
        parts = [
            f"{count(_COUNTED)}+ {word}s" if number >= _COUNTED else counted(number, word)
            for number, word in ((kinds["image"], "photograph"), (kinds["folder"], "folder"))
            if number
        ]
        return self._entry(folder, " · ".join(parts) or "no photographs")
