"""Resumable uploads, and the sources that they become.

``<home>/uploads/<key>`` is what has arrived of a file. A key is the browser's hash of its name,
size and time: whoever sends the same file again resumes the last attempt, also after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import filecmp
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from opsin.core.errors import SourceError, StorageError
from opsin.core.files import file_stamp, legal_name
from opsin.core.format import file_size
from opsin.core.platform import NOT_IN_NAMES, sync_all
from opsin.core.storage import storage_errors
from opsin.data.cache_contents import size_of
from opsin.data.formats import NAMED
from opsin.data.image_tree import ImageTree, is_image_name, is_visible
from opsin.data.images import content_of
from opsin.data.sources import archive
from opsin.data.spelling import nfc
from opsin.data.split import TRAIN, part_named
from opsin.studio.datasets.dataset_search import unpack_archive
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

#: The folder, beside that of a source, of images that have no class yet.
TRAY: Final = ".not-sorted"
_MOST_BYTES: Final = 255
_DEEPEST: Final = 32
# Held while a free name is chosen and taken, by one of the uploads that go into one folder.
_PLACING: Final = threading.Lock()

_Names = tuple[str, ...]


class SentFile(TypedDict):
    """The browser's description of an uploaded file."""

    key: str
    name: str
    path: str
    size: int


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
        # Bytes of the files that are here, of all of them, and of all else that the studio keeps,
        # as measured then; keys of files that become a source.
        self._sizes = {file.name: file_stamp(file).size for file in self._folder.glob("*")}
        self._bytes, self._others, self._measured = sum(self._sizes.values()), 0, -_MEASURED_EVERY
        self._finishing = set[str]()
        self._guard = threading.RLock()  # of these, and of the files

    def offset(self, key: str) -> int:
        """The bytes of a file that have arrived; 0 for an unknown one."""
        return file_stamp(self._path(key)).size

    def check(self, key: str, offset: int, more: int) -> None:
        """Refuse bytes that begin elsewhere, or have no room, before they are sent."""
        if offset != self.offset(key):
            raise WrongOffset(f"Byte {self.offset(key):,} is next, not {offset:,}")
        if self._bytes + more > self._most_bytes:
            raise UploadTooLarge(
                f"All uploads together may have {file_size(self._most_bytes)}",
                "Put the photographs into a folder of this machine instead.",
            )
        if self._most_disk and time.monotonic() - self._measured > _MEASURED_EVERY:
            self._measured = time.monotonic()
            self._others = size_of(self._home) - self._bytes
        if self._most_disk and self._others + self._bytes + more > self._most_disk:
            raise UploadTooLarge(
                f"The studio may keep {file_size(self._most_disk)} and has no room for this",
                "Remove projects, and delete what was removed in the settings, or ask its owner.",
            )
        if len(self._sizes) + (key not in self._sizes) > self._most_files:
            raise UploadTooLarge(
                f"At most {self._most_files:,} files may be sent", "Pack them into a zip."
            )

    def append(self, key: str, offset: int, content: bytes) -> int:
        """Append bytes to a file, and return its size."""
        require("viewer")  # whose access may have ended meanwhile
        path = self._path(key)
        with self._guard:
            self.check(key, offset, len(content))
            try:
                with storage_errors(self._folder):
                    self._folder.mkdir(parents=True, exist_ok=True)
                    if shutil.disk_usage(self._folder).free - len(content) < _SPARE:
                        raise OSError(errno.ENOSPC, "too little space is left on the disk")
                    with path.open("ab") as file:
                        file.write(content)
            except StorageError:
                self.drop(key)  # a part of it would occupy the space
                raise
            self._sizes[key] = offset + len(content)
            self._bytes += len(content)
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
        path = self._path(key)
        with self._guard:
            path.unlink(missing_ok=True)
            self._bytes -= self._sizes.pop(key, 0)

    def finish(
        self, files: Sequence[SentFile], into: Path, *, loose: str = "", needs: Role = "labeller"
    ) -> list[Path]:
        """Turn uploads into a source, all or none: see `arrange`; for who has a role."""
        require(needs)
        places = {self._path(file["key"]): file["path"] or file["name"] for file in files}
        keys = {path.name for path in places}
        with self._guard:  # the others go on meanwhile
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
            try:
                moved = arrange(places, into, loose)
            except SourceError:
                for path, name in places.items():
                    if not (path.exists() and (_packed(name) or is_image_name(name))):
                        self.drop(path.name)  # nobody can use it, or it was a bad archive
                raise
            with self._guard:  # as long as it is not measured
                self._others += sum(self._sizes.get(key, 0) for key in keys)
            for key in keys:
                self.drop(key)  # others than images are still here
        finally:
            with self._guard:
                self._finishing -= keys
        return moved

    def sweep(self) -> None:
        """Remove uploads idle for a day."""
        for key in [*self._sizes]:
            path = self._folder / key
            if time.time() - file_stamp(path).mtime_ns / 1e9 > _STALE:
                with self._guard:
                    path.unlink(missing_ok=True)
                    self._bytes -= self._sizes.pop(key, 0)
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


def arrange(files: Mapping[Path, str], into: Path, loose: str = "") -> list[Path]:
    """Move files, by their names with folders, into a source: all of them, or none.

    Folders, also those of archives, become classes. Images without a folder go to the class
    ``loose``, or to the tray, as does a new source's only folder. The new paths are returned.
    """
    packed = {path: name for path, name in files.items() if _packed(name)}
    images = {
        path: names
        for path, name in files.items()
        if path not in packed
        and all(map(is_visible, names := _parts(name)))
        and is_image_name(names[-1])
    }
    if not images and not packed:
        shown = ", ".join(f"{name.rpartition('/')[2]!r:.80}" for name in [*files.values()][:3])
        reason = f"No photographs or archive: {shown} …" if files else "Nothing was sent"
        raise SourceError(reason, f"Send {NAMED}; archives end in .zip or .tar.")
    places = _with_classes(images, loose)
    try:
        for path, name in packed.items():
            places |= _with_classes(_unpacked(path, name.rpartition("/")[2]), loose)
        tops = {top for top, *_ in places.values()}
        if not loose and not into.exists() and len(tops) == 1 and part_named(*tops) is None:
            places = {path: ("..", TRAY, names[-1]) for path, names in places.items()}  # a heap
        if into.exists() and any(part_named(top) == TRAIN for top in tops):
            raise SourceError(
                "These have parts for training and test",
                "Make a project of their own: drop them on the first page.",
            )
        return _place(places, into)
    finally:
        for path in packed:
            shutil.rmtree(archive.unpacked_folder(path), ignore_errors=True)


def _unpacked(path: Path, name: str) -> dict[Path, _Names]:
    try:
        root = unpack_archive(path)
        if any(
            e.is_file() and is_visible(e.name) and not is_image_name(e.name) for e in root.iterdir()
        ):
            raise SourceError(f"{path} holds a table", "Unpack it, and add it: More, Add from.")
    except SourceError as error:
        path.unlink()
        # Users know the archive's name, not its path here.
        raise error.replace(str(path), name) from None
    return {root / name: tuple(name.split("/")) for name in ImageTree(root).images()}


def _with_classes(files: dict[Path, _Names], loose: str) -> dict[Path, _Names]:
    """Each image's place below the folder of the source; that of the tray begins with ``..``."""
    tray = (class_name(loose),) if loose.strip() else ("..", TRAY)
    # Folders around all that are neither a class nor a part are taken off.
    inside, wrapped = [names for names in files.values() if len(names) > 1], 0
    while (
        inside
        and part_named(around := inside[0][wrapped]) is None
        and all(len(names) > wrapped + 2 and names[wrapped] == around for names in inside)
    ):
        wrapped += 1
    return {
        path: (*tray, legal_name(names[0]))
        if len(names) == 1
        else (class_name(names[wrapped]), *map(legal_name, names[wrapped + 1 :]))
        for path, names in files.items()
    }


def _place(places: dict[Path, _Names], into: Path) -> list[Path]:
    """Move images into a source that may be new: all or none."""
    fresh, done = not into.is_dir(), dict[Path, Path]()
    with storage_errors(into):
        into.mkdir(parents=True, exist_ok=True)
        try:
            for path, (*within, name) in places.items():
                folder = into.joinpath(*within)
                if not folder.resolve().is_relative_to(into.parent.resolve()):  # through a link
                    raise SourceError(
                        f"The class {within[0]!r:.80} is a link to another folder",
                        "Choose another class, or put a folder in its place.",
                    )
                folder.mkdir(parents=True, exist_ok=True)
                # Subfolders of a class only keep equal names apart.
                target = folder / name
                with _PLACING:
                    if target.exists() and not filecmp.cmp(path, target, shallow=False):
                        # By content, so that many equal names take linear time.
                        with path.open("rb") as file:
                            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                        target = target.with_name(f"{target.stem}-{digest}{target.suffix}")
                    if not target.exists():
                        done[path] = target
                        shutil.move(path, target)  # to another disk as well
            sync_all()  # once for all files
        except BaseException:
            for path, target in reversed(done.items()):
                with contextlib.suppress(OSError):
                    if path.exists():  # its move failed
                        target.unlink(missing_ok=True)
                    else:
                        shutil.move(target, path)
            if fresh:
                shutil.rmtree(into, ignore_errors=True)
                with contextlib.suppress(OSError):
                    into.parent.rmdir()
            raise
    return [Path(os.path.normpath(target)) for target in done.values()]


def common_name(files: Sequence[SentFile]) -> str:
    """An upload's default name: its archive, or its common folder."""
    around = {file["path"].partition("/")[0] for file in files if "/" in file["path"]}
    if len(around) == 1:
        return around.pop()
    name = files[0]["name"]
    return name[: -len(_packed(name))] if len(files) == 1 and _packed(name) else ""


def file_name(title: str) -> str:
    """A name for a folder or file that is legal everywhere and close to a title."""
    name = legal_name(title).lstrip(". ")
    return name if name and is_visible(name) else "Upload"


def class_name(text: str) -> str:
    """A class's name, valid for a folder."""
    name = nfc(text.strip())  # one folder for a class, from any system
    with contextlib.suppress(UnicodeEncodeError):
        fits = 0 < len(os.fsencode(name)) <= _MOST_BYTES and not set(name) & set(NOT_IN_NAMES)
        if fits and is_visible(name) and name.isprintable():
            return name
    raise SourceError(
        f"{name!r:.80} cannot be a class's name" if name else "The class's name is empty",
        f"Use up to {_MOST_BYTES} bytes of printable characters but {' '.join(NOT_IN_NAMES)}, and "
        "no dot at the beginning.",
    )


def _packed(name: str) -> str:
    known = sorted(archive.SUFFIXES, key=len, reverse=True)
    return next((suffix for suffix in known if name.lower().endswith(suffix)), "")


def _parts(name: str) -> _Names:
    parts = tuple(part for part in re.split(r"[/\\]", name) if part not in ("", "."))
    if ".." in parts or "\0" in name or len(parts) > _DEEPEST or not parts:
        raise SourceError(
            f"{name!r:.120} leads out of the folder that was sent", "Send the folder itself."
        )
    return parts
