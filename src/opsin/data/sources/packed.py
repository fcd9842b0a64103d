"""Images that a source holds among other things, kept behind each other in a file of the cache."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.dataset_record import LeftOut
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import publish_directory, scratch_directory, write_json
from opsin.core.stored_json import JsonObject
from opsin.data.cache import cache_root
from opsin.data.left_out import LeftOutCounts, left_out_in_words
from opsin.data.sources.archive import DISK_SHARE
from opsin.data.sources.contents import Files, LabelColumns, LabelledImages, PackedImages
from opsin.data.sources.folder import order_classes
from opsin.data.spelling import nfc
from opsin.data.split import UNASSIGNED, part_named

# Images between two words on how far it is.
_STEP: Final = 64


class Record(NamedTuple):
    """An image and what its source says of it.

    Args:
        image: The content of its file, or where the file is.
        label: Its class; empty where it has none.
        split: Its part, in the words of tables; empty for none.
        group: What it shares with others of one side of the split; empty for none.
        name: What it is called; empty where it has a number only.
    """

    image: bytes | Path
    label: str
    split: str = ""
    group: str = ""
    name: str = ""


def labelled_records(
    source: str,
    records: Iterable[Record],
    *,
    key: str | None = None,
    classes: Sequence[str] | None = None,
    total: int = 0,
    most: float = math.inf,
    watcher: Watcher = SILENT,
) -> LabelledImages:
    """Take records as a source: files stay where they are, contents go into the cache.

    Images without a class are passed over, and so are those of parts that Opsin does not know.

    Args:
        source: What the user called it.
        records: The images, read once.
        key: Names what is kept for the next time (default: its content).
        classes: The classes in their order, where the source has one (default: natural order).
        total: How many records there will be, for progress; 0 where nothing tells.
        most: Bytes that the contents may come to.
        watcher: Receives the progress and a note on what was passed over.

    Raises:
        SourceError: There are none, some are files and some are not, or they fill the disk.
        StorageError: The disk refuses the write.
    """
    gathered = _Gathered(source, classes)
    stream = iter(gathered.usable(records))
    first = next(stream, None)
    if first is None:
        passed = left_out_in_words(gathered.passed.listed())
        but = f", but {passed}" if passed else ""
        raise SourceError(
            "images with classes", f"{source} holds none{but}", "Is it the right source?"
        )
    both = itertools.chain([first], stream)
    if isinstance(first.image, Path):
        names = [str(_file_of(record, source)) for record in both]
        return gathered.labelled(Files(Path(), names))
    return _pack(gathered, both, key, total=total, most=most, watcher=watcher)


def open_packed(source: str, key: str) -> LabelledImages | None:
    """Return what `labelled_records` has kept by a key; ``None`` where it is not there."""
    folder = _folder_of(key)
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        with np.load(folder / "columns.npz", allow_pickle=False) as columns:
            ends, labels, given = columns["ends"], columns["labels"], columns["given"]
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        return LabelledImages(
            source=source,
            classes=tuple(about["classes"]),
            labels=labels,
            given=given,
            names=about["names"],
            images=PackedImages(folder / "images.bin", starts, ends - starts),
            groups=about["groups"],
            left_out=tuple(LeftOut.model_validate(each) for each in about.get("left_out", ())),
            repeated=about["repeated"],
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


class _Gathered:
    """Counts what is passed over, and gathers what is said of the rest."""

    def __init__(self, source: str, classes: Sequence[str] | None) -> None:
        self.source = source
        self.columns = LabelColumns()
        self._classes = classes
        self._names: list[str] = []
        self.passed = LeftOutCounts()

    def usable(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records that have a class, in a part that is known."""
        counts: dict[str, int] = {}
        for record in records:
            split = record.split.strip().lower()
            if not record.label:
                self.passed.add("image without a class", record.name)
            elif (code := part_named(split) if split else UNASSIGNED) is None:
                self.passed.add(f"image in the part {record.split}", record.name)
            else:
                number = counts.get(split, 0)
                own = f"{split}/{number}" if split else str(number)
                place = _reference(record)
                if self.columns.add(own, record.label, code, record.group, place=place):
                    counts[split] = number + 1
                    self._names.append(record.name)
                    yield record

    def labelled(self, images: Files | PackedImages) -> LabelledImages:
        """Return the images; their own names stand, where each has one of its own."""
        if len(set(self._names)) == len(self._names) and all(self._names):
            self.columns.names = self._names
        found = order_classes(self.columns.classes, Path(self.source))
        there = {nfc(name) for name in found}
        listed = [name for name in self._classes or () if nfc(name) in there]
        known = {nfc(name) for name in listed}
        rest = [name for name in found if nfc(name) not in known]
        whole = self.columns.labelled(self.source, images, [*listed, *rest])
        return replace(whole, left_out=self.passed.listed())


def _reference(record: Record) -> str | None:
    """Return what tells an image from others; ``None`` for contents without a name."""
    if isinstance(record.image, Path):
        return str(record.image)
    return f"{hashlib.sha256(record.image).hexdigest()} {record.name}" if record.name else None


def _file_of(record: Record, source: str) -> Path:
    if isinstance(record.image, Path):
        return record.image
    raise _mixed(source)


def _content_of(record: Record, source: str) -> bytes:
    if isinstance(record.image, bytes):
        return record.image
    raise _mixed(source)


def _mixed(source: str) -> SourceError:
    return SourceError(
        "images that are all files, or none of them",
        f"{source} names files and holds contents",
        "Give them as two sources.",
    )


def _folder_of(key: str) -> Path:
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_root() / "unpacked" / name


def _write_contents(
    gathered: _Gathered,
    records: Iterable[Record],
    target: Path,
    *,
    most: float,
    watcher: Watcher,
) -> tuple[NDArray[np.int64], bytes]:
    """Write the images behind each other; return where each ends, and their digest."""
    room = int(DISK_SHARE * shutil.disk_usage(target.parent).free)
    ends: list[int] = []
    whole, position = hashlib.sha256(), 0
    with target.open("wb") as file:
        for record in records:
            content = _content_of(record, gathered.source)
            position += len(content)
            if position > most:
                raise SourceError(
                    "a table that expands as images do",
                    f"{gathered.source} holds more bytes than any honest one of its size",
                    "If you trust it, write the images as files first.",
                )
            if position > room:
                raise SourceError(
                    f"images that fill at most {DISK_SHARE:.0%} of the free disk",
                    f"{gathered.source} holds more",
                    "Free some space, or set OPSIN_CACHE to a larger disk.",
                )
            file.write(content)
            whole.update(hashlib.sha256(content).digest())
            ends.append(position)
            if len(ends) % _STEP == 0:
                watcher.advance(len(ends))
    watcher.advance(len(ends))
    return np.array(ends, np.int64), whole.digest()


def _pack(
    gathered: _Gathered,
    records: Iterable[Record],
    key: str | None,
    *,
    total: int,
    most: float,
    watcher: Watcher,
) -> LabelledImages:
    """Write the images into the cache, and what is said of them beside."""
    with scratch_directory(cache_root() / "unpacked") as scratch:
        watcher.begin("Unpack", total, "images")
        target = scratch / "images.bin"
        ends, digest = _write_contents(gathered, records, target, most=most, watcher=watcher)
        watcher.end()
        found = gathered.labelled(PackedImages(scratch, np.array([]), np.array([])))
        np.savez(
            scratch / "columns.npz",
            allow_pickle=False,
            ends=ends,
            labels=found.labels,
            given=found.given,
        )
        about: JsonObject = {
            "classes": list(found.classes),
            "names": list(found.names),
            "groups": list(found.groups),
            "left_out": [each.model_dump() for each in found.left_out],
            "repeated": found.repeated,
        }
        write_json(scratch / "about.json", about)
        whole = hashlib.sha256(digest + found.labels.tobytes() + found.given.tobytes())
        whole.update(repr(about).encode("utf-8", "surrogateescape"))
        key = whole.hexdigest() if key is None else key
        if open_packed(gathered.source, key) is None:  # damaged, where it is there
            shutil.rmtree(_folder_of(key), ignore_errors=True)
        publish_directory(scratch, _folder_of(key))
    packed = open_packed(gathered.source, key)
    if packed is None:
        raise SourceError(
            f"the cache at {cache_root()} to keep what is written there",
            "it did not",
            "Set OPSIN_CACHE to another folder.",
        )
    return packed
