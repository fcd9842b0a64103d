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
from typing import NamedTuple

import numpy as np

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import publish_directory, scratch_directory, write_json
from opsin.core.stored_json import JsonObject
from opsin.data.cache import cache_root
from opsin.data.left_out import LeftOutCounts, left_out_in_words
from opsin.data.sources.contents import Files, LabelledImages, PackedImages, Row, RowCollector
from opsin.data.split import UNASSIGNED, part_named

#: Share of the free disk that may be filled.
DISK_SHARE = 0.5


class Record(NamedTuple):
    """An image, as a file or its content, and what its source says of it; empty texts for none."""

    image: bytes | Path
    label: str
    split: str = ""
    group: str = ""
    name: str = ""


class _Rows:
    """Turns records into rows; those without a class, or of unknown parts, are passed over."""

    def __init__(self) -> None:
        self.found = RowCollector()
        self.passed = LeftOutCounts()
        self._own_names: list[str] = []

    def usable(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records that count."""
        counts: dict[str, int] = {}
        for record in records:
            split, image = record.split.strip().lower(), record.image
            code = part_named(split) if split else UNASSIGNED
            if not record.label:
                self.passed.add("image without a class", record.name)
            elif code is None:
                self.passed.add(f"image in the part {record.split}", record.name)
            else:
                number = counts.get(split, 0)
                name = f"{split}/{number}" if split else str(number)
                place = str(image) if isinstance(image, Path) else ""
                if isinstance(image, bytes) and record.name:
                    place = f"{hashlib.sha256(image).hexdigest()} {record.name}"
                row = Row(b"", record.label, code, record.group, name, place=place)
                if self.found.add(row):
                    counts[split] = number + 1
                    self._own_names.append(record.name)
                    yield record

    def labelled(
        self, source: str, images: Files | PackedImages, classes: Sequence[str]
    ) -> LabelledImages:
        """Return the images; their own names stand, where each has one of its own."""
        whole = self.found.labelled(source, images, classes)
        if all(self._own_names) and len(set(self._own_names)) == len(self._own_names):
            whole = replace(whole, names=self._own_names)
        return replace(whole, left_out=self.passed.listed())


def labelled_records(
    source: str,
    records: Iterable[Record],
    *,
    key: str | None = None,
    classes: Sequence[str] = (),
    total: int = 0,
    most: float = math.inf,
    watcher: Watcher = SILENT,
) -> LabelledImages:
    """Take records as a source: files stay where they are, contents go into the cache."""
    rows = _Rows()
    stream = rows.usable(records)
    first = next(stream, None)
    if first is None:
        passed = left_out_in_words(rows.passed.listed())
        but = f", but {passed}" if passed else ""
        raise SourceError(
            "images with classes", f"{source} holds none{but}", "Is it the right source?"
        )
    images = _of_one_type((record.image for record in itertools.chain([first], stream)), source)
    if isinstance(first.image, Path):
        return rows.labelled(source, Files(Path(), [str(image) for image in images]), classes)
    with scratch_directory(cache_root() / "unpacked") as scratch:
        watcher.begin("Unpack", total, "images")
        room = int(DISK_SHARE * shutil.disk_usage(scratch).free)
        ends: list[int] = [0]
        digest = hashlib.sha256()
        with (scratch / "images.bin").open("wb") as file:
            for content in images:
                ends.append(ends[-1] + file.write(bytes(content)))
                _check_size(ends[-1], most, room, source)
                digest.update(hashlib.sha256(bytes(content)).digest())
                if len(ends) % 64 == 0:
                    watcher.advance(len(ends) - 1)
        watcher.advance(len(ends) - 1)
        watcher.end()
        found = rows.labelled(source, PackedImages(scratch, np.array(ends[1:])), classes)
        columns = {"ends": np.array(ends[1:]), "labels": found.labels, "given": found.given}
        np.savez(scratch / "columns.npz", allow_pickle=False, **columns)
        about: JsonObject = {
            "classes": list(found.classes),
            "names": list(found.names),
            "groups": list(found.groups),
            "left_out": [each.model_dump() for each in found.left_out],
            "repeated": found.repeated,
        }
        write_json(scratch / "about.json", about)
        digest.update(found.labels.tobytes() + found.given.tobytes())
        digest.update(repr(about).encode("utf-8", "surrogateescape"))
        key = digest.hexdigest() if key is None else key
        if open_packed(source, key) is None:  # damaged, where it is there
            shutil.rmtree(_folder_of(key), ignore_errors=True)
        publish_directory(scratch, _folder_of(key))
    packed = open_packed(source, key)
    if packed is None:
        raise SourceError(
            f"the cache at {cache_root()} to keep what is written there",
            "it did not",
            "Set OPSIN_CACHE to another folder.",
        )
    return packed


def _of_one_type(images: Iterable[bytes | Path], source: str) -> Iterator[bytes | Path]:
    kinds = set()
    for image in images:
        kinds.add(isinstance(image, bytes))
        if len(kinds) > 1:
            raise SourceError(
                "images that are all files, or none of them",
                f"{source} names files and holds contents",
                "Give them as two sources.",
            )
        yield image


def _check_size(size: int, most: float, room: int, source: str) -> None:
    if size > most:
        raise SourceError(
            "a table that expands as images do",
            f"{source} holds more bytes than any honest one of its size",
            "If you trust it, write the images as files first.",
        )
    if size > room:
        raise SourceError(
            f"images that fill at most {DISK_SHARE:.0%} of the free disk",
            f"{source} holds more",
            "Free some space, or set OPSIN_CACHE to a larger disk.",
        )


def _folder_of(key: str) -> Path:
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_root() / "unpacked" / name


def open_packed(source: str, key: str) -> LabelledImages | None:
    """Return what `labelled_records` has kept by a key; ``None`` where it is not there."""
    folder = _folder_of(key)
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        with np.load(folder / "columns.npz", allow_pickle=False) as columns:
            ends, labels, given = columns["ends"], columns["labels"], columns["given"]
        return LabelledImages(
            source=source,
            classes=tuple(about["classes"]),
            labels=labels,
            given=given,
            names=about["names"],
            images=PackedImages(folder / "images.bin", ends),
            groups=about["groups"],
            left_out=tuple(LeftOut.model_validate(each) for each in about["left_out"]),
            repeated=about["repeated"],
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
