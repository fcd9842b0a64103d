"""Pictures that wait to be classified: from anywhere, in any number, one at a time."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from opsin.data.images import SUFFIXES
from opsin.data.sources.archive import SUFFIXES as ARCHIVES
from opsin.data.sources.archive import is_archive
from opsin.data.sources.manifest import SUFFIXES as TABLES
from opsin.data.sources.manifest import check_columns, is_table
from opsin.data.unlabelled.archive import count_members, pictures_in_archive
from opsin.data.unlabelled.folder import count_pictures, pictures_in_folder
from opsin.data.unlabelled.picture import Kind, Stream, Unlabelled
from opsin.data.unlabelled.piped import begins_like_a_picture, open_piped
from opsin.data.unlabelled.table import count_rows, pictures_in_table
from opsin.errors import SourceError
from opsin.events import SILENT, Watcher

__all__ = ["Kind", "Stream", "Unlabelled", "open_stream"]

#: The source that means standard input.
STANDARD_INPUT = "-"

_KINDS = (
    f"a picture, a folder, a table ({' '.join(TABLES)}), an archive ({' '.join(ARCHIVES)}) or - "
    "for standard input"
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def open_stream(
    source: str | os.PathLike[str],
    *,
    stdin: BinaryIO | None = None,
    columns: Mapping[str, str] | None = None,
    follow_links: bool = False,
    watcher: Watcher = SILENT,
) -> Stream:
    """Find the pictures of a source, without reading any.

    Args:
        source: A folder in any layout; a table with a column ``path`` or ``file_name``; an archive,
            which is read without being unpacked to the disk; one picture; or ``-`` for standard
            input, which holds either one picture or names of files, a line each or parted by NUL
            as ``find -print0`` does.
        stdin: Where ``-`` reads, untouched so far (default: the process's standard input).
        columns: Names of a table's columns by ours, where they differ: ``{"path": "file"}``.
        follow_links: In a folder, also follow symbolic links that lead out of it.
        watcher: Is told what was passed over.

    Raises:
        SourceError: There is no such source, or it is of another kind.

    Example:
        >>> stream = open_stream("boot.png")
        >>> stream.kind, stream.count()
        ('file', 1)
    """
    check_columns(columns)
    source = os.fspath(source)
    if source == STANDARD_INPUT:
        return open_piped(_standard_input() if stdin is None else stdin)
    path = Path(os.path.expanduser(source))  # noqa: PTH111  no error where there is no home
    # os.path, because it answers for impossible names instead of raising.
    if os.path.isdir(path):  # noqa: PTH112
        return Stream(
            source, "folder",
            lambda: pictures_in_folder(path, follow_links=follow_links, watcher=watcher),
            lambda: count_pictures(path, follow_links=follow_links),
        )  # fmt: skip
    if os.path.isfile(path):  # noqa: PTH113
        return _in_file(source, path, columns or {}, watcher)
    if path.suffix.lower() in SUFFIXES and not _ADDRESS.match(source):
        return _single(source, path)  # read like any other, it tells why it cannot be
    raise _missing(source, path)


def _in_file(source: str, path: Path, columns: Mapping[str, str], watcher: Watcher) -> Stream:
    """Find what one file is."""
    if is_archive(path):
        return Stream(
            source, "archive",
            lambda: pictures_in_archive(path, watcher), lambda: count_members(path),
        )  # fmt: skip
    if is_table(path):
        return Stream(
            source, "table", lambda: pictures_in_table(path, columns), lambda: count_rows(path)
        )
    if path.suffix.lower() in SUFFIXES or _begins_like_a_picture(path):
        return _single(source, path)
    raise SourceError(
        _KINDS,
        f"{source} is a file of another kind",
        "Pictures that a data set keeps as arrays are evaluated: opsin evaluate MODEL FILE.",
    )


def _single(source: str, path: Path) -> Stream:
    place = str(path)

    def only() -> Iterator[Unlabelled]:
        yield Unlabelled(source, place, place)

    return Stream(source, "file", only, lambda: 1)


def _begins_like_a_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return begins_like_a_picture(file.read(64))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError("a readable file", f"{path}: {reason}", "Check its rights.") from error


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise SourceError(
            "a picture or names of files on standard input",
            "the process was started without one",
            "Give a folder or a picture by name.",
        )
    return sys.stdin.buffer


def _missing(source: str, path: Path) -> SourceError:
    if _ADDRESS.match(source):
        return SourceError(
            _KINDS,
            f"{source} is an address, and Opsin fetches nothing by itself",
            "Download it first, or pipe one picture: curl -s ADDRESS | opsin predict MODEL -",
        )
    if os.path.exists(path):  # noqa: PTH110
        return SourceError(
            _KINDS,
            f"{source} is none of these, but a pipe or a device",
            "Pipe it into the command and give - as the source.",
        )
    return SourceError(
        _KINDS, f"there is no {source!r} here", "Check the spelling, or give the whole name."
    )
