"""What kind of source it is."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from opsin.core.errors import SourceError
from opsin.core.events import Watcher
from opsin.core.regular_file import open_regular
from opsin.data.images import SUFFIXES
from opsin.data.sources import archive
from opsin.data.sources.allowed_folder import AllowedFolder
from opsin.data.sources.folder import count_images, images_in_folder
from opsin.data.sources.manifest import SUFFIXES as TABLES
from opsin.data.sources.manifest import check_columns, is_table
from opsin.data.unlabelled.piped_stream import begins_like_a_picture, open_piped
from opsin.data.unlabelled.stream import Stream, stream_of_one
from opsin.data.unlabelled.table_stream import count_rows, pictures_in_table

_KINDS = (
    f"a picture, a folder, a table ({' '.join(TABLES)}), an archive "
    f"({' '.join(archive.SUFFIXES)}) or - for standard input"
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def open_any(
    source: str,
    path: Path,
    columns: Mapping[str, str],
    *,
    follow_links: bool,
    outside: bool,
    watcher: Watcher,
) -> Stream:
    """Do what `open_stream` says, for a source that has a name.

    Raises:
        SourceError: There is no such source, or it is of another kind.
    """
    check_columns(columns)
    if not source:  # a shell's variable that is not set: never the folder one happens to be in
        raise SourceError(_KINDS, "got an empty name", "Check it, or give . for this folder.")
    # os.path, because it answers for impossible names instead of raising.
    if os.path.isdir(path):  # noqa: PTH112
        return Stream(
            source, "folder",
            lambda: images_in_folder(path, follow_links=follow_links, watcher=watcher),
            lambda: count_images(path, follow_links=follow_links),
        )  # fmt: skip
    if os.path.isfile(path):  # noqa: PTH113
        inside = None if outside else AllowedFolder(path.parent, follow_links=follow_links)
        return _in_file(source, path, columns, inside, watcher)
    if path.suffix.lower() in SUFFIXES and not _ADDRESS.match(source):
        return stream_of_one(source, path)  # read like any other, it tells why it cannot be
    raise _missing(source, path)


def open_standard_input(stdin: BinaryIO | None) -> Stream:
    """Do what `open_stream` says of ``-``.

    Raises:
        SourceError: The process was started without standard input.
    """
    return open_piped(_standard_input() if stdin is None else stdin)


def _in_file(
    source: str,
    path: Path,
    columns: Mapping[str, str],
    inside: AllowedFolder | None,
    watcher: Watcher,
) -> Stream:
    """Find what one file is."""
    if archive.is_archive(path):
        return Stream(
            source, "archive",
            lambda: archive.images_in_archive(path, watcher), lambda: archive.count_images(path),
        )  # fmt: skip
    if is_table(path):
        return Stream(
            source,
            "table",
            lambda: pictures_in_table(path, columns, inside),
            lambda: count_rows(path),
        )
    if path.suffix.lower() in SUFFIXES or _begins_like_a_picture(path):
        return stream_of_one(source, path)
    raise SourceError(
        _KINDS,
        f"{source} is a file of another kind",
        "Pictures that a data set keeps as arrays are evaluated: opsin evaluate MODEL FILE.",
    )


def _begins_like_a_picture(path: Path) -> bool:
    try:
        with open_regular(path) as file:
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
