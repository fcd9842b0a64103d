"""Resumable uploads in parts; ``<home>/uploads/<key>`` is what has arrived of a file.

A key is the browser's hash of a file's name, size and time: whoever sends the same file again
resumes the last attempt, even after a restart of the studio or of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from opsin.core.errors import SourceError, StorageError
from opsin.core.format import file_size
from opsin.core.storage import storage_errors
from opsin.data.images import content_of
from opsin.studio.datasets.upload_import import SentFile, arrange, usable
from opsin.studio.people import require
from opsin.studio.threads import UPLOADS
from opsin.web.refusals import BadRequest, RequestError, json_reply

#: Most bytes and files of all uploads together.
MOST_BYTES: Final = 4 << 30
MOST_FILES: Final = 100_000

_KEY: Final = re.compile(r"[0-9a-f]{16}")
#: Most bytes of a request; the browser sends parts of 4 MB.
PART_MOST: Final = 16 << 20
# Bytes buffered before writing.
_BLOCK: Final = 1 << 20
# Bytes to leave free: trainings write to the same disk.
_SPARE: Final = 256 << 20
_STALE: Final = 86_400.0
_SWEPT_EVERY: Final = 3600.0
# Seconds between two looks at how much the studio keeps.
_MEASURED_EVERY: Final = 30.0
# Seconds without data after which a request releases its file.
_SILENCE: Final = 60.0


class UploadTooLarge(RequestError, status=413):  # noqa: N818
    """More bytes or files than the studio accepts."""


class Uploads:
    """Files that are arriving, or have arrived but are not used yet."""

    def __init__(
        self, home: Path, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES,
        most_disk: int = 0,
    ) -> None:  # fmt: skip
        self._home, self._most_disk = home, most_disk
        self._used, self._measured = 0, -_MEASURED_EVERY
        self._folder = home / "uploads"
        self._most_bytes, self._most_files = most_bytes, most_files
        self._sizes: dict[str, int] = {}
        self._total = 0
        self._counting = threading.Lock()
        self._finishing: set[str] = set()  # files being turned into a source
        # One at a time into an existing folder: two would choose the same free name.
        self._adding = threading.Lock()
        # Locks of files; held by writers and waiters.
        self._writing = WeakValueDictionary[str, asyncio.Lock]()
        self.swept = 0.0
        self.sweep()

    def offset(self, key: str) -> int:
        """The bytes of a file that have arrived; 0 for an unknown one."""
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, key: str, offset: int, content: bytes) -> int:
        """Append bytes to a file, and return its size."""
        require("viewer")  # whose access may have ended meanwhile
        path = self._path(key)
        if offset != self.offset(key):
            raise BadRequest(f"Byte {self.offset(key):,} is next, not {offset:,}")
        self._measure()
        self.check_room(key, offset + len(content))
        try:
            with storage_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                if shutil.disk_usage(self._folder).free - len(content) < _SPARE:
                    raise OSError(errno.ENOSPC, "too little space is left on the disk")
                with path.open("ab") as file:
                    file.write(content)
        except StorageError as error:
            # A partial file would occupy the space.
            self.drop(key)
            raise _without_path(error) from error
        self._count(key, offset + len(content))
        return offset + len(content)

    def path(self, key: str) -> Path:
        """The path of a file that has arrived."""
        path = self._path(key)
        if not path.is_file():
            raise SourceError("The uploaded file is not there any more", "Send it again.")
        return path

    def take(self, key: str, name: str = "the file") -> bytes:
        """Return an image file's content, and remove it."""
        try:
            return content_of(self.path(key), name=name)
        finally:
            self.drop(key)

    def drop(self, key: str) -> None:
        """Remove a file."""
        self._path(key).unlink(missing_ok=True)
        self._count(key, None)

    def finish(
        self, files: Sequence[SentFile], into: Path, *, loose: str = "", labelled: bool = True,
        moved: list[Path] | None = None,
    ) -> Path:  # fmt: skip
        """Turn uploads into a source, all or none: see `arrange`."""
        require("labeller" if labelled else "viewer")
        keys = {_check(file["key"]) for file in files}
        with self._counting:
            if self._finishing & keys:
                raise SourceError("Another window finishes this upload", "Wait for it.")
            self._finishing |= keys
        try:
            for file in files:
                if self.offset(file["key"]) != file["size"]:
                    raise SourceError(
                        f"{file['name']!r:.200} has not arrived whole",
                        "Send it again: it goes on where it stopped.",
                    )
            places = {self._path(file["key"]): file["path"] or file["name"] for file in files}
            try:
                with self._adding if into.is_dir() else contextlib.nullcontext():
                    source = arrange(places, into, loose, labelled=labelled, moved=moved)
            except StorageError as error:
                raise _without_path(error) from error
            except SourceError:
                for path, name in places.items():
                    if not path.exists() or not usable(name):  # a refused archive
                        self.drop(path.name)
                raise
            for path in places:
                self.drop(path.name)  # others than images are still here
            return source
        finally:
            with self._counting:
                self._finishing -= keys

    def sweep(self, older: float = _STALE) -> None:
        """Remove uploads idle for a day, and recount the rest."""
        self.swept = time.time()
        for entry in self._folder.iterdir() if self._folder.is_dir() else ():
            with contextlib.suppress(OSError):
                state = entry.stat()
                if self.swept - state.st_mtime > older:
                    entry.unlink()
                    self._count(entry.name, None)
                else:
                    self._count(entry.name, state.st_size)

    def _measure(self) -> None:
        """Measure the studio's own files, at times; those that are arriving are counted."""
        if self._most_disk and time.monotonic() - self._measured > _MEASURED_EVERY:
            self._used = size_of(self._home) - self._total
            self._measured = time.monotonic()

    def check_room(self, key: str, size: int) -> None:
        """Refuse uploads that are too large, before they are sent if the size is known."""
        others = len(self._sizes) - (key in self._sizes)
        total = self._total - self._sizes.get(key, 0) + size
        if total > self._most_bytes:
            raise UploadTooLarge(
                f"All uploads together may have {file_size(self._most_bytes)}",
                "Put the images into a folder of this machine instead.",
            )
        if self._most_disk and self._used + total > self._most_disk:
            raise UploadTooLarge(
                f"The studio may keep {file_size(self._most_disk)} and has no room for this",
                "Remove projects, and delete what was removed in the settings, or ask its owner.",
            )
        if others >= self._most_files:
            raise UploadTooLarge(
                f"At most {self._most_files:,} files may be sent", "Pack them into a zip."
            )

    def writing(self, key: str) -> asyncio.Lock:
        """The lock of a file against other requests."""
        return self._writing.setdefault(_check(key), asyncio.Lock())

    def _count(self, key: str, size: int | None) -> None:
        """Record a file's size; ``None`` if it is gone."""
        with self._counting:
            self._total -= self._sizes.pop(key, 0)
            if size is not None:
                self._sizes[key] = size
                self._total += size

    def _path(self, key: str) -> Path:
        return self._folder / _check(key)


def add_routes(api: FastAPI, uploads: Uploads) -> None:
    """Register ``/uploads/{key}``: query, append, remove."""

    @api.get("/uploads/{key}")
    async def arrived(key: str) -> Response:
        return json_reply({"offset": await UPLOADS.run(uploads.offset, key)})

    @api.put("/uploads/{key}")
    async def more(key: str, request: Request) -> Response:
        text = request.query_params.get("offset", "")
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise BadRequest("The offset in bytes is missing", "Use the studio's page.")
        async with uploads.writing(key):
            if int(text) != (there := await UPLOADS.run(uploads.offset, key)):
                return json_reply({"offset": there}, 409)
            return json_reply({"offset": await _receive(uploads, key, there, request)})

    @api.delete("/uploads/{key}")
    async def forget(key: str) -> Response:
        async with uploads.writing(key):
            await UPLOADS.run(uploads.drop, key)  # slow for large files
        return json_reply({"offset": 0})


async def _receive(uploads: Uploads, key: str, offset: int, request: Request) -> int:
    """Append a request's body to a file as it arrives; return the file's size."""
    stated = request.headers.get("content-length", "")
    size = int(stated) if stated.isdecimal() else 0
    if time.time() - uploads.swept > _SWEPT_EVERY:
        await UPLOADS.run(uploads.sweep)
    uploads.check_room(key, offset + size)
    most, waiting = offset + PART_MOST, bytearray()
    stream = request.stream()
    # What has arrived is valid, also of a body that stalls or breaks off.
    with contextlib.suppress(ClientDisconnect, StopAsyncIteration, TimeoutError):
        while True:
            async with asyncio.timeout(_SILENCE):
                waiting += await anext(stream)
            if offset + len(waiting) > most:
                raise UploadTooLarge(f"A part may have {PART_MOST >> 20} MB", "Send more parts.")
            if len(waiting) >= _BLOCK:
                offset = await UPLOADS.run(uploads.append, key, offset, bytes(waiting))
                waiting.clear()
    if waiting or not offset:  # also for an empty file
        offset = await UPLOADS.run(uploads.append, key, offset, bytes(waiting))
    return offset


def size_of(folder: Path) -> int:
    """The bytes of a folder's files."""
    total = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(f"{inner}/{name}").st_size
            except OSError:
                continue
    return total


def _check(key: str) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise BadRequest("An upload's key has 16 hexadecimal digits", "Use the studio's page.")
    return key


def _without_path(error: StorageError) -> StorageError:
    reason = error.message.rpartition(": ")[2]
    return StorageError(f"The upload cannot be kept: {reason}", error.advice)
