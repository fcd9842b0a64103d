"""Kinds of source: how each is recognised and read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.image_stream import Stream
from opsin.data.image_tree import holds_images, is_within
from opsin.data.sources.contents import LocatedSource


class AllowedFolder:
    """The folder that a table's paths may not leave."""

    def __init__(self, folder: Path, *, archive: bool = False, follow_links: bool = False) -> None:
        self._archive = archive
        self._follow_links = follow_links
        self._written = os.path.abspath(folder)  # noqa: PTH100
        self._real = os.path.realpath(folder)
        # Known folders, by whether they resolve to one inside; a table repeats few.
        self._known: dict[str, bool] = {}
        self.outside = f"leads out of the {'archive' if archive else 'folder of the table'}"
        self.advice = "If you trust the table and mean these images, allow it with --outside."
        if archive:
            self.advice = "A table in an archive can name the archive's own files only."

    def holds(self, written: str, start: Path) -> bool:
        """Tell whether a path from a folder stays inside, with links resolved."""
        if self._archive and re.match(r"[A-Za-z]:|[/\\]", written):
            return False
        path = os.path.join(os.path.abspath(start), written)  # noqa: PTH100, PTH118  as text
        if self._follow_links and is_within(os.path.normpath(path), self._written):
            return True
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            return False
        if folder not in self._known:
            self._known[folder] = is_within(os.path.realpath(folder), self._real)
        if not self._known[folder]:
            return False
        return not os.path.islink(path) or is_within(os.path.realpath(path), self._real)  # noqa: PTH114


@dataclass(frozen=True)
class SourceRequest:
    """A source as the user wrote it, with options of reading."""

    written: str
    columns: Mapping[str, str] | None = None
    follow_links: bool = False
    outside: bool = False
    stdin: BinaryIO | None = None
    archive: AllowedFolder | None = None
    watcher: Watcher = SILENT

    # os.path in these, because it answers for impossible names instead of raising.
    @cached_property
    def path(self) -> Path:
        """Its local path, if it is one."""
        return Path(os.path.expanduser(self.written))  # noqa: PTH111

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return os.path.isdir(self.path)  # noqa: PTH112

    @cached_property
    def holds_images(self) -> bool:
        """Whether it is a folder with an image in it or below."""
        return self.is_folder and holds_images(self.path)

    @cached_property
    def is_file(self) -> bool:
        """Whether it is a file."""
        return os.path.isfile(self.path)  # noqa: PTH113

    def is_file_of(self, *suffixes: str) -> bool:
        """Tell whether it is a file with one of the endings."""
        return self.is_file and self.path.suffix.lower() in suffixes

    def allowed(self, folder: Path, *files: Path) -> AllowedFolder | None:
        """Return the folder where a table may name images, or ``None`` for anywhere.

        The folder's own ``files`` must lie there, too.
        """
        if self.outside and not self.archive:
            return None
        allowed = self.archive or AllowedFolder(folder, follow_links=self.follow_links)
        for file in files:
            if not allowed.holds(str(file.relative_to(folder)), folder):
                raise SourceError(f"{file} leads out of {folder}", allowed.advice)
        return allowed


@dataclass(frozen=True)
class SourceKind:
    """One kind of source. Each module of `opsin.data.sources` lists its kinds in ``KINDS``.

    Args:
        title: Its name in errors and the help, with its article: ``an .npz file``; empty for kinds
            that are always refused.
        match: Tells whether a source is of this kind.
        locate: Finds its labelled images, reading none; ``None`` if it has no labels.
        iter_unlabelled: Finds its images without labels; ``None`` if that is impossible.
        rank: Kinds of a lower rank are tried first.
        match_packed: Tells whether a file in an archive is of this kind, so that it may be the
            archive's only content; ``None`` if no file is.
        files: Patterns of the names of its files but images, as `fnmatch` has them, in any case;
            those in an archive are unpacked.
    """

    title: str
    match: Callable[[SourceRequest], bool]
    locate: Callable[[SourceRequest], LocatedSource] | None = None
    iter_unlabelled: Callable[[SourceRequest], Stream] | None = None
    rank: int = 0
    match_packed: Callable[[SourceRequest], bool] | None = None
    files: tuple[str, ...] = ()
