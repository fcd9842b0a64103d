"""What Opsin knows of each kind of source: how it is recognised, read and described."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from opsin.core.events import SILENT, Watcher
from opsin.data.image_stream import Stream
from opsin.data.image_tree import holds_images
from opsin.data.sources.allowed_folder import AllowedFolder
from opsin.data.sources.contents import LocatedSource


@dataclass(frozen=True)
class SourceRequest:
    """A source as the user wrote it, and how it is to be read.

    Args:
        written: What the user wrote.
        columns: Names of a table's columns by ours, where they differ.
        follow_links: Whether symbolic links may lead out of a folder, or of a table's.
        outside: Whether a table may name images outside its folder.
        stdin: What ``-`` reads (default: the process's standard input).
        archive: The folder of the unpacked archive that the source was found in.
        watcher: Receives notes about downloads, unpacking and what was passed over.
    """

    written: str
    columns: Mapping[str, str] | None = None
    follow_links: bool = False
    outside: bool = False
    stdin: BinaryIO | None = None
    archive: AllowedFolder | None = None
    watcher: Watcher = SILENT

    @cached_property
    def path(self) -> Path:
        """Where it lies, if it is a place."""
        return Path(os.path.expanduser(self.written))  # noqa: PTH111  no error without a home

    @cached_property
    def is_folder(self) -> bool:
        """Whether there is a folder."""
        # os.path, because it answers for impossible names instead of raising.
        return os.path.isdir(self.path)  # noqa: PTH112

    @cached_property
    def holds_images(self) -> bool:
        """Whether there is a folder with an image in it or below; looked for until one is found."""
        return self.is_folder and holds_images(self.path)

    @cached_property
    def is_file(self) -> bool:
        """Whether there is a file."""
        return os.path.isfile(self.path)  # noqa: PTH113

    def allowed(self, folder: Path) -> AllowedFolder | None:
        """Return where a table in a folder may name images; ``None`` for anywhere."""
        if self.archive:
            return self.archive
        return None if self.outside else AllowedFolder(folder, follow_links=self.follow_links)


class SourceRow(NamedTuple):
    """A row of the table of sources in ``docs/reference/sources.md``.

    Args:
        name: What the source is called.
        layout: What it looks like.
        parts: What decides the part of the split that an image belongs to.
    """

    name: str
    layout: str
    parts: str


@dataclass(frozen=True)
class SourceKind:
    """One kind of source. Each module of `opsin.data.sources` with a ``KIND`` describes one.

    Args:
        title: What errors and the help call it, with its article: ``an .npz file``; empty for what
            is known only to be refused.
        rows: Rows of the table in ``docs/reference/sources.md``.
        match: Tells whether a source is of this kind.
        locate: Finds its labelled images, reading none; ``None`` where it holds no labels.
        iter_unlabelled: Finds its images without labels; ``None`` where it cannot be read so.
        rank: Kinds of a lower rank are asked first.
        match_packed: Tells whether a file in an archive is of this kind, so that it may be what
            the archive holds; ``None`` where no file is.
        files: Patterns of the names of its files but images, as `fnmatch` has them, in any case;
            those in an archive are unpacked.

    Example:
        >>> from opsin.data.sources import kinds
        >>> [kind.title for kind in kinds() if kind.match(SourceRequest("digits"))]
        ['a name (cifar10, cifar100, digits, fashion-mnist, kmnist, mnist)']
    """

    title: str
    rows: tuple[SourceRow, ...]
    match: Callable[[SourceRequest], bool]
    locate: Callable[[SourceRequest], LocatedSource] | None = None
    iter_unlabelled: Callable[[SourceRequest], Stream] | None = None
    rank: int = 0
    match_packed: Callable[[SourceRequest], bool] | None = None
    files: tuple[str, ...] = ()
