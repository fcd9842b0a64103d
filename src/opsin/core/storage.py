"""Writes that are whole, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import filelock

from opsin.core.errors import StorageError
from opsin.core.platform import sync
from opsin.core.stored_json import Json, json_text

# Names of temporary files and folders, which no user would choose: what bears one is swept away.
_UNFINISHED: Final = re.compile(r"\..*\.[0-9a-f]{16}\.unfinished", re.DOTALL)
_SCRATCH: Final = re.compile(r"\.scratch-[0-9a-f]{16}")
_STALE: Final = 86_400.0
_swept: set[Path] = set()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends well."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _swept:
            _swept.add(path.parent)
            _sweep(path.parent, _UNFINISHED)
        temporary = path.parent / f".{path.name[:32]}.{secrets.token_hex(8)}.unfinished"
        # The system takes its umask off these rights; a name that is there, even a link, fails.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
    try:
        with storage_errors(path):
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Yield a hidden directory inside ``parent`` that is gone when the block ends."""
    with storage_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent, _SCRATCH)
        temporary = parent / f".scratch-{secrets.token_hex(8)}"
        temporary.mkdir()
    try:
        with storage_errors(parent):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_directory(scratch: Path, path: Path) -> None:
    """Bring a `scratch_directory` of files to the disk and give it its name, whole."""
    with storage_errors(path):
        for file in scratch.iterdir():
            sync(file)
        sync(scratch)
        try:
            scratch.rename(path)
        except OSError:
            if not path.is_dir():
                raise
        sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_new(path: Path, content: bytes) -> bool:
    """Write a whole file where there is none; ``False``: there is one, and it stays."""
    with storage_errors(path):
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            return False
    try:
        write_bytes(path, content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def write_json(path: Path, content: Json) -> None:
    """Write a whole JSON file, readable by people."""
    text = json_text(content, indent=2) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def exclusive(lock: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Keep other processes out of the block; the system lets them in when this process ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(lock)
    try:
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            wait()
            held.acquire(poll_interval=0.1)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
    try:
        yield
    finally:
        held.release()


def check_writable(path: Path) -> None:
    """See that a file can be written at ``path``, before long work is done for it."""
    place = path.parent
    while not os.path.lexists(place):
        place = place.parent
    with storage_errors(path), tempfile.TemporaryFile(dir=place):
        pass


@contextlib.contextmanager
def storage_errors(path: Path, elsewhere: str = "") -> Iterator[None]:
    """Turn the system's refusal to write ``path`` into one line that says what to do."""
    try:
        yield
    except OSError as error:
        # strerror is None for the errors that libraries raise without the system's number.
        reason = (error.strerror or str(error)).lower()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "Free some space" if full else "Check its rights"
        if elsewhere or not full:
            advice += f", or {elsewhere or 'choose another place'},"
        raise StorageError(f"Cannot write {path}: {reason}", f"{advice} and run again.") from error


def _sweep(folder: Path, name: re.Pattern[str]) -> None:
    """Remove what killed processes left in a directory, untouched for a day."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if name.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _STALE:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
