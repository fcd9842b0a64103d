"""What a file is known by: it changes whenever the file is written or replaced."""

from __future__ import annotations

import os
from typing import Final, NamedTuple


class FileStamp(NamedTuple):
    """When a file was changed, its bytes, and its number on its file system.

    Where a stamp is kept on the disk, leave out the number: a copy of the folder has others.
    """

    mtime_ns: int
    size: int
    inode: int


#: The stamp of a file that is not there.
MISSING: Final = FileStamp(0, 0, 0)


def file_stamp(path: str | os.PathLike[str], *, follow_links: bool = True) -> FileStamp:
    """Return a file's stamp, `MISSING` where there is none.

    Args:
        path: The file; a text is quicker than a `Path`.
        follow_links: Whether a link stands for the file that it leads to.

    Example:
        >>> file_stamp("not-there") == MISSING
        True
    """
    try:
        found = os.stat(path, follow_symlinks=follow_links)  # noqa: PTH116  half the time
    except OSError:
        return MISSING
    return FileStamp(found.st_mtime_ns, found.st_size, found.st_ino)
