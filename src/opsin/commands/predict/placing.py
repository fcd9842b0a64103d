"""Files placed whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from opsin.core.files import ConfinedDir

# Whether an open file's times can be set by its number; on Windows by its name only.
_BY_NUMBER: Final = os.utime in os.supports_fd


class Placement(NamedTuple):
    """Where a file is, or is going to be: an open folder, and a name in it."""

    folder: ConfinedDir
    name: str

    @property
    def is_free(self) -> bool:
        """Whether nothing has the name."""
        return not self.folder.has(self.name)

    def stat(self) -> os.stat_result:
        """What is there, itself: of a link, not of what it leads to."""
        return self.folder.stat(self.name)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the name."""
        try:
            self.folder.unlink(self.name)
        except FileNotFoundError:
            if not missing_ok:
                raise


def copy_file(source: BinaryIO, target: Placement, scratch: Placement) -> None:
    """Copy an open file with its time and rights to a name that must be free."""

    def fill(file: BinaryIO) -> None:
        shutil.copyfileobj(source, file, 1 << 20)

    def stamp(place: int | Path) -> None:
        if isinstance(place, int):
            # The numbers of open files will do, though their types do not say so.
            copy_stat: Callable[[int, int], None] = cast(Any, shutil.copystat)
            copy_stat(source.fileno(), place)
        else:
            found = os.fstat(source.fileno())
            os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns))

    _write_new(target, scratch, fill, stamp)


def write_file(content: bytes, target: Placement, scratch: Placement, mtime_ns: int) -> None:
    """Write a file to a name that must be free, as `copy_file` does."""

    def fill(file: BinaryIO) -> None:
        file.write(content)

    def stamp(place: int | Path) -> None:
        os.utime(place, ns=(mtime_ns, mtime_ns))

    _write_new(target, scratch, fill, stamp)


def move_file(source: Placement, target: Placement, scratch: Placement) -> None:
    """Give a file a name that must be free; meanwhile it has both names, and never none."""
    try:
        # A rename would replace what is there, a second name never does.
        source.folder.link(source.name, *target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            with source.folder.open(source.name) as content:
                copy_file(content, target, scratch)
        elif error.errno in (errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        else:  # a file system, or a rule of the system, without second names
            _rename_new(source, target)
            return
    source.unlink()


def _write_new(
    target: Placement,
    scratch: Placement,
    fill: Callable[[BinaryIO], None],
    stamp: Callable[[int | Path], None],
) -> None:
    """Write a file beside its place, bring it to the disk, and give it its name if that is free."""
    # Killed after the name was given, the scratch file is the target: never write into it.
    scratch.unlink(missing_ok=True)
    try:
        with scratch.folder.open(scratch.name, "xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
            # By its time the file is known for what it is, so it never has its name without.
            if _BY_NUMBER:
                with suppress(OSError):  # some file systems keep no times
                    stamp(file.fileno())
        if not _BY_NUMBER:
            stamp(scratch.folder.path / scratch.name)
        try:
            scratch.folder.link(scratch.name, *target)
        except FileExistsError:
            raise
        except OSError:
            _rename_new(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def _rename_new(source: Placement, target: Placement) -> None:
    """Rename where there are no second names; no other process may write there meanwhile."""
    if not target.is_free:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target.name)
    source.folder.rename(source.name, *target)
