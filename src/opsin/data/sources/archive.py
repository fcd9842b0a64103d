"""Archives of any other kind of source, unpacked safely into the cache, within a budget."""

from __future__ import annotations

import bz2
import contextlib
import errno
import fnmatch
import functools
import gzip
import json
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple, Self

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import OpsinError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.platform import sync_all
from opsin.core.storage import publish_directory, scratch_directory
from opsin.data import image_tree, sources
from opsin.data.cache import cache_root, index_key
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import LEFT_OUT_FILE, is_image_name, is_visible
from opsin.data.sources import arrays
from opsin.data.sources.contents import LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.folder import folder_stream, note_left_out
from opsin.data.sources.rows import AllowedFolder, SourceKind, SourceRequest, no_room, room_on_disk
from opsin.data.split import TRAIN, part_named

#: File names of archives.
SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
#: Limits of an archive's expansion: images compress little, so more is a bomb.
MAX_RATIO, SPARE_BYTES, MAX_MEMBERS = 100, 1_000_000_000, 5_000_000
# Members that any archive may have, and bytes of the archive for each further one, which even the
# smallest image takes; more in a zip, whose list takes about 0.6 kB of memory per member.
_SPARE_MEMBERS, _PACKED_BYTES, _LISTED_BYTES = 200_000, 100, 300
#: Bytes of one member's headers in a tar: real ones are a few thousand.
_MAX_HEADER = 1 << 22
_CHUNK, _MAX_DEPTH = 1 << 18, 64
_UNPACK: Final = "Unpack it yourself and give the folder."
# Signatures of compressed tars, and their openers.
_OPENERS: Final[dict[bytes, Callable[[IO[bytes]], Any]]] = {
    b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open,
}  # fmt: skip
#: What a member of an archive is.
_Kind = Literal["file", "folder", "link", "special"]
# Of a zip, by the file types of Unix; 0 where none is stated.
_KINDS: Final[dict[int, _Kind]] = {
    0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link",
}  # fmt: skip
# A file of a zip whose bytes are not what was packed: the others may be whole.
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def is_archive(path: Path) -> bool:
    """Tell whether a file is an archive, by its name."""
    return path.name.lower().endswith(SUFFIXES)


class _Member(NamedTuple):
    """One entry of an archive, readable until the next is requested.

    ``position`` is the offset read so far, ``chunk`` the bytes to read at once.
    """

    name: str
    kind: _Kind
    size: int
    open: Callable[[], IO[bytes] | None]
    position: int
    chunk: int = _CHUNK

    def pieces(self, path: Path) -> Iterator[bytes]:
        with _reading(path), self.open() or contextlib.nullcontext() as stream:
            while stream and (piece := stream.read(self.chunk)):
                yield piece


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors of archive libraries over bad bytes into a `SourceError`."""
    try:
        yield
    except OpsinError:
        raise
    except Exception as error:  # these libraries raise nearly everything
        refused = isinstance(error, OSError) and error.errno is not None
        what = "cannot be read" if refused else "is damaged or cut short"
        raise SourceError(
            f"{path} {what} ({str(error) or type(error).__name__})", "Fetch or pack it again."
        ) from error


class _Budget:
    """The bytes and members that an archive of this size may still have."""

    def __init__(self, path: Path, packed: int = _PACKED_BYTES) -> None:
        self.path, size = path, path.stat().st_size
        self.bytes = MAX_RATIO * size + SPARE_BYTES
        self.members = min(MAX_MEMBERS, max(_SPARE_MEMBERS, size // packed))

    def take(self, size: int, members: int = 1) -> None:
        self.bytes -= size
        self.members -= members
        if self.bytes < 0 or self.members < 0:
            what = "bytes" if self.bytes < 0 else "members"
            raise SourceError(
                f"{self.path} has more {what} than any honest one of its size",
                f"If you trust it: {_UNPACK.lower()}",
            )


def _members(path: Path) -> Generator[_Member]:
    """Yield the members of a zip or a tar, by its content, within its budget."""
    with _reading(path), path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if start.startswith(b"PK"):
            yield from _zip_members(file, _Budget(path, _LISTED_BYTES))
        else:
            yield from _tar_members(file, start, _Budget(path))


def _zip_members(file: IO[bytes], budget: _Budget) -> Iterator[_Member]:
    # Too many members for the file's size are refused before they are read into memory, by counting
    # the marks in its directory. Its offset comes from `zipfile` itself: our own parser might
    # disagree with it.
    if end := zipfile._EndRecData(file):  # type: ignore[attr-defined]
        size, location = end[zipfile._ECD_SIZE], end[zipfile._ECD_LOCATION]  # type: ignore[attr-defined]
        file.seek(max(0, location - size - 76))  # the long kind of end record lies between
        listed = file.read(size + 76).count(b"PK\1\2")
        budget.take(0, members=listed)
        budget.members += listed  # each is taken again as it comes
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.flag_bits & 0x1:
                raise SourceError(f"{budget.path} is encrypted ({info.filename!r:.120})", _UNPACK)
            name = info.orig_filename  # filename is cut at a NUL
            if not info.flag_bits & 0x800:
                # Many packers write UTF-8 without the flag.
                with contextlib.suppress(UnicodeError):
                    name = name.encode("cp437").decode("utf-8")
            # Only Unix stores file types there.
            mode = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
            # Other methods return a whole decompressed block.
            steady = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            budget.take(info.file_size)
            yield _Member(
                name.replace("\\", "/"),
                "folder" if name.endswith(("/", "\\")) else _KINDS.get(mode, "special"),
                info.file_size,
                functools.partial(archive.open, info),
                file.tell(),
                _CHUNK if steady else 4096,
            )


def _tar_members(file: IO[bytes], start: bytes, budget: _Budget) -> Iterator[_Member]:
    opener = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), None)
    with opener(file) if opener else contextlib.nullcontext(file) as plain:
        bounded: Any = _Bounded(plain, budget)
        archive = tarfile.open(  # noqa: SIM115  nothing to close beside the file
            fileobj=bounded, mode="r|", tarinfo=_StrictHeader, bufsize=_CHUNK
        )
        while info := archive.next():
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if info.size < 0:
                raise tarfile.ReadError("a member's size leads backwards")
            # What is stored counts as it is read; only a sparse file is larger than that.
            budget.take(info.size if info.issparse() else 0)
            stored = archive.offset - info.offset_data
            bounded.left = max(0, stored) + _MAX_HEADER + _CHUNK
            yield _Member(
                info.name,
                "file"
                if info.isreg()
                else "link"
                if info.issym() or info.islnk()
                else "special"
                if info.isdev()
                else "folder",
                info.size,
                functools.partial(archive.extractfile, info),
                file.tell(),
            )
        # The compression's checksum follows the end.
        while rest := plain.read(_CHUNK):
            budget.take(len(rest), members=0)


class _StrictHeader(tarfile.TarInfo):
    """A header; `tarfile` by itself takes a damaged one for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


class _Bounded:
    """A file that is read within limits: tarfile reads headers whole, of any stated size."""

    def __init__(self, file: IO[bytes], budget: _Budget) -> None:
        self._file, self._budget = file, budget
        #: Bytes up to the end of the next header.
        self.left = _MAX_HEADER + _CHUNK

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise tarfile.ReadError("a header is impossibly large")
        # What it really expands to: headers and skipped members too.
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
    return cache_root() / "unpacked" / index_key(key_of_files(path))[:32]


def _unpack_into(folder: Path, path: Path, watcher: Watcher) -> None:
    others, passed = _names_of_kinds(), image_tree.LeftOutCounts()
    room, written, size = room_on_disk(folder), 0, path.stat().st_size
    watcher.begin("Unpack", size, "B")
    with contextlib.closing(_members(path)) as members:
        for member in members:
            watcher.advance(min(member.position, size))
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            if member.kind == "link":
                passed.add("link in the archive", member.name)
                continue
            outside = re.match(r"[/\\]|[A-Za-z]:", member.name) or "\0" in member.name
            if outside or ".." in re.split(r"[/\\]", member.name) or member.kind == "special":
                pipe = member.kind == "special"
                what = "a device or pipe" if pipe else "a name that leads out of it"
                problem = f"{path} has {what}: {member.name!r:.120}"
                raise SourceError(problem, "Do not trust it; ask its maker.")
            if member.kind != "file" or not parts:
                continue
            name = "/".join(parts)
            if not all(map(is_visible, parts)):
                passed.add("hidden file", name)
            elif not (is_image_name(name) or others.match(parts[-1])):
                passed.add_file(name)
            elif member.size > room:
                raise no_room(path)
            elif problem := _write(member, folder / name, len(parts), path):
                passed.add(problem, name[:100])
            else:
                room -= member.size
                written += 1
    watcher.advance(size)
    watcher.end()
    if not written:
        words = image_tree.left_out_in_words(passed.listed())
        what = f"{path} has no images, tables or arrays" + (f", but {words}" if words else "")
        raise SourceError(what, "Archives within it are not opened: unpack those first.")
    about = [entry.model_dump() for entry in passed.listed()]
    (folder / LEFT_OUT_FILE).write_text(json.dumps(about), encoding="utf-8")


def _write(member: _Member, target: Path, depth: int, path: Path) -> str:
    """Write a new file; return why it is left out, if its name cannot be had."""
    try:
        if depth > _MAX_DEPTH:
            raise OSError(errno.ENAMETOOLONG, "too deep")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.writelines(member.pieces(path))
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        return "file of a name that was taken"
    except SourceError as error:
        if not isinstance(error.__cause__, _DAMAGE):
            raise
        target.unlink()
        return "damaged file"
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return "name that cannot be written"
    return ""


def _names_of_kinds() -> re.Pattern[str]:
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
        a_part = part_named(entries[0].name) == TRAIN and any(entry.is_dir() for entry in inner)
        # A folder with images is a class, not a wrapper.
        a_class = any(e.is_file() and is_image_name(e.name) for e in inner)
        a_source = any(e.is_file() and others.match(e.name) for e in inner)
        if a_part or (a_class and not a_source):
            return folder
        folder = entries[0]


@contextlib.contextmanager
def _unpacked(request: SourceRequest) -> Iterator[tuple[Path, list[LeftOut]]]:
    """Unpack an archive, and name it in errors, not the folder that it was unpacked to."""
    root, folder = unpack(request.path, request.watcher), unpacked_folder(request.path)
    try:
        stored = json.loads((folder / LEFT_OUT_FILE).read_text(encoding="utf-8"))
        yield root, list(map(LeftOut.model_validate, stored))
    except SourceError as error:
        error.replace(str(folder), str(request.path))
        raise


def _locate(request: SourceRequest) -> LocatedSource:
    def read() -> LabelledImages:
        with _unpacked(request) as (root, left_out):
            contents = _locate_unpacked(request, root).open()
        both = image_tree.add_up([left_out, contents.left_out])
        return replace(contents, source=str(request.path), left_out=both)

    return LocatedSource(repr(("archive", key_of_files(request.path), request.columns)), read)


def _locate_unpacked(request: SourceRequest, root: Path) -> LocatedSource:
    allowed = AllowedFolder(root)
    inside = replace(request, written=str(root), follow_links=False, archive=allowed)
    if not arrays.IDX.match(inside):
        packed = [match for kind in sources.kinds() if (match := kind.match_packed)]
        files = (replace(inside, written=str(entry)) for entry in sorted(root.iterdir()))
        single = [file for file in files if any(match(file) for match in packed)]
        if len(single) > 1:
            names = ", ".join(file.path.name for file in single[:5])
            raise SourceError(
                f"{root} has several tables or arrays: {names}", "Unpack it and give one of them."
            )
        if single:
            return sources.locate(single[0])
    return sources.locate(inside)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    def images() -> Iterator[ListedImage]:
        with _unpacked(request) as (_, left_out):
            folder = unpacked_folder(request.path)
            for image in folder_stream(replace(request, written=str(folder), follow_links=False)):
                yield image.with_content()  # now, for its file belongs to the cache
        note_left_out(left_out, request.watcher)

    return Stream(request.written, "archive", images)


KINDS = (
    SourceKind(
        f"an archive ({' '.join(SUFFIXES)})",
        lambda request: request.is_file and is_archive(request.path), _locate, _iter_unlabelled,
    ),
)  # fmt: skip
