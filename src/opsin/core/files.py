"""Untrusted files and folders (links, pipes and devices are refused unless allowed), and names."""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, cast

from platformdirs import user_state_path

from opsin.core.platform import FOLDER_HANDLES, NO_LINK, NO_WAITING, hard_link, open_folder


def state_root() -> Path:
    """The account's state folder: ``$OPSIN_STATE``, or the system's default."""
    override = os.environ.get("OPSIN_STATE")
    return Path(os.path.expanduser(override)) if override else user_state_path("opsin")  # noqa: PTH111  never raises


def open_regular(
    path: str | os.PathLike[str], *, follow_links: bool = True, buffering: int = -1
) -> BinaryIO:
    """Open a regular file for reading bytes; refuse pipes, devices, sockets and folders."""

    def opener(name: str, flags: int) -> int:
        # Merely opening some devices has side effects.
        _check_regular(os.stat(name, follow_symlinks=follow_links))  # noqa: PTH116  a name
        return _open_regular(name, flags | (0 if follow_links else NO_LINK))

    opened: Any = open(path, "rb", buffering=buffering, opener=opener)  # noqa: SIM115
    return cast(BinaryIO, opened)


def _open_regular(name: str, flags: int, folder: int | None = None) -> int:
    handle = os.open(name, flags | NO_WAITING, 0o666, dir_fd=folder)
    try:
        # The name may lead elsewhere by now.
        _check_regular(os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file of its own, maybe a link")


class FileStamp(NamedTuple):
    """Modification time, size and inode of a file."""

    mtime_ns: int
    size: int
    inode: int


#: The stamp of a missing file.
MISSING: Final = FileStamp(0, 0, 0)


def file_stamp(path: str | os.PathLike[str], *, follow_links: bool = True) -> FileStamp:
    """A file's stamp, or `MISSING`."""
    try:
        status = os.stat(path, follow_symlinks=follow_links)  # noqa: PTH116  half the time
    except OSError:
        return MISSING
    return FileStamp(status.st_mtime_ns, status.st_size, status.st_ino)


_MODES: Final = {
    "rb": os.O_RDONLY,
    "rb+": os.O_RDWR,
    "ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    "xb": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
}


def is_plain_name(name: object) -> bool:
    """Whether this is a single file name, not a path."""
    if not isinstance(name, str) or name in {"", ".", ".."} or "\0" in name:
        return False
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # a lone surrogate, which no file name can contain
        return False
    return os.path.split(name) == ("", name) and not os.path.splitdrive(name)[0]


class ConfinedDir:
    """An open folder that takes single names only and follows no links."""

    def __init__(self, path: Path, *, _handle: int | None = None) -> None:
        self.path = path
        self._handle = _handle
        # Without handles (Windows), names are checked before use.
        if _handle is None and FOLDER_HANDLES:
            self._handle = open_folder(path)

    def __enter__(self) -> ConfinedDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _at(self, name: str) -> str:
        if not is_plain_name(name):
            raise OSError(errno.EINVAL, "Not the name of a file in this folder", name)
        return name if FOLDER_HANDLES else str(self.path / name)

    def folder(self, name: str, *, make: bool = False) -> ConfinedDir:
        """Open a direct subfolder."""
        path = self._at(name)
        if make:
            with suppress(FileExistsError):
                os.mkdir(path, dir_fd=self._handle)
        if not stat.S_ISDIR(self.stat(name).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "Not a folder of its own, maybe a link", name)
        if not FOLDER_HANDLES:
            return ConfinedDir(self.path / name)
        return ConfinedDir(self.path / name, _handle=open_folder(path, within=self._handle))

    def stat(self, name: str) -> os.stat_result:
        """The status of a name, without following a link."""
        return os.stat(self._at(name), dir_fd=self._handle, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether a name exists."""
        with suppress(FileNotFoundError):
            self.stat(name)
            return True
        return False

    def open(self, name: str, mode: Literal["rb", "rb+", "ab", "xb"] = "rb") -> BinaryIO:
        """Open a regular file; unbuffered for appending."""
        path = self._at(name)
        if mode != "xb" and (mode != "ab" or self.has(name)):
            # Merely opening some devices has side effects.
            _check_regular(self.stat(name))
        handle = _open_regular(path, _MODES[mode] | NO_LINK, self._handle)
        opened: Any = open(handle, mode, buffering=0 if mode == "ab" else -1)  # noqa: SIM115, PTH123
        return cast(BinaryIO, opened)

    def link(self, name: str, to: ConfinedDir, new: str) -> None:
        """Link a file under a second name, which must be free."""
        hard_link(self._at(name), to._at(new), within=self._handle, into=to._handle)

    def rename(self, name: str, to: ConfinedDir, new: str) -> None:
        """Rename a file, replacing what has the new name."""
        os.replace(self._at(name), to._at(new), src_dir_fd=self._handle, dst_dir_fd=to._handle)

    def unlink(self, name: str) -> None:
        """Remove a file, or a link itself."""
        os.unlink(self._at(name), dir_fd=self._handle)

    def rmdir(self, name: str) -> None:
        """Remove an empty direct subfolder."""
        os.rmdir(self._at(name), dir_fd=self._handle)


# Characters that Windows forbids in names, and the escape character of URLs.
_TAKEN: Final = re.compile(r'[/\\:*?"<>|%]')
# Windows's device names, which are reserved with any suffix.
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.I)
# Most bytes of a legal name with its number; systems take 255, but some tools append.
_LONGEST: Final = 120
# Most bytes of a name that is otherwise kept, before it gets a number.
_LONGEST_NUMBERED: Final = 200


def legal_name(name: str) -> str:
    """The name closest to ``name`` that every file system allows, in any script."""
    text = unicodedata.normalize("NFC", name)
    text = _TAKEN.sub("-", "".join(c if c.isprintable() else "-" for c in text)).rstrip(" .")
    stem, suffix = os.path.splitext(text)  # noqa: PTH122  a Path would take "." apart
    if len(suffix.encode()) > 20:  # a sentence, not a suffix
        stem, suffix = text, ""
    stem = stem.strip(" .")
    if _DEVICE.match(stem + suffix):
        stem = f"_{stem}"
    stem = stem.encode()[: _LONGEST - len(suffix.encode())].decode("utf-8", "ignore")
    legal = (stem.rstrip(" .") or "_") + suffix
    return legal if legal == name else legal_name(legal)  # the cut may bare another suffix


def free_name(name: str, used: Callable[[str], bool]) -> str:
    """``name``, with a number before its suffix if it is used."""
    if not used(name):
        return name
    folder, slash, plain = name.rpartition("/")
    stem, suffix = os.path.splitext(plain)  # noqa: PTH122  a Path would take "." apart
    encoded = os.fsencode(stem)
    short = stem if len(encoded) <= _LONGEST_NUMBERED else os.fsdecode(encoded[:_LONGEST_NUMBERED])

    def numbered(number: int) -> str:
        return f"{folder}{slash}{short}-{number}{suffix}"

    low, high = 1, 2
    while used(numbered(high)):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if used(numbered(middle)) else (low, middle)
    return numbered(high)


class NamesInUse:
    """Numbers names that are already in use, ignoring case."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def take(self, name: str) -> str:
        """``name``, with a number if it is in use; marks the result as used."""
        free = free_name(name, lambda wish: _alike(wish) in self._used)
        self._used.add(_alike(free))
        return free


def _alike(name: str) -> str:
    """A key that is equal for names that some system treats as one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
