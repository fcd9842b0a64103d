"""Files that are opened only if they are regular, whatever their name leads to."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any, BinaryIO, cast

from opsin.core.platform import NO_LINK, NO_WAITING


def open_regular(
    path: str | os.PathLike[str], *, follow_links: bool = True, buffering: int = -1
) -> BinaryIO:
    """Open a file for reading bytes, but no pipe, device, socket or folder."""

    def opener(name: str, flags: int) -> int:
        # Opening some devices does something by itself, so they are not even opened.
        _check(os.stat(name, follow_symlinks=follow_links))  # noqa: PTH116  a name, not a path
        handle = os.open(name, flags | NO_WAITING | (0 if follow_links else NO_LINK))
        try:
            # Meanwhile the name may lead elsewhere; the open file is what it is.
            _check(os.fstat(handle))
        except BaseException:
            os.close(handle)
            raise
        return handle

    opened: Any = open(path, "rb", buffering=buffering, opener=opener)  # noqa: SIM115
    return cast(BinaryIO, opened)


def _check(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
