"""What a file is known by: it changes whenever the file is written or replaced."""

from __future__ import annotations

import os
from typing import Final, NamedTuple


class FileStamp(NamedTuple):
    """When a file was changed, its bytes, and its number on its file system."""

    mtime_ns: int
    size: int
    inode: int


#: The stamp of a file that is not there.
MISSING: Final = FileStamp(0, 0, 0)


def file_stamp(path: str | os.PathLike[str], *, follow_links: bool = True) -> FileStamp:
    """Return a file's stamp, `MISSING` where there is none."""
    try:
        found = os.stat(path, follow_symlinks=follow_links)  # noqa: PTH116  half the time
    except OSError:
        return MISSING
    return FileStamp(found.st_mtime_ns, found.st_size, found.st_ino)
