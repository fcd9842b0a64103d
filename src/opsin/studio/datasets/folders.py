"""Folders below the roots that visitors may browse, by opaque ids."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from opsin.data.image_tree import is_within, kind_of_entry, natural, readable
from opsin.data.sources import archive, table
from opsin.studio.errors import NotThere
from opsin.studio.people import require
from opsin.studio.words import opaque

# Entries that are shown.
_LISTED: Final = 300
_FILES: Final = (*archive.SUFFIXES, *table.SUFFIXES, ".npz")


class FolderEntry(NamedTuple):
    """A folder, or a file that is a source."""

    id: str
    name: str


#: What is above all roots, where there are several.
TOP: Final = FolderEntry("", "Folders")


class Listing(NamedTuple):
    """A folder's content, or the roots."""

    here: FolderEntry
    above: FolderEntry | None
    folders: Sequence[FolderEntry]
    files: Sequence[FolderEntry] = ()
    left_out: int = 0


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
                "The folder or file is gone, or the studio was restarted",
                "Begin again at the top.",
            )
        return Path(path)

    def list(self, identity: str = "") -> Listing:
        """Return a folder's content, or the roots; reads the disk, so not for the event loop."""
        require("owner")
        top = TOP if len(self._roots) > 1 else None
        if top and not identity:
            return Listing(TOP, None, list(map(self._entry, self._roots)))
        path = str(self.path(identity or self._entry(self._roots[0]).id))
        found: dict[str, set[str]] = {"folder": set(), "file": set()}
        left_out = 0
        with readable(path, called=Path(path).name), os.scandir(path) as entries:
            for entry in entries:
                kind, target = kind_of_entry(entry), os.path.realpath(entry.path)
                if kind == "folder" or (kind == "file" and entry.name.lower().endswith(_FILES)):
                    left_out += not self.holds(target)
                    found[kind] |= {target} if self.holds(target) else set()
        listed = {
            kind: sorted(paths, key=lambda path: (natural(Path(path).name), path))
            for kind, paths in found.items()
        }
        left_out += sum(max(0, len(paths) - _LISTED) for paths in listed.values())
        folders, files = (list(map(self._entry, paths[:_LISTED])) for paths in listed.values())
        above = top if path in self._roots else self._entry(str(Path(path).parent))
        return Listing(self._entry(path), above, folders, files, left_out)

    def holds(self, path: str) -> bool:
        """Whether a path is a root or below one, links resolved."""
        real = os.path.realpath(os.path.expanduser(path))  # noqa: PTH111  never raises
        return any(is_within(real, root) for root in self._roots)

    def _entry(self, path: str) -> FolderEntry:
        self._known[opaque(path)] = path
        return FolderEntry(opaque(path), Path(path).name or path)
