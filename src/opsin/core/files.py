"""Files and folders that a stranger may have made: no link, pipe or device is followed unasked."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, cast

from platformdirs import user_state_path

from opsin.core.platform import FOLDER_HANDLES, NO_LINK, NO_WAITING, hard_link, open_folder


def state_root() -> Path:
    """Where an account's state lies: ``$OPSIN_STATE``, or the system's usual place."""
    own = os.environ.get("OPSIN_STATE")
    return Path(os.path.expanduser(own)) if own else user_state_path("opsin")  # noqa: PTH111  never raises


def open_regular(
    path: str | os.PathLike[str], *, follow_links: bool = True, buffering: int = -1
) -> BinaryIO:
    """Open a file for reading bytes, but no pipe, device, socket or folder."""

    def opener(name: str, flags: int) -> int:
        # Opening some devices does something by itself, so they are not even opened.
        _check_regular(os.stat(name, follow_symlinks=follow_links))  # noqa: PTH116  a name
        handle = os.open(name, flags | NO_WAITING | (0 if follow_links else NO_LINK))
        try:
            # Meanwhile the name may lead elsewhere; the open file is what it is.
            _check_regular(os.fstat(handle))
        except BaseException:
            os.close(handle)
            raise
        return handle

    opened: Any = open(path, "rb", buffering=buffering, opener=opener)  # noqa: SIM115
    return cast(BinaryIO, opened)


def _check_regular(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file of its own, maybe a link")


class FileStamp(NamedTuple):
    """When a file was changed, its bytes, and its number on its file system."""

    mtime_ns: int
    size: int
    inode: int


#: The stamp of a file that is not there.
MISSING: Final = FileStamp(0, 0, 0)


def file_stamp(path: str | os.PathLike[str], *, follow_links: bool = True) -> FileStamp:
    """A file's stamp, or `MISSING`."""
    try:
        found = os.stat(path, follow_symlinks=follow_links)  # noqa: PTH116  half the time
    except OSError:
        return MISSING
    return FileStamp(found.st_mtime_ns, found.st_size, found.st_ino)


_MODES: Final = {
    "rb": os.O_RDONLY,
    "rb+": os.O_RDWR,
    "ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    "xb": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
}


def is_plain_name(name: object) -> bool:
    """Tell whether this is the name of something right inside a folder, not a path."""
    if not isinstance(name, str) or name in {"", ".", ".."} or "\0" in name:
        return False
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # half a surrogate pair, which no file's name can hold
        return False
    return os.path.split(name) == ("", name) and not os.path.splitdrive(name)[0]


class ConfinedDir:
    """An open folder; its names are single ones, and links among them are not followed."""

    def __init__(self, path: Path, *, _handle: int | None = None) -> None:
        self.path = path
        self._handle = _handle
        # Without handles (Windows), names are looked at before they are used.
        if _handle is None and FOLDER_HANDLES:
            self._handle = open_folder(path)

    def __enter__(self) -> ConfinedDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _at(self, name: str) -> str:
        if not is_plain_name(name):
            raise OSError(errno.EINVAL, "Not the name of a file in this folder", name)
        return name if FOLDER_HANDLES else str(self.path / name)

    def folder(self, name: str, *, make: bool = False) -> ConfinedDir:
        """Open a folder right inside this one."""
        place = self._at(name)
        if make:
            with suppress(FileExistsError):
                os.mkdir(place, dir_fd=self._handle)
        if not stat.S_ISDIR(self.stat(name).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "Not a folder of its own, maybe a link", name)
        if not FOLDER_HANDLES:
            return ConfinedDir(self.path / name)
        return ConfinedDir(self.path / name, _handle=open_folder(place, within=self._handle))

    def stat(self, name: str) -> os.stat_result:
        """What a name is: of a link, not of what it leads to."""
        return os.stat(self._at(name), dir_fd=self._handle, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Tell whether there is anything of a name."""
        with suppress(FileNotFoundError):
            self.stat(name)
            return True
        return False

    def open(self, name: str, mode: Literal["rb", "rb+", "ab", "xb"] = "rb") -> BinaryIO:
        """Open a regular file, unbuffered where it is added to."""
        place = self._at(name)
        if mode != "xb" and (mode != "ab" or self.has(name)):
            # Opening some devices does something by itself, so they are not even opened.
            _check_regular(self.stat(name))
        handle = os.open(place, _MODES[mode] | NO_LINK | NO_WAITING, 0o666, dir_fd=self._handle)
        try:
            _check_regular(os.fstat(handle))
            opened: Any = open(handle, mode, buffering=0 if mode == "ab" else -1)  # noqa: SIM115, PTH123
        except BaseException:
            os.close(handle)
            raise
        return cast(BinaryIO, opened)

    def link(self, name: str, to: ConfinedDir, new: str) -> None:
        """Give a file a second name, which must be free."""
        hard_link(self._at(name), to._at(new), within=self._handle, into=to._handle)

    def rename(self, name: str, to: ConfinedDir, new: str) -> None:
        """Give a file another name, in place of whatever bears it."""
        os.replace(self._at(name), to._at(new), src_dir_fd=self._handle, dst_dir_fd=to._handle)

    def unlink(self, name: str) -> None:
        """Take a file's name away; of a link, the link."""
        os.unlink(self._at(name), dir_fd=self._handle)

    def rmdir(self, name: str) -> None:
        """Remove an empty folder right inside this one."""
        os.rmdir(self._at(name), dir_fd=self._handle)
