"""Kinds of source, their requests, and the rows that each yields, collected into images."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import publish_directory, scratch_directory
from opsin.data.cache import ABOUT, NameSet, cache_root, index_key
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import LeftOutCounts, is_within, left_out_in_words, natural
from opsin.data.images import PackedImage
from opsin.data.sources.contents import LabelledImages, LocatedSource, read_facts, write_facts
from opsin.data.spelling import nfc, places_among
from opsin.data.split import UNASSIGNED, part_named
from opsin.stores.bucket import StoredObject

#: Columns of a table; the first two are required.
COLUMNS: Final = ("path", "label", "split", "group")
#: Share of the free disk space that may be filled.
DISK_SHARE = 0.5


class AllowedFolder:
    """The folder that a table's paths may not leave."""

    advice: Final = "Where you trust the table, --outside allows it; never in an archive."

    def __init__(self, folder: Path, *, follow_links: bool = False) -> None:
        self._follow_links, self._real = follow_links, os.path.realpath(folder)
        self._written = os.path.abspath(folder)  # noqa: PTH100
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
    archive: AllowedFolder | None = None
    #: Whether it is joined to others: a folder without sub-folders is then one more class.
    joined: bool = False
    watcher: Watcher = SILENT

    def __post_init__(self) -> None:
        if unknown := [name for name in self.columns or {} if name not in COLUMNS]:
            problem = f"Columns are {', '.join(COLUMNS)}, not {', '.join(unknown)}"
            raise SourceError(problem, "Write ours=theirs, such as path=file,label=species.")

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
    def is_file(self) -> bool:
        """Whether it is a file."""
        return os.path.isfile(self.path)  # noqa: PTH113

    def is_file_of(self, *suffixes: str) -> bool:
        """Tell whether it is a file with one of the endings."""
        return self.is_file and self.path.suffix.lower() in suffixes

    def allowed(self, folder: Path, *files: Path) -> AllowedFolder | None:
        """Return the folder where its images and ``files`` must lie; ``None`` for anywhere."""
        if self.outside and not self.archive:
            return None
        allowed = self.archive or AllowedFolder(folder, follow_links=self.follow_links)
        for file in files:
            if not allowed.holds(str(file.relative_to(folder)), folder):
                raise SourceError(f"{file} leads out of {folder}", allowed.advice)
        return allowed


@dataclass(frozen=True)
class SourceKind:
    """One kind of source. Each module of `opsin.data.sources` lists its kinds in ``KINDS``."""

    #: Its name in errors and the help, with its article: ``an .npz file``.
    title: str
    match: Callable[[SourceRequest], bool]
    #: Finds its labelled images, reading none; the next its images without labels.
    locate: Callable[[SourceRequest], LocatedSource] | None = None
    iter_unlabelled: Callable[[SourceRequest], Stream] | None = None
    #: Kinds of a lower rank are tried first.
    rank: int = 0
    #: Tells whether a file in an archive is of this kind, and may be the archive's only content.
    match_packed: Callable[[SourceRequest], bool] | None = None
    #: Patterns of the names of its files but images (`fnmatch`), unpacked from archives.
    files: tuple[str, ...] = ()


class Row(NamedTuple):
    """One image of a source; empty text means unknown.

    ``reference`` is a file's path, a file's content, or an object of a store; ``split`` the
    source's own word for a part; ``line`` the table's line that names it; ``place`` its identity,
    by default its name.
    """

    reference: str | bytes | StoredObject
    label: str = ""
    split: str = ""
    group: str = ""
    name: str = ""
    line: int = 0
    place: str = ""


def stream_of_table(
    source: str,
    rows: Callable[[], Iterable[Row]],
    count: Callable[[], int | None] = lambda: None,
) -> Stream:
    """Return the images of a table's rows without their labels."""

    def images() -> Iterator[ListedImage]:
        number = -1
        for number, row in enumerate(rows()):
            yield ListedImage(row.name or str(number), row.reference)
        if number < 0:
            raise SourceError(f"{source} has no rows")

    return Stream(source, "table", images, count)


class _Columns:
    """Collected rows; those without a class, or of an unknown part, are counted in ``passed``."""

    def __init__(self, source: str, passed: LeftOutCounts | None, *, packed: bool) -> None:
        self.references: list[Any] = []
        self._source, self._packed, self._passed = source, packed, passed or LeftOutCounts()
        self._names, self._numbers, self._groups = list[str](), list[str](), list[str]()
        self._labels, self._parts = array("q"), bytearray()
        self._counts, self._classes = Counter[str](), dict[str, tuple[int, str]]()
        self._seen, self._repeated = NameSet(), 0

    def _is_new(self, *parts: object) -> bool:
        return self._seen.add("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"))

    def add(self, row: Row) -> bool:
        """Add an image; tell whether it is new, and of use."""
        split, content = row.split.strip().lower(), row.reference
        if isinstance(content, bytes) != self._packed:
            raise SourceError(
                f"{self._source} names files and holds contents", "Give them as two sources."
            )
        part = part_named(split) if split else UNASSIGNED
        if not row.label or part is None:
            kind = f"image in the part {row.split}" if row.label else "image without a class"
            self._passed.add(kind, row.name)
            return False
        label, number = nfc(row.label), self._counts[split]
        name, identity = f"{split}/{number}" if split else str(number), row.place or row.name
        if isinstance(content, bytes):
            identity = f"{hashlib.sha256(content).hexdigest()} {row.name}" if row.name else name
        known = (identity or content, label, part)
        again = not self._is_new(*known)
        if self._is_new(*known, row.group) and again:
            problem = f"{row.name} is in two groups, one of them {row.group or 'none'!r}"
            raise SourceError(problem, "Keep one of its rows.")
        if again:
            self._repeated += 1
            return False
        self.references.append(content)
        self._names.append(row.name)
        self._counts[split] += 1
        self._numbers.append(name)
        self._labels.append(self._classes.setdefault(label, (len(self._classes), row.label))[0])
        self._parts.append(part)
        self._groups.append(row.group)
        return True

    def labelled(self, classes: Sequence[str]) -> LabelledImages:
        """Return the images, with classes in the source's order, else in natural order."""
        source, passed = self._source, self._passed.listed()
        if not self.references:
            words = left_out_in_words(passed)
            raise SourceError(
                f"{source} has no images with classes" + (f", but {words}" if words else "")
            )
        listed = [name for name in classes if nfc(name) in self._classes]
        rest = sorted(sorted(self._classes.keys() - set(map(nfc, listed))), key=natural)
        order = (*listed, *(self._classes[name][1] for name in rest))
        for name in order[len(listed) :]:
            if not name.isprintable():
                problem = f"{source}: the class name {name!r} cannot be printed"
                raise SourceError(problem, "Rename the class.")
        labels = np.array(places_among(self._classes, order), np.int64)
        unique = all(self._names) and len(set(self._names)) == len(self._names)
        return LabelledImages(
            source,
            order,
            labels[np.frombuffer(self._labels, "q")],
            np.frombuffer(bytes(self._parts), np.uint8),
            self._names if unique or not self._packed else self._numbers,
            self.references,
            self._groups if any(self._groups) else (),
            left_out=passed,
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
    passed: LeftOutCounts | None = None,
    *,
    key: str | None = None,
    classes: Callable[[], Sequence[str]] = tuple,
    total: int = 0,
    most: float = math.inf,
    watcher: Watcher = SILENT,
) -> LabelledImages:
    """Collect rows into a source: files stay in place, contents are cached under a key."""
    rows = iter(rows)
    first = next(rows, None)
    packed = first is not None and isinstance(first.reference, bytes)
    columns = _Columns(source, passed, packed=packed)
    rows = itertools.chain([first] if first else [], rows)
    if not packed:
        for row in rows:
            columns.add(row)
        return columns.labelled(classes())
    with scratch_directory(cache_root() / "unpacked") as scratch:
        room, size = min(most, room_on_disk(scratch)), 0
        watcher.begin("Unpack", total, "images")
        with (scratch / "images.bin").open("wb") as file:
            for row in rows:
                if columns.add(row):
                    size += file.write(row.reference)  # type: ignore[arg-type]
                    columns.references[-1] = size
                if size > room:
                    many = f"{source} holds more bytes than any honest table of its size"
                    advice = "If you trust it, write the images as files first."
                    raise no_room(source) if room < most else SourceError(many, advice)
                if len(columns.references) % 64 == 0:
                    watcher.advance(len(columns.references))
        watcher.advance(len(columns.references))
        watcher.end()
        contents = columns.labelled(classes())
        ends = {"ends": np.array(columns.references, np.int64)}
        write_facts(scratch, contents, arrays=ends)
        if key is None:
            digest = hashlib.sha256(contents.labels.tobytes() + contents.source_parts.tobytes())
            digest.update((scratch / ABOUT).read_bytes())
            with (scratch / "images.bin").open("rb") as packs:
                hashlib.file_digest(packs, lambda: digest)
            key = digest.hexdigest()
        if open_packed(source, key) is None:  # missing or damaged
            shutil.rmtree(_folder_of(key), ignore_errors=True)
        publish_directory(scratch, _folder_of(key))
    kept = open_packed(source, key)
    if kept is None:
        problem = f"The cache at {cache_root()} did not keep what was written there"
        raise SourceError(problem, "Set OPSIN_CACHE to another folder.")
    return kept


def _folder_of(key: str) -> Path:
    return cache_root() / "unpacked" / index_key(key)[:32]


def open_packed(source: str, key: str) -> LabelledImages | None:
    """Return the images that `collect` cached under a key, if any."""
    folder = _folder_of(key)
    try:
        columns = read_facts(folder)
        ends, file = columns.pop("ends").tolist(), str(folder / "images.bin")
        images = [PackedImage(file, *ends) for ends in itertools.pairwise([0, *ends])]
        return LabelledImages(source, images=images, **columns)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
