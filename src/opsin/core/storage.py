"""Atomic writes."""

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

from opsin.core.errors import RecipeError, StorageError
from opsin.core.platform import sync
from opsin.core.stored_json import Json, json_text

# Names of temporary files and folders, which are swept away.
_UNFINISHED: Final = re.compile(r"\..*\.[0-9a-f]{16}\.unfinished", re.DOTALL)
_SCRATCH: Final = re.compile(r"\.scratch-[0-9a-f]{16}")
_STALE: Final = 86_400.0
_swept: set[Path] = set()


@contextlib.contextmanager
def atomic_file(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block succeeds."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _swept:
            _swept.add(path.parent)
            _sweep(path.parent, _UNFINISHED)
        temporary = path.parent / f".{path.name[:32]}.{secrets.token_hex(8)}.unfinished"
        # The umask applies; an existing name, even a link, fails.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
    try:
        with storage_errors(path):
            yield temporary
            if synced:
                sync(temporary)
            temporary.replace(path)
            if synced:
                sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Yield a hidden directory inside ``parent``, removed when the block ends."""
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
    """Flush a `scratch_directory` of files to the disk and rename it atomically."""
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


def write_bytes(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Write a file atomically."""
    with atomic_file(path, synced=synced) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Json, *, synced: bool = True) -> None:
    """Write an indented JSON file atomically."""
    text = json_text(content, indent=2) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"), synced=synced)


@contextlib.contextmanager
def exclusive(lock: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Exclude other processes from the block; released even if this one is killed."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(lock)
    try:
        try:
            held.acquire(timeout=2)  # a run's state is read with its lock held for a moment
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


def check_writable(path: Path, elsewhere: str = "") -> None:
    """Check that a file can be written at ``path``, before long work."""
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    with storage_errors(path, elsewhere), tempfile.TemporaryFile(dir=folder):
        pass


def check_new_file(path: Path, suffix: str, *, replace: bool = False) -> None:
    """Check that a file of a kind can be written where there is none yet, before long work."""
    if path.suffix.lower() != suffix:
        raise RecipeError(f"{path} does not end in {suffix}")
    with storage_errors(path):
        if not replace and os.path.lexists(path):
            raise StorageError(f"{path} is there already", "Choose another name with --out.")
    check_writable(path)


@contextlib.contextmanager
def storage_errors(path: Path, elsewhere: str = "") -> Iterator[None]:
    """Turn an `OSError` on writing ``path`` into a `StorageError` with advice."""
    try:
        yield
    except OSError as error:
        # strerror is None for errors that libraries raise without errno.
        reason = (error.strerror or str(error)).lower()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "Free some space" if full else "Check its rights"
        if elsewhere or not full:
            advice += f", or {elsewhere or 'choose another place'},"
        raise StorageError(f"Cannot write {path}: {reason}", f"{advice} and run again.") from error


def _sweep(folder: Path, name: re.Pattern[str]) -> None:
    """Remove leftovers of killed processes, a day old or more."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if name.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _STALE:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
