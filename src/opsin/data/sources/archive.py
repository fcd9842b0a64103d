"""Archives, read without trust: unpacked once into the cache, or one image after the other."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import ImageError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.file_names import free_name
from opsin.core.platform import sync_all
from opsin.core.storage import publish_directory, scratch_directory
from opsin.data import sources
from opsin.data.cache import DigestSet, cache_root
from opsin.data.formats import MAX_BYTES
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import LEFT_OUT_FILE, is_image_name
from opsin.data.left_out import add_up
from opsin.data.sources import arrays, table
from opsin.data.sources.contents import LabelledImages, LocatedSource, digest_of, key_of_files
from opsin.data.sources.folder import note_left_out
from opsin.data.sources.members import Archive, Member
from opsin.data.sources.packed import DISK_SHARE
from opsin.data.sources.source_kind import AllowedFolder, SourceKind, SourceRequest
from opsin.data.split import TRAIN, part_named

#: File names of archives.
SUFFIXES = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2",
)  # fmt: skip
_MAX_DEPTH, _MAX_NAME = 64, 255
_UNPACK = "Unpack it yourself and give the folder."


def is_archive(path: Path) -> bool:
    """Tell by its name whether a file is an archive."""
    return path.name.lower().endswith(SUFFIXES)


def images_in_archive(path: Path, watcher: Watcher = SILENT) -> Iterator[ListedImage]:
    """Yield each image in an archive with its content, in the archive's order."""
    archive = Archive(path)
    names, renamed = DigestSet(), 0
    with contextlib.closing(archive.files(is_image_name)) as files:
        for parts, member in files:
            name = "/".join(parts)
            own = free_name(name, lambda name: digest_of(name) in names)
            names.add(digest_of(own))
            renamed += own != name
            yield _unlabelled(own, member, archive)
    if not len(names):
        raise archive.without("an archive with images")
    note_left_out(archive.passed.listed(), watcher)
    _note_renamed(renamed, path, watcher)


def _note_renamed(renamed: int, path: Path, watcher: Watcher) -> None:
    if renamed:
        watcher.note(
            f"In {path} several images have one name; {renamed:,} of them were given a number"
        )


def _unlabelled(name: str, member: Member, archive: Archive) -> ListedImage:
    try:
        content = archive.read(member, MAX_BYTES)
    except SourceError as error:
        # The members of a zip, which are metered, stand each for itself. What is refused for its
        # size has no cause but the budget.
        if not member.metered or error.__cause__ is None:
            raise
        reason = str(error.__cause__) or type(error.__cause__).__name__
        problem = ImageError(
            "a readable image",
            f"{name}: damaged in the archive ({reason})",
            "Pack it again, or leave it out.",
        )
        return ListedImage(name, b"", problem=problem)
    if len(content) > MAX_BYTES:
        megabytes = MAX_BYTES // 1_000_000
        problem = ImageError(
            f"an image file of at most {megabytes} MB",
            f"{name} is larger",
            "Make it smaller first.",
        )
        return ListedImage(name, b"", problem=problem)
    return ListedImage(name, content)


def _count_images(path: Path) -> int | None:
    """Return how many images a zip lists; ``None`` for a tar, which has no list."""
    with contextlib.suppress(SourceError):
        archive = Archive(path)
        if archive.start[:2] == b"PK":
            return sum(1 for _ in archive.files(is_image_name))
    return None


def unpack(path: Path, watcher: Watcher = SILENT) -> Path:
    """Unpack an archive into the cache, or find it there; return the folder of the source."""
    target = _unpacked(path)
    if not target.is_dir():
        with scratch_directory(target.parent) as scratch:
            _unpack_into(scratch, path, watcher)
            sync_all()  # once for all, for a tree may have a million files
            publish_directory(scratch, target)
    return _unwrapped(target)


def _unpacked(path: Path) -> Path:
    name = hashlib.sha256(key_of_files(path).encode()).hexdigest()[:32]
    return cache_root() / "unpacked" / name


def _unpack_into(folder: Path, path: Path, watcher: Watcher) -> None:
    archive, others = Archive(path), _names_of_kinds()
    room = int(DISK_SHARE * shutil.disk_usage(folder).free)
    written, renamed = 0, 0
    watcher.begin("Unpack", archive.size, "B")
    wanted = archive.files(lambda name: is_image_name(name) or bool(others.match(name)))
    with contextlib.closing(wanted) as files:
        for parts, member in files:
            name = "/".join(parts)
            try:
                own = _name_in(folder, parts, path)
                renamed += own != name
                room -= _copy(member, folder / own, archive, room)
                written += 1
            except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
                raise SourceError(
                    "an archive whose members have places of their own",
                    f"{path} has {member.name!r} as a file and as a folder",
                    _UNPACK,
                ) from error
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                archive.passed.add("name that cannot be written", name[:100])
            watcher.advance(min(archive.position, archive.size))
    watcher.advance(archive.size)
    watcher.end()
    if not written:
        raise archive.without("images, a table, an .npz or an IDX file in the archive")
    passed = [each.model_dump() for each in archive.passed.listed()]
    (folder / LEFT_OUT_FILE).write_text(json.dumps(passed), encoding="utf-8")
    _note_renamed(renamed, path, watcher)


def _name_in(folder: Path, parts: tuple[str, ...], path: Path) -> str:
    """Return a name that no member before had: images get a number, as in a stream of them."""
    if len(parts) > _MAX_DEPTH or any(len(os.fsencode(part)) > _MAX_NAME for part in parts):
        raise OSError(errno.ENAMETOOLONG, "common file systems take no such name")

    def is_file(name: str) -> bool:
        return os.path.isfile(folder / name)  # noqa: PTH113

    name = "/".join(parts)
    if is_file(name) and not is_image_name(name):
        raise SourceError(
            "an archive that holds each table once",
            f"{path} has two files called {name!r:.120}",
            _UNPACK,
        )
    return free_name(name, is_file)


def _copy(member: Member, target: Path, archive: Archive, room: int) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with target.open("wb") as file:
        for piece in archive.pieces(member):
            done += len(piece)
            if done > room:
                raise SourceError(
                    f"an archive that fills at most {DISK_SHARE:.0%} of the free disk",
                    f"{archive.path} holds more",
                    "Free some space, or set OPSIN_CACHE to a larger disk.",
                )
            file.write(piece)
    return done


def _names_of_kinds() -> re.Pattern[str]:
    """Return a pattern of the names of files that belong to some kind of source, images aside."""
    patterns = (fnmatch.translate(each) for kind in sources.kinds() for each in kind.files)
    return re.compile("|".join(patterns), re.IGNORECASE)


def _unwrapped(folder: Path) -> Path:
    """Take off folders that only wrap: the only thing in theirs, and no part of a split."""
    others = _names_of_kinds()
    while True:
        entries = [entry for entry in folder.iterdir() if entry.name != LEFT_OUT_FILE]
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        inner = list(entries[0].iterdir())
        a_part = part_named(entries[0].name) == TRAIN and any(
            entry.is_dir() or table.is_table(entry) for entry in inner
        )
        # A folder with images in it is a class, and not a wrapping.
        a_class = any(e.is_file() and is_image_name(e.name) for e in inner)
        a_source = any(e.is_file() and others.match(e.name) for e in inner)
        if a_part or (a_class and not a_source):
            return folder
        folder = entries[0]


def _locate(request: SourceRequest) -> LocatedSource:
    key = repr(("archive", key_of_files(request.path), request.columns))
    return LocatedSource(key, lambda: _open_unpacked(request))


def _open_unpacked(request: SourceRequest) -> LabelledImages:
    unpacked = unpack(request.path, request.watcher)
    try:
        contents = _locate_unpacked(request, unpacked).open()
    except SourceError as error:
        # The user knows the archive, and not where it was unpacked.
        parts = (error.expected, error.received, error.advice)
        raise type(error)(
            *(text.replace(str(unpacked), str(request.path)) for text in parts)
        ) from error
    stored = json.loads((_unpacked(request.path) / LEFT_OUT_FILE).read_text(encoding="utf-8"))
    passed = [LeftOut.model_validate(each) for each in stored]
    return replace(contents, source=str(request.path), left_out=add_up([passed, contents.left_out]))


def _locate_unpacked(request: SourceRequest, root: Path) -> LocatedSource:
    allowed = AllowedFolder(root, archive=True)
    inside = replace(request, written=str(root), follow_links=False, archive=allowed)
    if not (arrays.IDX.match(inside) or table.IMAGEFOLDER.match(inside)):
        packed = [match for kind in sources.kinds() if (match := kind.match_packed)]
        files = (replace(inside, written=str(entry)) for entry in sorted(root.iterdir()))
        single = [file for file in files if any(match(file) for match in packed)]
        if len(single) > 1:
            raise SourceError(
                f"one table, .npz or IDX file of images in {root}",
                f"it holds {', '.join(file.path.name for file in single[:5])}",
                "Unpack it and give one of them.",
            )
        if single:
            return sources.locate(single[0])
    return sources.locate(inside)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    path, watcher = request.path, request.watcher
    return Stream(
        request.written,
        "archive",
        lambda: images_in_archive(path, watcher),
        lambda: _count_images(path),
    )


KINDS = (
    SourceKind(
        title=f"an archive ({' '.join(SUFFIXES)})",
        match=lambda request: request.is_file and is_archive(request.path),
        locate=_locate,
        iter_unlabelled=_iter_unlabelled,
    ),
)
