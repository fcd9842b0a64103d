"""Files placed whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def copy_file(source: Path, target: Path, scratch: Path) -> None:
    """Copy a file with its time and rights.

    Args:
        source: The file.
        target: Where to; it must be free.
        scratch: A file on the target's file system that nobody else uses; it is gone afterwards.

    Raises:
        FileExistsError: ``target`` is taken.
        OSError: The system refuses it.
    """

    def fill(file: BinaryIO) -> None:
        with source.open("rb") as content:
            shutil.copyfileobj(content, file, 1 << 20)

    def stamp() -> None:
        with suppress(OSError):  # some file systems keep no times
            shutil.copystat(source, scratch)

    _write_new(target, scratch, fill, stamp)


def write_file(content: bytes, target: Path, scratch: Path, mtime_ns: int) -> None:
    """Write a file; arguments and errors are those of `copy_file`."""

    def fill(file: BinaryIO) -> None:
        file.write(content)

    def stamp() -> None:
        os.utime(scratch, ns=(mtime_ns, mtime_ns))

    _write_new(target, scratch, fill, stamp)


def move_file(source: Path, target: Path, scratch: Path) -> None:
    """Give a file another place; arguments and errors are those of `copy_file`.

    In the middle of it the file has both names; it never has none.
    """
    try:
        # A rename would replace what is there, a second name never does.
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            copy_file(source, target, scratch)
        elif error.errno in (errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        else:  # a file system, or a rule of the system, without second names
            _rename_new(source, target)
            return
    source.unlink()


def _write_new(
    target: Path, scratch: Path, fill: Callable[[BinaryIO], None], stamp: Callable[[], None]
) -> None:
    """Write a file beside its place, bring it to the disk, and give it its name if that is free."""
    # Killed after the name was given, the scratch file is the target: never write into it.
    scratch.unlink(missing_ok=True)
    try:
        with scratch.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        # By its time the file is known for what it is, so it never has its name without.
        stamp()
        try:
            os.link(scratch, target)
        except FileExistsError:
            raise
        except OSError:
            _rename_new(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def _rename_new(source: Path, target: Path) -> None:
    """Rename where there are no second names; nobody else may write into the folder meanwhile."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)
