"""Kinds of source, their requests, and the rows that each yields, collected into images."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import publish_directory, scratch_directory, write_json
from opsin.core.stored_json import JsonObject
from opsin.data.cache import DigestSet, cache_root
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import LeftOutCounts, holds_images, is_within, left_out_in_words, natural
from opsin.data.sources.contents import (
    Files,
    LabelledImages,
    LocatedSource,
    PackedImages,
    UnpreparedImages,
)
from opsin.data.spelling import nfc, places_among
from opsin.data.split import UNASSIGNED, part_named
from opsin.stores.bucket import StoredObject

#: Share of the free disk space that may be filled.
DISK_SHARE = 0.5
_part_named = functools.lru_cache(256)(part_named)


class AllowedFolder:
    """The folder that a table's paths may not leave."""

    advice: Final = "Where you trust the table, --outside allows it; never in an archive."

    def __init__(self, folder: Path, *, follow_links: bool = False) -> None:
        self._follow_links = follow_links
        self._written, self._real = os.path.abspath(folder), os.path.realpath(folder)  # noqa: PTH100
        self._holds_folder = functools.cache(self._resolves_inside)  # a table repeats few

    def holds(self, written: str, start: Path) -> bool:
        """Tell whether a path from a folder stays inside, with links resolved."""
        path = os.path.join(os.path.abspath(start), written)  # noqa: PTH100, PTH118  as text
        if self._follow_links and is_within(os.path.normpath(path), self._written):
            return True
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or not self._holds_folder(folder):
            return False
        return not os.path.islink(path) or self._resolves_inside(path)  # noqa: PTH114

    def _resolves_inside(self, path: str) -> bool:
        return is_within(os.path.realpath(path), self._real)


@dataclass(frozen=True)
class SourceRequest:
    """A source as the user wrote it, with options of reading."""

    written: str
    columns: Mapping[str, str] | None = None
    follow_links: bool = False
    outside: bool = False
    stdin: BinaryIO | None = None
    archive: AllowedFolder | None = None
    watcher: Watcher = SILENT

    # os.path in these, because it answers for impossible names instead of raising.
    @cached_property
    def path(self) -> Path:
        """Its local path, if it is one."""
        return Path(os.path.expanduser(self.written))  # noqa: PTH111

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return os.path.isdir(self.path)  # noqa: PTH112

    @cached_property
    def holds_images(self) -> bool:
        """Whether it is a folder with an image in it or below."""
        return self.is_folder and holds_images(self.path)

    @cached_property
    def is_file(self) -> bool:
        """Whether it is a file."""
        return os.path.isfile(self.path)  # noqa: PTH113

    def is_file_of(self, *suffixes: str) -> bool:
        """Tell whether it is a file with one of the endings."""
        return self.is_file and self.path.suffix.lower() in suffixes

    def allowed(self, folder: Path, *files: Path) -> AllowedFolder | None:
        """Return the folder where a table may name images, or ``None`` for anywhere.

        The folder's own ``files`` must lie there, too.
        """
        if self.outside and not self.archive:
            return None
        allowed = self.archive or AllowedFolder(folder, follow_links=self.follow_links)
        for file in files:
            if not allowed.holds(str(file.relative_to(folder)), folder):
                raise SourceError(f"{file} leads out of {folder}", allowed.advice)
        return allowed


@dataclass(frozen=True)
class SourceKind:
    """One kind of source. Each module of `opsin.data.sources` lists its kinds in ``KINDS``.

    Args:
        title: Its name in errors and the help, with its article: ``an .npz file``.
        match: Tells whether a source is of this kind.
        locate: Finds its labelled images, reading none; ``None`` if it has no labels.
        iter_unlabelled: Finds its images without labels; ``None`` if that is impossible.
        rank: Kinds of a lower rank are tried first.
        match_packed: Tells whether a file in an archive is of this kind, so that it may be the
            archive's only content; ``None`` if no file is.
        files: Patterns of the names of its files but images, as `fnmatch` has them, in any case;
            those in an archive are unpacked.
    """

    title: str
    match: Callable[[SourceRequest], bool]
    locate: Callable[[SourceRequest], LocatedSource] | None = None
    iter_unlabelled: Callable[[SourceRequest], Stream] | None = None
    rank: int = 0
    match_packed: Callable[[SourceRequest], bool] | None = None
    files: tuple[str, ...] = ()


class Row(NamedTuple):
    """One image of a source; empty text means unknown.

    ``reference`` is a file's path, a file's content, or an object of a store; ``split`` the
    source's own word for a part; ``line`` the table's line that names it; ``place`` its identity,
    by default its name.
    """

    reference: str | Path | bytes | StoredObject
    label: str = ""
    split: str = ""
    group: str = ""
    name: str = ""
    line: int = 0
    place: str = ""


def stream_of_rows(source: str, rows: Iterable[Row]) -> Iterator[ListedImage]:
    """Yield the images of rows without their labels; raise if there are none."""
    number = -1
    for number, row in enumerate(rows):
        image = str(row.reference) if isinstance(row.reference, Path) else row.reference
        yield ListedImage(row.name or str(number), image)
    if number < 0:
        raise SourceError(f"{source} has no rows")


class RowCollector:
    """Collects rows; those without a class, or of an unknown part, are counted in ``passed``."""

    def __init__(self, passed: LeftOutCounts | None = None) -> None:
        self.names: list[str] = []
        self.references: list[Any] = []
        self.passed = passed or LeftOutCounts()
        self._labels, self._parts = array("q"), bytearray()
        self._groups: list[str] = []
        self._numbers: list[str] = []
        self._counts: dict[str, int] = {}
        self._classes: dict[str, tuple[int, str]] = {}
        self._seen = DigestSet()
        self._repeated = 0
        #: Bytes and hash of the contents; their end offsets are the references.
        self.size, self.digest = 0, hashlib.sha256()

    def _is_new(self, *parts: object) -> bool:
        text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
        return self._seen.add(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()))

    def add(self, row: Row, file: BinaryIO | None = None) -> None:
        """Add an image unless it is a repeat; its content is written to ``file``."""
        split, content = row.split.strip().lower(), row.reference
        part = _part_named(split) if split else UNASSIGNED
        if not row.label or part is None:
            kind = f"image in the part {row.split}" if row.label else "image without a class"
            self.passed.add(kind, row.name)
            return
        label, number = nfc(row.label), self._counts.get(split, 0)
        name, identity = f"{split}/{number}" if split else str(number), row.place or row.name
        if isinstance(content, bytes):
            digest = hashlib.sha256(content)
            identity = f"{digest.hexdigest()} {row.name}" if row.name else name
        known = (identity or content, label, part)
        again = not self._is_new(*known)
        if self._is_new(*known, row.group) and again:
            raise SourceError(
                f"{row.name} is in two groups, one of them {row.group or 'none'!r}",
                "Keep one of its rows.",
            )
        if again:
            self._repeated += 1
            return
        if isinstance(content, bytes) and file is not None:
            self.size += file.write(content)
            self.digest.update(digest.digest())
        self.references.append(content if file is None else self.size)
        self.names.append(row.name)
        self._counts[split] = number + 1
        self._numbers.append(name)
        self._labels.append(self._classes.setdefault(label, (len(self._classes), row.label))[0])
        self._parts.append(part)
        self._groups.append(row.group)

    def labelled(
        self, source: str, images: UnpreparedImages, classes: Sequence[str] = ()
    ) -> LabelledImages:
        """Return the images, with classes in the source's order, else in natural order."""
        if not self.references:
            passed = left_out_in_words(self.passed.listed())
            raise SourceError(f"{source} has no images with classes"
                              + (f", but {passed}" if passed else ""))  # fmt: skip
        listed = [name for name in classes if nfc(name) in self._classes]
        rest = sorted(sorted(self._classes.keys() - set(map(nfc, listed))), key=natural)
        order = (*listed, *(self._classes[name][1] for name in rest))
        for name in order[len(listed) :]:
            if not name.isprintable():
                raise SourceError(
                    f"{source}: the class name {name!r} cannot be printed", "Rename the class."
                )
        labels = np.array(places_among(self._classes, order), np.int64)
        unique = all(self.names) and len(set(self.names)) == len(self.names)
        files = isinstance(images, Files | list)
        return LabelledImages(
            source=source,
            classes=order,
            labels=labels[np.frombuffer(self._labels, "q")],
            source_parts=np.frombuffer(bytes(self._parts), np.uint8),
            names=self.names if unique or files else self._numbers,
            images=images,
            groups=self._groups if any(self._groups) else (),
            left_out=self.passed.listed(),
            repeated=self._repeated,
        )


def room_on_disk(folder: Path) -> int:
    """Return how many bytes a source may take there."""
    return int(DISK_SHARE * shutil.disk_usage(folder).free)


def no_room(source: object) -> SourceError:
    """Return the error for a source that is larger than `room_on_disk`."""
    return SourceError(
        f"{source} would fill more than {DISK_SHARE:.0%} of the free disk",
        "Free some space, or set OPSIN_CACHE to a larger disk.",
    )


def collect(
    source: str,
    rows: Iterable[Row],
    *,
    key: str | None = None,
    classes: Callable[[], Sequence[str]] = tuple,
    total: int = 0,
    most: float = math.inf,
    watcher: Watcher = SILENT,
) -> LabelledImages:
    """Collect rows into a source: files stay in place, contents are cached under a key.

    ``classes`` gives the source's own order of the classes, once the rows have been read.
    """
    collector, rows = RowCollector(), iter(rows)
    first = next(rows, None)
    packed = first is not None and isinstance(first.reference, bytes)
    with ExitStack() as stack:
        file, room = None, 0
        if packed:
            scratch = stack.enter_context(scratch_directory(cache_root() / "unpacked"))
            file = stack.enter_context((scratch / "images.bin").open("wb"))
            room = room_on_disk(scratch)
            watcher.begin("Unpack", total, "images")
        for row in itertools.chain([first] if first else [], rows):
            if isinstance(row.reference, bytes) != packed:
                raise SourceError(
                    f"{source} names files and holds contents", "Give them as two sources."
                )
            collector.add(row, file)
            if collector.size > most:
                raise SourceError(f"{source} holds more bytes than any honest table of its size",
                                  "If you trust it, write the images as files first.")  # fmt: skip
            if collector.size > room:
                raise no_room(source)
            if packed and len(collector.references) % 64 == 0:
                watcher.advance(len(collector.references))
        if file is None:
            names = [str(reference) for reference in collector.references]
            return collector.labelled(source, Files(Path(), names), classes())
        watcher.advance(len(collector.references))
        watcher.end()
        file.close()
        key = _keep_packed(source, collector, scratch, key, classes())
    kept = open_packed(source, key)
    if kept is None:
        raise SourceError(f"The cache at {cache_root()} did not keep what was written there",
                          "Set OPSIN_CACHE to another folder.")  # fmt: skip
    return kept


def _keep_packed(
    source: str, collector: RowCollector, scratch: Path, key: str | None, classes: Sequence[str]
) -> str:
    """Publish a scratch folder with its ``images.bin`` in the cache; return its key."""
    ends = np.array(collector.references, np.int64)
    whole = collector.labelled(source, PackedImages(scratch, ends), classes)
    np.savez(scratch / "columns.npz", ends=ends, labels=whole.labels, given=whole.source_parts,
             allow_pickle=False)  # fmt: skip
    about: JsonObject = {
        "classes": list(whole.classes),
        "names": list(whole.names),
        "groups": list(whole.groups),
        "left_out": [entry.model_dump() for entry in whole.left_out],
        "repeated": whole.repeated,
    }
    write_json(scratch / "about.json", about)
    if key is None:
        collector.digest.update(whole.labels.tobytes() + whole.source_parts.tobytes())
        collector.digest.update(repr(about).encode("utf-8", "surrogateescape"))
        key = collector.digest.hexdigest()
    if open_packed(source, key) is None:  # missing or damaged
        shutil.rmtree(_folder_of(key), ignore_errors=True)
    publish_directory(scratch, _folder_of(key))
    return key


def _folder_of(key: str) -> Path:
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_root() / "unpacked" / name


def open_packed(source: str, key: str) -> LabelledImages | None:
    """Return the images that `collect` cached under a key, if any."""
    folder = _folder_of(key)
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        with np.load(folder / "columns.npz", allow_pickle=False) as columns:
            ends, labels, source_parts = columns["ends"], columns["labels"], columns["given"]
        about["classes"] = tuple(about["classes"])
        about["left_out"] = tuple(map(LeftOut.model_validate, about["left_out"]))
        images = PackedImages(folder / "images.bin", ends)
        return LabelledImages(
            source=source, labels=labels, source_parts=source_parts, images=images, **about
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
