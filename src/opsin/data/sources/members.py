"""What archives hold, one member at a time, read forward only."""

from __future__ import annotations

import bz2
import contextlib
import enum
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
from typing import IO, BinaryIO

from opsin.core.errors import SourceError
from opsin.core.events import Watcher
from opsin.data.image_tree import is_visible
from opsin.data.left_out import LeftOutCounts, left_out_in_words

_CHUNK = 1 << 18
#: What an archive may expand to: images compress little, so more is a bomb.
MAX_RATIO, SPARE_BYTES, MAX_MEMBERS = 100, 1_000_000_000, 5_000_000
#: Bytes of one member's headers in a tar: real ones are a few thousand.
_MAX_HEADER = 1 << 22


#: Members that any archive may have, and bytes of the archive for each further one, in general
#: and in a zip, whose list takes about 0.6 kB of memory for each.
_SPARE_MEMBERS = 200_000
_PACKED = 20
_LISTED_BYTES = 300
_LISTED = b"PK\1\2"
# Bytes between the list of a zip and its end record, where that is one of the long kind.
_END_RECORDS = 76

_Plain = BinaryIO | gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File


class Kind(enum.Enum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder, or something else without content"
    LINK = "link"
    SPECIAL = "device or pipe"


@dataclass(frozen=True)
class Member:
    """One entry of an archive; in a tar it can be read until the next is asked for.

    Args:
        name: Its name as packed, folders parted by ``/``.
        kind: What it is.
        open: Opens its content.
        chunk: Bytes to read at once.
        metered: Whether who reads the content must count it; a tar counts by itself.
    """

    name: str
    kind: Kind
    open: Callable[[], IO[bytes]]
    chunk: int = _CHUNK
    metered: bool = False


class ArchiveBudget:
    """Counts what an archive expands to, and refuses it before it is too much.

    Args:
        path: The archive.
        bytes_left: Bytes that it may expand to.
        members_left: Members that it may have.
    """

    def __init__(self, path: Path, *, bytes_left: int, members_left: int) -> None:
        self.path = path
        self.bytes_left = bytes_left
        with reading(path):
            size = path.stat().st_size
        # Even the smallest image takes more bytes than these in an archive.
        self.members_left = min(members_left, max(_SPARE_MEMBERS, size // _PACKED))
        self.listed_left = max(_SPARE_MEMBERS, size // _LISTED_BYTES)
        #: How far the archive's file has been read, for progress.
        self.position = 0

    @classmethod
    def for_images(cls, path: Path) -> ArchiveBudget:
        """Return what an archive of images may expand to: 100 times its size and 1 GB."""
        with reading(path):
            size = path.stat().st_size
        return cls(path, bytes_left=MAX_RATIO * size + SPARE_BYTES, members_left=MAX_MEMBERS)

    def count(self, size: int) -> None:
        """Count expanded bytes.

        Raises:
            SourceError: They are too many.
        """
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise self._too_large("more bytes")

    def count_member(self) -> None:
        """Count a member.

        Raises:
            SourceError: They are too many.
        """
        self.members_left -= 1
        if self.members_left < 0:
            raise self._too_large("more members")

    def check_listed(self, listed: int) -> None:
        """Refuse a list of more members than a file of this size holds, before it is read.

        Raises:
            SourceError: They are too many.
        """
        if listed > self.listed_left:
            raise self._too_large("more members")

    def _too_large(self, what: str) -> SourceError:
        return SourceError(
            "an archive that expands as images do",
            f"{self.path} has {what} than any honest one of its size",
            "If you trust it, unpack it yourself and give the folder.",
        )


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what archive libraries raise over bad bytes into one line.

    Raises:
        SourceError: The archive is damaged, cut short or packed in an unknown way.
    """
    try:
        yield
    except (
        OSError, EOFError, ValueError, ArithmeticError, RuntimeError, MemoryError, LookupError,
        TypeError, struct.error, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        refused = isinstance(error, OSError) and error.errno is not None
        what = "cannot be read" if refused else "is damaged or cut short"
        raise SourceError(
            "a whole archive: .zip, .tar, .tar.gz, .tar.xz or .tar.bz2",
            f"{path} {what} ({str(error) or type(error).__name__})",
            "Fetch or pack it again.",
        ) from error


def members_of(path: Path, meter: ArchiveBudget) -> Generator[Member]:
    """Yield an archive's members, by its content, whatever its name.

    Raises:
        SourceError: It is damaged, encrypted, or has more than the meter allows.
    """
    with reading(path), path.open("rb") as file:
        start = file.read(6)
    return (_from_zip if start[:2] == b"PK" else _from_tar)(path, meter, start)


class ArchiveFiles:
    """The wanted files of an archive, one at a time; what would be written elsewhere refuses it.

    Hidden files and links are passed over.

    Args:
        path: The archive.
        is_wanted: Tells by a file's name, without its folders, whether it is wanted.
    """

    def __init__(self, path: Path, is_wanted: Callable[[str], bool]) -> None:
        self.path = path
        self.budget = ArchiveBudget.for_images(path)
        self._is_wanted = is_wanted
        self._links = 0
        #: What is left out, by kind.
        self.passed = LeftOutCounts()

    def __iter__(self) -> Generator[tuple[tuple[str, ...], Member]]:
        """Yield the parts of each wanted file's name, with the file.

        Raises:
            SourceError: The archive is damaged, encrypted or hostile.
        """
        with contextlib.closing(members_of(self.path, self.budget)) as members:
            for member in members:
                parts = _checked_parts(member, self.path)
                if member.kind is Kind.LINK:
                    self._links += 1
                    self.passed.add("link in the archive", member.name)
                if member.kind is not Kind.FILE or not parts:
                    continue
                if not all(map(is_visible, parts)):
                    self.passed.add("hidden file", "/".join(parts))
                elif self._is_wanted(parts[-1]):
                    yield parts, member
                else:
                    self.passed.add_file("/".join(parts))

    def conclude(self, watcher: Watcher, *, expected: str, found: bool) -> None:
        """Say how many links were passed over, once all files were read.

        Args:
            watcher: Receives the note.
            expected: What the archive should hold, for the error.
            found: Whether any file was of use.

        Raises:
            SourceError: None was.
        """
        if not found:
            passed = left_out_in_words(self.passed.listed())
            raise SourceError(
                expected,
                f"{self.path} holds none" + (f", but {passed}" if passed else ""),
                "Archives within it are not opened: unpack those first.",
            )
        if self._links:
            watcher.note(
                f"Passed over in {self.path}: links, {self._links:,} in all; pack the files "
                "themselves."
            )


def _checked_parts(member: Member, path: Path) -> tuple[str, ...]:
    """Return the parts of a member's name, or refuse what would be written elsewhere.

    Raises:
        SourceError: The name leads out of the archive, or the member is a device or a pipe.
    """
    name = member.name
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if member.kind is Kind.LINK:
        return parts
    outside = re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name)
    if outside or "\0" in name or member.kind is Kind.SPECIAL:
        what = "a device or pipe" if member.kind is Kind.SPECIAL else "a name that leads out of it"
        raise SourceError(
            "an archive of plain files and folders",
            f"{path} has {what}: {name!r:.120}",
            "Do not trust it; ask its maker.",
        )
    return parts


def read_member(member: Member, meter: ArchiveBudget, *, limit: int) -> bytes:
    """Return a member's content, or a little more of it than ``limit`` bytes.

    Raises:
        SourceError: It is damaged, or more than the meter allows.
    """
    pieces, size = list[bytes](), 0
    with reading(meter.path):
        stream = member.open()
    with stream:
        while size <= limit:
            with reading(meter.path):
                piece = stream.read(member.chunk)
            if not piece:
                break
            if member.metered:
                meter.count(len(piece))
            pieces.append(piece)
            size += len(piece)
    return b"".join(pieces)


def _from_zip(path: Path, meter: ArchiveBudget, _: bytes) -> Generator[Member]:
    with reading(path), path.open("rb") as file:
        meter.check_listed(_listed(file))
    with reading(path):
        archive = zipfile.ZipFile(path)
    with archive:
        for info in archive.infolist():
            meter.count_member()
            if info.flag_bits & 0x1:
                raise SourceError(
                    "an archive without a password",
                    f"{path} is encrypted ({info.filename!r:.120})",
                    "Unpack it yourself and give the folder.",
                )
            # Only deflate gives back part of what a block expands to.
            steady = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            yield Member(
                _zip_name(info),
                _zip_kind(info),
                functools.partial(archive.open, info),
                chunk=_CHUNK if steady else 4096,
                metered=True,
            )
            meter.position += info.compress_size


def _listed(file: BinaryIO) -> int:
    """Return how many members a zip lists at most, by the marks in its list and nothing it says."""
    # What `zipfile` itself goes by: with a reading of our own a file could be two things at once.
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if not end:
        return 0
    size, place = end[zipfile._ECD_SIZE], end[zipfile._ECD_LOCATION]  # type: ignore[attr-defined]
    file.seek(max(0, place - size - _END_RECORDS))
    count, last = 0, b""
    while file.tell() < place and (chunk := file.read(min(_CHUNK, place - file.tell()))):
        count += (last + chunk).count(_LISTED)
        last = chunk[1 - len(_LISTED) :]
    return count


def _zip_name(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename  # the other one is cut at a NUL
    if not info.flag_bits & 0x800:
        # Many packers write UTF-8 without saying so; read as the old code page it is garbled.
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _zip_kind(info: zipfile.ZipInfo) -> Kind:
    # Only Unix keeps its kinds of files there.
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if info.orig_filename.endswith("/") or kind == stat.S_IFDIR:
        return Kind.FOLDER
    if kind == stat.S_IFLNK:
        return Kind.LINK
    return Kind.FILE if kind in (0, stat.S_IFREG) else Kind.SPECIAL


def _from_tar(path: Path, meter: ArchiveBudget, start: bytes) -> Generator[Member]:
    with path.open("rb") as packed, reading(path), _expanded(packed, start) as plain:
        stream = _Forward(plain, packed, meter)
        yield from _members_of_tar(stream, meter)
        # What follows the end holds the checksum of the compression.
        while stream.read(_CHUNK):
            pass


def _expanded(packed: BinaryIO, start: bytes) -> _Plain:
    if start[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=packed)
    if start == b"\xfd7zXZ\0":
        return lzma.LZMAFile(packed)
    return bz2.BZ2File(packed) if start[:3] == b"BZh" else packed


def _members_of_tar(stream: _Forward, meter: ArchiveBudget) -> Generator[Member]:
    with stream.reading_headers():
        archive = tarfile.TarFile(fileobj=stream)
    while True:
        with stream.reading_headers():
            info = archive.next()
        if info is None:
            break
        # It would keep every one of them.
        archive.members = []  # type: ignore[attr-defined]
        meter.count_member()
        yield Member(
            info.name,
            _tar_kind(info),
            functools.partial(_open_in_tar, archive, info),
            # Its holes are not in the stream.
            metered=info.issparse(),
        )
    # tarfile takes damaged headers for the end; the true end is a block of zeros.
    if stream.last != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends before its end mark")


def _open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"{info.name!r:.120} has no content")
    return content


def _tar_kind(info: tarfile.TarInfo) -> Kind:
    if info.isreg():
        return Kind.FILE
    if info.issym() or info.islnk():
        return Kind.LINK
    return Kind.SPECIAL if info.isdev() else Kind.FOLDER


class _Forward(io.RawIOBase):
    """A stream that goes forward only, and counts everything that it gives or skips."""

    def __init__(self, plain: _Plain, packed: BinaryIO, meter: ArchiveBudget) -> None:
        self._plain = plain
        self._packed = packed
        self._meter = meter
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
        """Return the next bytes, ``size`` of them where there are as many."""
        if self._headers_left is not None:
            self._headers_left -= size
            if self._headers_left < 0 or size < 0:
                raise tarfile.ReadError("a header is impossibly large")
        self.last = self._take(size)
        return self.last

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        """Skip bytes; there is no way back."""
        if whence != io.SEEK_SET or place < self._at:
            raise tarfile.ReadError("a member's size leads backwards")
        while place > self._at and self._take(min(_CHUNK, place - self._at)):
            pass
        return self._at

    def tell(self) -> int:
        """Return how many bytes lie behind."""
        return self._at

    def _take(self, size: int) -> bytes:
        content = self._plain.read(size)
        self._at += len(content)
        self._meter.count(len(content))
        self._meter.position = self._packed.tell()
        return content
