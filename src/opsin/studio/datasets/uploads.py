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

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from opsin.core.errors import SourceError, StorageError
from opsin.core.files import file_stamp
from opsin.core.format import file_size
from opsin.core.storage import storage_errors
from opsin.data.images import content_of
from opsin.studio.datasets.upload_import import SentFile, arrange
from opsin.studio.people import Role, require
from opsin.studio.threads import UPLOADS
from opsin.web.refusals import BadRequest, RequestError, json_reply

_KEY: Final = re.compile(r"[0-9a-f]{16}")
#: Most bytes of a request; the browser sends parts of 4 MB.
PART_MOST: Final = 16 << 20
# Bytes buffered before writing.
_BLOCK: Final = 1 << 20
# Bytes to leave free: trainings write to the same disk.
_SPARE: Final = 256 << 20
# Seconds that an idle upload is kept, and between two looks at how much is kept.
_STALE: Final = 86_400.0
_MEASURED_EVERY: Final = 30.0
# Seconds without data after which a request ends.
_SILENCE: Final = 60.0


class UploadTooLarge(RequestError, status=413):  # noqa: N818
    """More bytes or files than the studio accepts."""


class WrongOffset(BadRequest):
    """Bytes that do not begin where the file ends."""


class Uploads:
    """Files that are arriving, or have arrived but are not used yet."""

    def __init__(
        self, home: Path, most_bytes: int = 4 << 30, most_files: int = 100_000, most_disk: int = 0
    ) -> None:
        self._home, self._folder = home, home / "uploads"
        self._most_bytes, self._most_files, self._most_disk = most_bytes, most_files, most_disk
        # Files and bytes that are here, and bytes of all that the studio keeps, as measured then.
        self._files = self._bytes = self._kept = 0
        self._measured = -_MEASURED_EVERY
        # A file has one writer at a time; uploads are finished one by one.
        self._writing = [threading.Lock() for _ in range(64)]
        self._finishing = threading.Lock()

    def offset(self, key: str) -> int:
        """The bytes of a file that have arrived; 0 for an unknown one."""
        return file_stamp(self._path(key)).size

    def check(self, key: str, offset: int, more: int) -> None:
        """Refuse bytes that begin elsewhere, or have no room, before they are sent."""
        if offset != self.offset(key):
            raise WrongOffset(f"Byte {self.offset(key):,} is next, not {offset:,}")
        if time.monotonic() - self._measured > _MEASURED_EVERY:
            self._measured = time.monotonic()
            sizes = [file_stamp(file).size for file in self._folder.glob("*")]
            self._files, self._bytes = len(sizes), sum(sizes)
            self._kept = size_of(self._home) if self._most_disk else 0
        if self._bytes + more > self._most_bytes:
            raise UploadTooLarge(
                f"All uploads together may have {file_size(self._most_bytes)}",
                "Put the images into a folder of this machine instead.",
            )
        if self._most_disk and self._kept + more > self._most_disk:
            raise UploadTooLarge(
                f"The studio may keep {file_size(self._most_disk)} and has no room for this",
                "Remove projects, and delete what was removed in the settings, or ask its owner.",
            )
        if self._files + (not offset) > self._most_files:
            raise UploadTooLarge(
                f"At most {self._most_files:,} files may be sent", "Pack them into a zip."
            )

    def append(self, key: str, offset: int, content: bytes) -> int:
        """Append bytes to a file, and return its size."""
        require("viewer")  # whose access may have ended meanwhile
        path = self._path(key)
        with self._writing[int(key, 16) % len(self._writing)]:
            self.check(key, offset, len(content))
            try:
                with storage_errors(self._folder):
                    self._folder.mkdir(parents=True, exist_ok=True)
                    if shutil.disk_usage(self._folder).free - len(content) < _SPARE:
                        raise OSError(errno.ENOSPC, "too little space is left on the disk")
                    with path.open("ab") as file:
                        file.write(content)
            except StorageError as error:
                self.drop(key)  # a part of it would occupy the space
                raise _without_path(error) from error
            self._files += not offset
            self._bytes += len(content)
            self._kept += len(content)
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
        self._measured = -_MEASURED_EVERY

    def finish(
        self, files: Sequence[SentFile], into: Path, *, loose: str = "", needs: Role = "labeller",
        moved: list[Path] | None = None,
    ) -> Path:  # fmt: skip
        """Turn uploads into a source, all or none: see `arrange`; for who has a role."""
        require(needs)
        places = {self._path(file["key"]): file["path"] or file["name"] for file in files}
        with self._finishing:
            for file in files:
                if self.offset(file["key"]) != file["size"]:
                    raise SourceError(
                        f"{file['name']!r:.200} has not arrived whole",
                        "Send it again: it goes on where it stopped.",
                    )
            try:
                source = arrange(places, into, loose, moved)
            except StorageError as error:
                raise _without_path(error) from error
            for path in places:
                self.drop(path.name)  # others than images are still here
        return source

    def sweep(self) -> None:
        """Remove uploads idle for a day."""
        for file in self._folder.glob("*"):
            if time.time() - file_stamp(file).mtime_ns / 1e9 > _STALE:
                file.unlink(missing_ok=True)
        self._measured = -_MEASURED_EVERY

    def _path(self, key: str) -> Path:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise BadRequest("An upload's key has 16 hexadecimal digits", "Use the studio's page.")
        return self._folder / key


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
        try:
            return json_reply({"offset": await _receive(uploads, key, int(text), request)})
        except WrongOffset:
            return json_reply({"offset": await UPLOADS.run(uploads.offset, key)}, 409)

    @api.delete("/uploads/{key}")
    async def forget(key: str) -> Response:
        await UPLOADS.run(uploads.drop, key)  # slow for large files
        return json_reply({"offset": 0})


async def _receive(uploads: Uploads, key: str, offset: int, request: Request) -> int:
    """Append a request's body to a file as it arrives; return the file's size."""
    stated = request.headers.get("content-length", "")
    await UPLOADS.run(uploads.check, key, offset, int(stated) if stated.isdecimal() else 0)
    most, waiting, stream = offset + PART_MOST, bytearray(), request.stream()
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
    return sum(
        file_stamp(f"{inner}/{name}", follow_links=False).size
        for inner, _, names in os.walk(folder)
        for name in names
    )


def _without_path(error: StorageError) -> StorageError:
    reason = error.message.rpartition(": ")[2]
    return StorageError(f"The upload cannot be kept: {reason}", error.advice)
