"""Safe unpacking of archives into the cache, within a budget."""

from __future__ import annotations

import bz2
import contextlib
import errno
import fnmatch
import functools
import gzip
import hashlib
import itertools
import json
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.platform import sync_all
from opsin.core.storage import publish_directory, scratch_directory
from opsin.data import sources
from opsin.data.cache import cache_root
from opsin.data.image_tree import LEFT_OUT_FILE, is_image_name, is_visible
from opsin.data.left_out import LeftOutCounts, left_out_in_words
from opsin.data.sources import table
from opsin.data.sources.contents import key_of_files
from opsin.data.sources.rows import DISK_SHARE
from opsin.data.split import TRAIN, part_named

#: File names of archives.
SUFFIXES = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2",
)  # fmt: skip
#: Limits of an archive's expansion: images compress little, so more is a bomb.
MAX_RATIO, SPARE_BYTES, MAX_MEMBERS = 100, 1_000_000_000, 5_000_000
# Members that any archive may have, and bytes of the archive for each further one: in general,
# and in a zip, whose list takes about 0.6 kB of memory per member.
_SPARE_MEMBERS, _PACKED_BYTES, _LISTED_BYTES = 200_000, 20, 300
#: Bytes of one member's headers in a tar: real ones are a few thousand.
_MAX_HEADER = 1 << 22
_CHUNK = 1 << 18
_MAX_DEPTH, _MAX_NAME = 64, 255
_UNPACK = "Unpack it yourself and give the folder."
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
# Signatures of compressed tars, and their openers.
_OPENERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open,
}  # fmt: skip


def is_archive(path: Path) -> bool:
    """Tell whether a file is an archive, by its name."""
    return path.name.lower().endswith(SUFFIXES)


class _Member(NamedTuple):
    """One entry of an archive; in a tar it is readable until the next is requested.

    ``position`` is the offset read so far, ``chunk`` the bytes to read at once.
    """

    name: str
    kind: Literal["file", "folder", "link", "special"]
    size: int
    open: Callable[[], IO[bytes] | None]
    position: int
    chunk: int = _CHUNK


class _DamagedMember(Exception):  # noqa: N818
    """A file of a zip whose bytes are not what was packed; the others may be whole."""


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors of archive libraries over bad bytes into a `SourceError`."""
    try:
        yield
    except (
        OSError, EOFError, ValueError, ArithmeticError, RuntimeError, MemoryError, LookupError,
        TypeError, struct.error, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        refused = isinstance(error, OSError) and error.errno is not None
        what = "cannot be read" if refused else "is damaged or cut short"
        raise SourceError(
            f"{path} {what} ({str(error) or type(error).__name__})", "Fetch or pack it again."
        ) from error


class _Budget:
    """The bytes and members that an archive of this size may still have."""

    def __init__(self, path: Path) -> None:
        self.path, size = path, path.stat().st_size
        self.bytes = MAX_RATIO * size + SPARE_BYTES
        # Even the smallest image takes more bytes in an archive.
        self.members = min(MAX_MEMBERS, max(_SPARE_MEMBERS, size // _PACKED_BYTES))

    def take(self, size: int, members: int = 1) -> None:
        self.bytes -= size
        self.members -= members
        if self.bytes < 0 or self.members < 0:
            what = "bytes" if self.bytes < 0 else "members"
            raise SourceError(f"{self.path} has more {what} than any honest one of its size",
                              f"If you trust it: {_UNPACK.lower()}")  # fmt: skip


def _members(path: Path) -> Generator[_Member]:
    """Yield the members of a zip or a tar, by its content, within its budget."""
    with _reading(path):
        budget = _Budget(path)
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        listed = _zip_members(path, budget) if zipped else _tar_members(path, budget)
    with contextlib.closing(listed):
        while True:
            with _reading(path):
                member = next(listed, None)
            if member is None:
                return
            yield member


def _zip_members(path: Path, budget: _Budget) -> Generator[_Member]:
    # Too many members for the file's size are refused before they are read into memory, by counting
    # the marks in its directory. Its offset comes from `zipfile` itself: our own parser might
    # disagree with it.
    with path.open("rb") as file:
        if end := zipfile._EndRecData(file):  # type: ignore[attr-defined]
            size, location = end[zipfile._ECD_SIZE], end[zipfile._ECD_LOCATION]  # type: ignore[attr-defined]
            file.seek(max(0, location - size - 76))  # the long kind of end record lies between
            listed = file.read(size + 76).count(b"PK\1\2")
            if listed > max(_SPARE_MEMBERS, path.stat().st_size // _LISTED_BYTES):
                budget.take(0, members=budget.members + 1)
    position = 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 0x1:
                raise SourceError(f"{path} is encrypted ({info.filename!r:.120})", _UNPACK)
            name = info.orig_filename  # filename is cut at a NUL
            if not info.flag_bits & 0x800:
                # Many packers write UTF-8 without the flag.
                with contextlib.suppress(UnicodeError):
                    name = name.encode("cp437").decode("utf-8")
            # Only Unix stores file types there.
            mode = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
            kind: Literal["file", "folder", "link", "special"] = (
                "folder" if name.endswith(("/", "\\")) or mode == stat.S_IFDIR
                else "link" if mode == stat.S_IFLNK
                else "file" if mode in (0, stat.S_IFREG) else "special"
            )  # fmt: skip
            # Other methods return a whole decompressed block.
            steady = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            position += info.compress_size
            budget.take(info.file_size)
            yield _Member(
                name.replace("\\", "/"), kind, info.file_size,
                functools.partial(archive.open, info), position, _CHUNK if steady else 4096,
            )  # fmt: skip


def _tar_members(path: Path, budget: _Budget) -> Generator[_Member]:
    with path.open("rb") as packed:
        start = packed.read(6)
        packed.seek(0)
        opener = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), None)
        with opener(packed) if opener else packed as plain:
            stream: Any = _Bounded(plain, budget)
            archive = tarfile.TarFile(fileobj=stream)
            while True:
                stream.left = _MAX_HEADER
                info = archive.next()
                if info is None:
                    break
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                if info.size < 0:
                    raise tarfile.ReadError("a member's size leads backwards")
                # What is stored counts as it is read; only a sparse file is larger than that.
                budget.take(info.size if info.issparse() else 0)
                stream.left = info.size + _CHUNK
                kind: Literal["file", "folder", "link", "special"] = (
                    "file" if info.isreg() else "link" if info.issym() or info.islnk()
                    else "special" if info.isdev() else "folder"
                )  # fmt: skip
                opened = functools.partial(archive.extractfile, info)
                yield _Member(info.name, kind, info.size, opened, packed.tell())
            # tarfile mistakes damaged headers for the end; the true end is a block of zeros.
            if stream.last != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends before its end mark")
            # The compression's checksum follows the end.
            while rest := plain.read(_CHUNK):
                budget.take(len(rest), members=0)


class _Bounded:
    """A file with a read limit: tarfile reads headers whole, of any stated size."""

    def __init__(self, file: IO[bytes], budget: _Budget) -> None:
        self.left = _MAX_HEADER
        #: The bytes read last.
        self.last = b""
        self._file, self._budget, self._position = file, budget, 0

    def read(self, size: int = -1) -> bytes:
        self.left -= size
        if size < 0 or self.left < 0:
            raise tarfile.ReadError("a header is impossibly large")
        self.last = self._take(size)
        return self.last

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.ReadError("a member's size leads backwards")
        while position > self._position and self._take(min(_CHUNK, position - self._position)):
            pass
        return self._position

    def tell(self) -> int:
        return self._position

    def _take(self, size: int) -> bytes:
        content = self._file.read(size)
        self._position += len(content)
        # What it really expands to: headers, sparse files and skipped members too.
        self._budget.take(len(content), members=0)
        return content


def unpack(path: Path, watcher: Watcher = SILENT) -> Path:
    """Unpack an archive into the cache, unless it is there; return the folder of the source."""
    target = unpacked_folder(path)
    if not target.is_dir():
        with scratch_directory(target.parent) as scratch:
            _unpack_into(scratch, path, watcher)
            sync_all()  # once for all, for a tree may have a million files
            publish_directory(scratch, target)
    return _unwrapped(target)


def unpacked_folder(path: Path) -> Path:
    """Return the cache folder of an archive."""
    name = hashlib.sha256(key_of_files(path).encode()).hexdigest()[:32]
    return cache_root() / "unpacked" / name


def _unpack_into(folder: Path, path: Path, watcher: Watcher) -> None:
    others, passed = _names_of_kinds(), LeftOutCounts()
    room, written = int(DISK_SHARE * shutil.disk_usage(folder).free), 0
    with contextlib.closing(_members(path)) as members:
        first = next(members, None)
        size = path.stat().st_size
        watcher.begin("Unpack", size, "B")
        for member in itertools.chain([first] if first else [], members):
            watcher.advance(min(member.position, size))
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            if member.kind == "link":
                passed.add("link in the archive", member.name)
                continue
            _check_name(member, path)
            if member.kind != "file" or not parts:
                continue
            name = "/".join(parts)
            if not all(map(is_visible, parts)):
                passed.add("hidden file", name)
            elif not (is_image_name(name) or others.match(parts[-1])):
                passed.add_file(name)
            elif len(parts) > _MAX_DEPTH or any(len(os.fsencode(p)) > _MAX_NAME for p in parts):
                passed.add("name that cannot be written", name[:100])
            else:
                try:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    with (folder / name).open("xb") as file:
                        room -= _copy(member, file, path, room)
                    written += 1
                except (FileExistsError, IsADirectoryError, NotADirectoryError):
                    passed.add("file of a name that was taken", name)
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    passed.add("name that cannot be written", name[:100])
                except _DamagedMember:
                    (folder / name).unlink()
                    passed.add("damaged file", name)
    watcher.advance(size)
    watcher.end()
    if not written:
        words = left_out_in_words(passed.listed())
        raise SourceError(
            f"{path} has no images, tables or arrays" + (f", but {words}" if words else ""),
            "Archives within it are not opened: unpack those first.",
        )
    about = [entry.model_dump() for entry in passed.listed()]
    (folder / LEFT_OUT_FILE).write_text(json.dumps(about), encoding="utf-8")


def _check_name(member: _Member, path: Path) -> None:
    """Refuse devices, and names that lead out of the archive."""
    outside = re.match(r"[/\\]|[A-Za-z]:", member.name) or ".." in re.split(r"[/\\]", member.name)
    if outside or "\0" in member.name or member.kind == "special":
        what = "a device or pipe" if member.kind == "special" else "a name that leads out of it"
        raise SourceError(
            f"{path} has {what}: {member.name!r:.120}", "Do not trust it; ask its maker."
        )


def _copy(member: _Member, target: IO[bytes], path: Path, room: int) -> int:
    if member.size > room:
        raise SourceError(
            f"{path} would fill more than {DISK_SHARE:.0%} of the free disk",
            "Free some space, or set OPSIN_CACHE to a larger disk.",
        )
    with _reading(path):
        stream = member.open()
    with contextlib.closing(stream) if stream else contextlib.nullcontext():
        while True:
            try:
                with _reading(path):
                    piece = stream.read(member.chunk) if stream else b""
            except SourceError as error:
                if isinstance(error.__cause__, _DAMAGE):
                    raise _DamagedMember from error
                raise
            if not piece:
                return member.size
            target.write(piece)


def _names_of_kinds() -> re.Pattern[str]:
    """Return a pattern of the file names of all kinds of source, except images."""
    patterns = (fnmatch.translate(pattern) for kind in sources.kinds() for pattern in kind.files)
    return re.compile("|".join(patterns), re.IGNORECASE)


def _unwrapped(folder: Path) -> Path:
    """Descend through wrapper folders: the only entry of theirs, and no part of a split."""
    others = _names_of_kinds()
    while True:
        entries = [entry for entry in folder.iterdir() if entry.name != LEFT_OUT_FILE]
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        inner = list(entries[0].iterdir())
        a_part = part_named(entries[0].name) == TRAIN and any(
            entry.is_dir() or table.is_table(entry) for entry in inner
        )
        # A folder with images is a class, not a wrapper.
        a_class = any(e.is_file() and is_image_name(e.name) for e in inner)
        a_source = any(e.is_file() and others.match(e.name) for e in inner)
        if a_part or (a_class and not a_source):
            return folder
        folder = entries[0]
