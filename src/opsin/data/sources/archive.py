"""Archives, unpacked once into the cache, without trust."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import IO

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import publish_directory, scratch_directory
from opsin.data import images
from opsin.data.cache import cache_root
from opsin.data.free_names import free_name
from opsin.data.sources import idx, manifest
from opsin.data.sources.contents import key_of_files
from opsin.data.sources.folder import LITTER, PARTS
from opsin.data.sources.members import ArchiveBudget, Kind, Member, members_of, reading
from opsin.data.split import TRAIN

#: File names of archives.
SUFFIXES = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2",
)  # fmt: skip

#: What an archive may hold: pictures compress little, so more is a bomb.
MAX_RATIO, SPARE_BYTES, MAX_MEMBERS = 100, 1_000_000_000, 5_000_000
#: Share of the free disk that may be filled.
DISK_SHARE = 0.5
_MAX_DEPTH = 64
_MAX_NAME = 255
_CHUNK = 1 << 18
_DATA = re.compile(r"idx[13]|ubyte", re.IGNORECASE)


def is_archive(path: Path) -> bool:
    """Tell by its name whether a file is an archive."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, watcher: Watcher = SILENT) -> Path:
    """Unpack an archive into the cache, or find it there.

    Only what can be a source is written: pictures, tables, ``.npz`` and IDX files. Links are
    passed over. A member that would be written elsewhere refuses the whole archive, and so do
    sizes that only a bomb has; what members say of themselves is not trusted.

    Returns:
        The folder within that holds the source, wrapping folders taken off.

    Raises:
        SourceError: The archive is damaged, encrypted, hostile, too large, or holds no source.
        StorageError: The disk is full or refuses the write.
    """
    kept = cache_root() / "unpacked"
    target = kept / hashlib.sha256(key_of_files(path).encode()).hexdigest()[:32]
    if not target.is_dir():
        with scratch_directory(kept) as scratch:
            _unpack_into(scratch, path, watcher)
            if hasattr(os, "sync"):  # not on Windows
                os.sync()  # once for all, for a tree may have a million files
            publish_directory(scratch, target)
    return _unwrapped(target)


def _unpack_into(folder: Path, path: Path, watcher: Watcher) -> None:
    size = path.stat().st_size
    meter = ArchiveBudget(
        path,
        bytes_left=MAX_RATIO * size + SPARE_BYTES,
        members_left=MAX_MEMBERS,
    )
    room = int(DISK_SHARE * shutil.disk_usage(folder).free)
    written, links, overlong, renamed, shown = 0, 0, 0, 0, 0
    made: set[Path] = set()
    watcher.begin("Unpack", size, "B")
    with contextlib.closing(members_of(path, meter)) as members:
        for member in members:
            links += member.kind is Kind.LINK
            parts = checked_parts(member, path)
            if member.kind is not Kind.FILE or not _matters(parts):
                continue
            if not _is_writable(parts):
                overlong += 1
                continue
            own = _own_name(folder, "/".join(parts), path)
            renamed += own != "/".join(parts)
            target = folder / own
            try:
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                room -= _copy(member, target, meter, path, room)
            except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
                raise SourceError(
                    "an archive whose members have places of their own",
                    f"{path} has {member.name!r} as a file and as a folder",
                    "Unpack it yourself and give the folder.",
                ) from error
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                overlong += 1
                continue
            written += 1
            if meter.position - shown >= _CHUNK:
                shown = meter.position
                watcher.advance(min(shown, size))
    watcher.advance(size)
    watcher.end()
    wanted = "pictures, a table, an .npz or an IDX file in the archive"
    conclude(path, watcher, wanted=wanted, found=written > 0, links=links)
    if renamed:
        watcher.note(
            f"In {path} several images have one name; {renamed:,} of them were given a number"
        )
    if overlong:
        watcher.note(
            f"Passed over in {path}: names that cannot be written, {overlong:,} in all; "
            "shorten them."
        )


def _own_name(folder: Path, name: str, path: Path) -> str:
    """Return a name that no member before had: images get a number, as in a stream of them.

    Raises:
        SourceError: Two tables, or two files of arrays, have one name.
    """

    def is_file(name: str) -> bool:
        return os.path.isfile(folder / name)  # noqa: PTH113

    if is_file(name) and not name.lower().endswith(images.SUFFIXES):
        raise SourceError(
            "an archive that holds each table once",
            f"{path} has two files called {name!r:.120}",
            "Unpack it yourself and give the folder.",
        )
    return free_name(name, is_file)


def conclude(path: Path, watcher: Watcher, *, wanted: str, found: bool, links: int) -> None:
    """Tell of the links that were passed over; refuse an archive without anything else.

    Args:
        path: The archive.
        watcher: Is told.
        wanted: What was looked for in it.
        found: Whether there was any.
        links: How many links there were.

    Raises:
        SourceError: There was nothing else.
    """
    if not found:
        raise SourceError(
            wanted,
            f"{path} holds none" + (f", but {links:,} links" if links else ""),
            "Archives within it are not opened: unpack those first.",
        )
    if links:
        watcher.note(f"Passed over in {path}: links, {links:,} in all; pack the files themselves.")


def checked_parts(member: Member, path: Path) -> tuple[str, ...]:
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
            "Do not trust it; ask whoever made it.",
        )
    return parts


def _matters(parts: tuple[str, ...]) -> bool:
    """Tell whether a file can be part of a source."""
    if not parts or any(part.startswith(".") or part in LITTER for part in parts):
        return False
    suffix = os.path.splitext(parts[-1])[1].lower()  # noqa: PTH122  as folder.py: text, no Path
    return suffix in _WANTED or bool(_DATA.search(parts[-1]))


_WANTED = frozenset({*images.SUFFIXES, *manifest.SUFFIXES, ".npz"})


def _is_writable(parts: tuple[str, ...]) -> bool:
    """Tell whether common file systems take a name."""
    try:
        return len(parts) <= _MAX_DEPTH and all(len(os.fsencode(p)) <= _MAX_NAME for p in parts)
    except UnicodeEncodeError:
        return False


def _copy(member: Member, target: Path, meter: ArchiveBudget, path: Path, room: int) -> int:
    """Write a member's content; return its bytes, counted, not as stated."""
    done = 0
    # Not told apart here: errors of reading are the archive's, those of writing the disk's.
    with reading(path):
        source = member.open()
    with source, target.open("wb") as file:
        while chunk := _next(source, member.chunk, path):
            done += len(chunk)
            if member.metered:
                meter.count(len(chunk))
            if done > room:
                raise SourceError(
                    f"an archive that fills at most {DISK_SHARE:.0%} of the free disk",
                    f"{path} holds more",
                    "Free some space, or set OPSIN_CACHE to a larger disk.",
                )
            file.write(chunk)
    return done


def _next(source: IO[bytes], size: int, path: Path) -> bytes:
    with reading(path):
        return source.read(size)


def _unwrapped(folder: Path) -> Path:
    """Take off folders that only wrap: the only thing in theirs, and no part of a split."""
    while True:
        entries = list(folder.iterdir())
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        inner = list(entries[0].iterdir())
        a_part = PARTS.get(entries[0].name.lower()) == TRAIN and any(
            entry.is_dir() or manifest.is_table(entry) for entry in inner
        )
        # A folder with pictures in it is a class, and not a wrapping.
        a_class = any(e.is_file() and e.suffix.lower() in images.SUFFIXES for e in inner)
        if a_part or (a_class and not any(map(_is_source, inner))):
            return folder
        folder = entries[0]


def _is_source(entry: Path) -> bool:
    return entry.suffix.lower() == ".npz" or manifest.is_table(entry) or idx.is_images(entry)
