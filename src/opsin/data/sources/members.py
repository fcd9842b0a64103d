"""What archives hold, one member at a time, read forward only and within a budget."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

from opsin.core.errors import SourceError
from opsin.data.image_tree import is_visible
from opsin.data.left_out import LeftOutCounts, left_out_in_words

_CHUNK = 1 << 18
#: What an archive may expand to: images compress little, so more is a bomb.
MAX_RATIO, SPARE_BYTES, MAX_MEMBERS = 100, 1_000_000_000, 5_000_000
#: Bytes of one member's headers in a tar: real ones are a few thousand.
_MAX_HEADER = 1 << 22
# Members that any archive may have, and bytes of the archive for each further one: in general,
# and in a zip, whose list takes about 0.6 kB of memory for each.
_SPARE_MEMBERS, _PACKED_BYTES, _LISTED_BYTES = 200_000, 20, 300

_Kind = Literal["file", "folder", "link", "special"]
# How compressed tars begin, and what decompresses them.
_OPENERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open,
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One entry of an archive; in a tar it can be read until the next is asked for.

    ``metered`` members are counted as they are read, others as the archive is.
    """

    name: str
    kind: _Kind
    open: Callable[[], IO[bytes]]
    metered: bool
    chunk: int = _CHUNK


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what archive libraries raise over bad bytes into one line."""
    try:
        yield
    except (
        OSError, EOFError, ValueError, ArithmeticError, RuntimeError, MemoryError, LookupError,
        TypeError, struct.error, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        refused = isinstance(error, OSError) and error.errno is not None
        what = "cannot be read" if refused else "is damaged or cut short"
        raise SourceError(
            "a whole archive: .zip, .tar, .tar.gz, .tar.xz or .tar.bz2",
            f"{path} {what} ({str(error) or type(error).__name__})",
            "Fetch or pack it again.",
        ) from error


class Archive:
    """A zip or a tar, known by its content, that may expand as images do and no further."""

    def __init__(self, path: Path, *, most_bytes: int | None = None) -> None:
        self.path = path
        with reading(path), path.open("rb") as file:
            self.size = path.stat().st_size
            self.start = file.read(6)
        self.bytes_left = MAX_RATIO * self.size + SPARE_BYTES if most_bytes is None else most_bytes
        # Even the smallest image takes more bytes than these in an archive.
        self.members_left = min(MAX_MEMBERS, max(_SPARE_MEMBERS, self.size // _PACKED_BYTES))
        #: How far the file has been read, for progress.
        self.position = 0
        #: What `files` has left out.
        self.passed = LeftOutCounts()

    def files(self, is_wanted: Callable[[str], bool]) -> Generator[tuple[tuple[str, ...], Member]]:
        """Yield each wanted file with the parts of its name; refuse names that lead out."""
        with contextlib.closing(self.members()) as members:
            for member in members:
                parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
                if member.kind == "link":
                    self.passed.add("link in the archive", member.name)
                    continue
                self._check_name(member)
                if member.kind != "file" or not parts:
                    continue
                if not all(map(is_visible, parts)):
                    self.passed.add("hidden file", "/".join(parts))
                elif is_wanted(parts[-1]):
                    yield parts, member
                else:
                    self.passed.add_file("/".join(parts))

    def without(self, expected: str) -> SourceError:
        """Return what is said of an archive in which nothing was of use."""
        passed = left_out_in_words(self.passed.listed())
        return SourceError(
            expected,
            f"{self.path} holds none" + (f", but {passed}" if passed else ""),
            "Archives within it are not opened: unpack those first.",
        )

    def members(self) -> Generator[Member]:
        """Yield all members."""
        yield from self._zip_members() if self.start[:2] == b"PK" else self._tar_members()

    def pieces(self, member: Member) -> Generator[bytes]:
        """Yield a member's content; `SourceError` where it is damaged, or over the budget."""
        with reading(self.path):
            stream = member.open()
        with stream:
            while True:
                with reading(self.path):
                    piece = stream.read(member.chunk)
                if not piece:
                    return
                if member.metered:
                    self.count(len(piece))
                yield piece

    def read(self, member: Member, limit: int) -> bytes:
        """Return a member's content, or a little more of it than ``limit`` bytes."""
        content = bytearray()
        with contextlib.closing(self.pieces(member)) as pieces:
            for piece in pieces:
                content += piece
                if len(content) > limit:
                    break
        return bytes(content)

    def count(self, size: int = 0, members: int = 0) -> None:
        """Count expanded bytes and members; refuse more than an honest archive has."""
        self.bytes_left -= size
        self.members_left -= members
        if self.bytes_left < 0 or self.members_left < 0:
            raise self._bomb("bytes" if self.bytes_left < 0 else "members")

    def _bomb(self, what: str) -> SourceError:
        return SourceError(
            "an archive that expands as images do",
            f"{self.path} has more {what} than any honest one of its size",
            "If you trust it, unpack it yourself and give the folder.",
        )

    def _check_name(self, member: Member) -> None:
        name, special = member.name, member.kind == "special"
        outside = re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name)
        if outside or "\0" in name or special:
            what = "a device or pipe" if special else "a name that leads out of it"
            raise SourceError(
                "an archive of plain files and folders",
                f"{self.path} has {what}: {name!r:.120}",
                "Do not trust it; ask its maker.",
            )

    def _zip_members(self) -> Generator[Member]:
        with reading(self.path), self.path.open("rb") as file:
            # More than a file of this size holds are refused before they are read into memory.
            if _listed_in_zip(file) > max(_SPARE_MEMBERS, self.size // _LISTED_BYTES):
                raise self._bomb("members")
        with reading(self.path):
            archive = zipfile.ZipFile(self.path)
        with archive:
            for info in archive.infolist():
                self.count(members=1)
                if info.flag_bits & 0x1:
                    raise SourceError(
                        "an archive without a password",
                        f"{self.path} is encrypted ({info.filename!r:.120})",
                        "Unpack it yourself and give the folder.",
                    )
                name = info.orig_filename  # the other one is cut at a NUL
                if not info.flag_bits & 0x800:
                    # Many packers write UTF-8 without saying so; read as the old code page it is
                    # garbled.
                    with contextlib.suppress(UnicodeError):
                        name = name.encode("cp437").decode("utf-8")
                # Only deflate gives back part of what a block expands to.
                steady = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                yield Member(
                    name.replace("\\", "/"),
                    _kind_in_zip(info),
                    functools.partial(archive.open, info),
                    metered=True,
                    chunk=_CHUNK if steady else 4096,
                )
                self.position += info.compress_size

    def _tar_members(self) -> Generator[Member]:
        with self.path.open("rb") as packed, reading(self.path):
            openers = [each for magic, each in _OPENERS.items() if self.start.startswith(magic)]
            with openers[0](packed) if openers else packed as plain:
                stream = _Forward(plain, packed, self)
                with stream.reading_headers():
                    archive = tarfile.TarFile(fileobj=stream)
                while True:
                    with stream.reading_headers():
                        info = archive.next()
                    if info is None:
                        break
                    archive.members = []  # type: ignore[attr-defined]  # it would keep every one
                    self.count(members=1)
                    # The holes of a sparse file are not in the stream.
                    open_it = functools.partial(_open_in_tar, archive, info)
                    yield Member(info.name, _kind_in_tar(info), open_it, metered=info.issparse())
                # tarfile takes damaged headers for the end; the true end is a block of zeros.
                if stream.last != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("it ends before its end mark")
                # What follows the end holds the checksum of the compression.
                while stream.read(_CHUNK):
                    pass


def _listed_in_zip(file: BinaryIO) -> int:
    """Return how many members a zip lists at most, by the marks in its list and nothing it says."""
    # What `zipfile` itself goes by: with a reading of our own a file could be two things at once.
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if not end:
        return 0
    size, place = end[zipfile._ECD_SIZE], end[zipfile._ECD_LOCATION]  # type: ignore[attr-defined]
    file.seek(max(0, place - size - 76))  # the long kind of end record lies between
    count, last = 0, b""
    while file.tell() < place and (chunk := file.read(min(_CHUNK, place - file.tell()))):
        count += (last + chunk).count(b"PK\1\2")
        last = chunk[-3:]
    return count


def _kind_in_zip(info: zipfile.ZipInfo) -> _Kind:
    # Only Unix keeps its kinds of files there.
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if info.orig_filename.endswith("/") or kind == stat.S_IFDIR:
        return "folder"
    if kind == stat.S_IFLNK:
        return "link"
    return "file" if kind in (0, stat.S_IFREG) else "special"


def _kind_in_tar(info: tarfile.TarInfo) -> _Kind:
    if info.isreg():
        return "file"
    if info.issym() or info.islnk():
        return "link"
    return "special" if info.isdev() else "folder"


def _open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"{info.name!r:.120} has no content")
    return content


class _Forward(io.RawIOBase):
    """A stream that goes forward only, and counts everything that it gives or skips."""

    def __init__(self, plain: IO[bytes], packed: BinaryIO, archive: Archive) -> None:
        self._plain, self._packed, self._archive = plain, packed, archive
        self._at = 0
        self._headers_left: int | None = None
        #: What was read last, skipped bytes apart.
        self.last = b""

    @contextlib.contextmanager
    def reading_headers(self) -> Iterator[None]:
        """Bound what is read at once: tarfile takes headers whole, of the size they state."""
        self._headers_left = _MAX_HEADER
        yield
        self._headers_left = None

    def read(self, size: int = -1) -> bytes:
        if self._headers_left is not None:
            self._headers_left -= size
            if self._headers_left < 0 or size < 0:
                raise tarfile.ReadError("a header is impossibly large")
        self.last = self._take(size)
        return self.last

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or place < self._at:
            raise tarfile.ReadError("a member's size leads backwards")
        while place > self._at and self._take(min(_CHUNK, place - self._at)):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def _take(self, size: int) -> bytes:
        content = self._plain.read(size)
        self._at += len(content)
        self._archive.count(len(content))
        self._archive.position = self._packed.tell()
        return content
