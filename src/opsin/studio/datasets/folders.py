"""Folders below the roots that visitors may browse, by opaque ids."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from opsin.data.image_tree import is_within, kind_of_entry, natural, readable
from opsin.data.sources import archive, table
from opsin.studio.errors import NotThere
from opsin.studio.people import require

#: Images are counted up to this number only.
COUNTED: Final = 10_000
_LISTED: Final = 1_000
_FILES: Final = (*archive.SUFFIXES, *table.SUFFIXES, ".npz")


@dataclass(frozen=True)
class FolderEntry:
    """A folder, or a file that is a source."""

    id: str
    name: str
    images: int = 0
    folders: int = 0
    size: int = 0


@dataclass(frozen=True)
class Listing:
    """A folder's content, or that of no folder: the roots."""

    here: FolderEntry | None
    folders: tuple[FolderEntry, ...]
    parents: tuple[FolderEntry, ...] = ()
    files: tuple[FolderEntry, ...] = ()
    images: int = 0
    passed_over: int = 0


class Folders:
    """The folders that visitors may browse: some roots, and what is below."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._known: dict[str, str] = {}
        for root in self._roots:
            self._id(root)

    @property
    def several(self) -> bool:
        """Whether there is more than one root."""
        return len(self._roots) > 1

    def path(self, identity: str, kind: Literal["folder", "file"] = "folder") -> Path:
        """Return the path of an id."""
        require("owner")
        path = self._known.get(identity)
        there = os.path.isdir if kind == "folder" else os.path.isfile
        if path is None or os.path.realpath(path) != path or not there(path):
            raise NotThere(
                f"The {kind} is gone, or the studio was started anew since",
                "Begin again at the top.",
            )
        return Path(path)

    def list(self, identity: str = "") -> Listing:
        """Return a folder's content, or the roots; reads the disk, so not for the event loop."""
        if not identity and self.several:
            require("owner")
            return Listing(None, tuple(map(self._counted, self._roots)))
        path = str(self.path(identity or self._id(self._roots[0])))
        images, out = 0, 0
        paths: dict[str, list[str]] = {"folder": [], "file": []}
        with readable(path, called=Path(path).name), os.scandir(path) as entries:
            for entry in entries:
                kind = kind_of_entry(entry)
                if kind == "image":
                    images = min(images + 1, COUNTED)
                elif kind == "folder" or (kind == "file" and entry.name.lower().endswith(_FILES)):
                    target = os.path.realpath(entry.path)
                    if self._inside(target):
                        paths[kind].append(target)
                    else:
                        out += 1
        folders, files = (_in_order(places) for places in paths.values())
        out += max(0, len(folders) - _LISTED) + max(0, len(files) - _LISTED)
        return Listing(
            here=self._entry(path),
            parents=tuple(map(self._entry, self._above(path))),
            folders=tuple(map(self._counted, folders[:_LISTED])),
            files=tuple(self._entry(file, size=_size(file)) for file in files[:_LISTED]),
            images=images,
            passed_over=out,
        )

    def holds(self, path: str) -> bool:
        """Whether a path is a root or below one, links resolved."""
        return self._inside(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111  never raises

    def _id(self, path: str) -> str:
        # Sixteen digits of a hash: the same after a restart, and revealing nothing.
        identity = blake2s(os.fsencode(path), digest_size=8).hexdigest()
        self._known[identity] = path
        return identity

    def _inside(self, path: str) -> bool:
        return any(is_within(path, root) for root in self._roots)

    def _above(self, path: str) -> Iterator[str]:
        """Yield the folders above one, from its root on."""
        # Of nested roots, the outermost.
        here = min((root for root in self._roots if is_within(path, root)), key=len)
        for part in Path(path).relative_to(here).parts:
            yield here
            here = os.path.join(here, part)  # noqa: PTH118  as folder.py: text, no Path

    def _entry(self, path: str, **known: int) -> FolderEntry:
        return FolderEntry(self._id(path), os.path.basename(path) or path, **known)  # noqa: PTH119

    def _counted(self, folder: str) -> FolderEntry:
        kinds: Counter[str | None] = Counter()
        # Unreadable folders look empty; opening them shows the error.
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            kinds.update(map(kind_of_entry, islice(entries, COUNTED + 1)))
        return self._entry(folder, images=kinds["image"], folders=kinds["folder"])


def _size(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_size  # noqa: PTH116
    return 0


def _in_order(paths: list[str]) -> list[str]:
    return sorted(sorted(set(paths)), key=lambda path: natural(os.path.basename(path)))  # noqa: PTH119
