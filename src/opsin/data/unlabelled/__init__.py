"""Pictures to be classified, from anywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from opsin.core.events import SILENT, Watcher
from opsin.data.images import SUFFIXES
from opsin.data.unlabelled.stream import Kind, Stream, Unlabelled, stream_of_one

__all__ = ["STANDARD_INPUT", "Kind", "Stream", "Unlabelled", "open_stream"]

#: The source that means standard input.
STANDARD_INPUT = "-"


def open_stream(
    source: str | os.PathLike[str],
    *,
    stdin: BinaryIO | None = None,
    columns: Mapping[str, str] | None = None,
    follow_links: bool = False,
    outside: bool = False,
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
        follow_links: Also follow symbolic links that lead out of a folder, or of a table's.
        outside: Let a table name images outside its folder.
        watcher: Is told what was passed over.

    Raises:
        SourceError: There is no such source, or it is of another kind.

    Example:
        >>> stream = open_stream("boot.png")
        >>> stream.kind, stream.count()
        ('file', 1)
    """
    source = os.fspath(source)
    path = Path(os.path.expanduser(source))  # noqa: PTH111  no error where there is no home
    # os.path, because it answers for impossible names instead of raising.
    if not columns and path.suffix.lower() in SUFFIXES and os.path.isfile(path):  # noqa: PTH113
        return stream_of_one(source, path)
    # What else there may be takes longer to load than a picture to answer.
    from opsin.data.unlabelled import any_kind  # noqa: PLC0415

    if source == STANDARD_INPUT:
        return any_kind.open_standard_input(stdin)
    return any_kind.open_any(
        source, path, columns or {}, follow_links=follow_links, outside=outside, watcher=watcher
    )
