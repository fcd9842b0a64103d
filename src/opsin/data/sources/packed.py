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

import numpy as np

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import publish_directory, scratch_directory, write_json
from opsin.core.stored_json import JsonObject
from opsin.data.cache import cache_root
from opsin.data.left_out import left_out_in_words
from opsin.data.sources.contents import Files, LabelledImages, PackedImages, Row, RowCollector

#: Share of the free disk that may be filled.
DISK_SHARE = 0.5


def labelled_rows(
    source: str,
    rows: Iterable[Row],
    *,
    key: str | None = None,
    classes: Sequence[str] = (),
    total: int = 0,
    most: float = math.inf,
    watcher: Watcher = SILENT,
) -> LabelledImages:
    """Take rows as a source: files stay where they are, contents go into the cache by a key."""
    found, numbered = RowCollector(), list[str]()
    images = _accepted(rows, found, numbered, source)
    first = next(images, None)
    if first is None:
        passed = left_out_in_words(found.passed.listed())
        but = f", but {passed}" if passed else ""
        raise SourceError(
            "images with classes", f"{source} holds none{but}", "Is it the right source?"
        )
    images = itertools.chain([first], images)
    if not isinstance(first, bytes):
        files = Files(Path(), [str(image) for image in images])
        return _named(found.labelled(source, files, classes), numbered)
    with scratch_directory(cache_root() / "unpacked") as scratch:
        watcher.begin("Unpack", total, "images")
        room = int(DISK_SHARE * shutil.disk_usage(scratch).free)
        ends: list[int] = [0]
        digest = hashlib.sha256()
        with (scratch / "images.bin").open("wb") as file:
            for image in images:
                content = image if isinstance(image, bytes) else b""
                ends.append(ends[-1] + file.write(content))
                _check_size(ends[-1], most, room, source)
                digest.update(hashlib.sha256(content).digest())
                if len(ends) % 64 == 0:
                    watcher.advance(len(ends) - 1)
        watcher.advance(len(ends) - 1)
        watcher.end()
        packed = PackedImages(scratch, np.array(ends[1:]))
        whole = _named(found.labelled(source, packed, classes), numbered)
        columns = {"ends": np.array(ends[1:]), "labels": whole.labels, "given": whole.given}
        np.savez(scratch / "columns.npz", allow_pickle=False, **columns)
        about: JsonObject = {
            "classes": list(whole.classes),
            "names": list(whole.names),
            "groups": list(whole.groups),
            "left_out": [each.model_dump() for each in whole.left_out],
            "repeated": whole.repeated,
        }
        write_json(scratch / "about.json", about)
        digest.update(whole.labels.tobytes() + whole.given.tobytes())
        digest.update(repr(about).encode("utf-8", "surrogateescape"))
        key = digest.hexdigest() if key is None else key
        if open_packed(source, key) is None:  # damaged, where it is there
            shutil.rmtree(_folder_of(key), ignore_errors=True)
        publish_directory(scratch, _folder_of(key))
    kept = open_packed(source, key)
    if kept is None:
        raise SourceError(
            f"the cache at {cache_root()} to keep what is written there",
            "it did not",
            "Set OPSIN_CACHE to another folder.",
        )
    return kept


def _accepted(
    rows: Iterable[Row], found: RowCollector, numbered: list[str], source: str
) -> Iterator[str | Path | bytes]:
    """Yield the images of the rows that are new, with a number in their part for each."""
    counts: dict[str, int] = {}
    kinds = set()
    for row in rows:
        image, split = row.reference, row.split.strip().lower()
        number = counts.get(split, 0)
        numbered_name = f"{split}/{number}" if split else str(number)
        place = numbered_name
        if not isinstance(image, bytes):
            place = str(image)
        elif row.name:
            place = f"{hashlib.sha256(image).hexdigest()} {row.name}"
        if found.add(row._replace(place=place)):
            counts[split] = number + 1
            numbered.append(numbered_name)
            kinds.add(isinstance(image, bytes))
            if len(kinds) > 1:
                raise SourceError(
                    "images that are all files, or none of them",
                    f"{source} names files and holds contents",
                    "Give them as two sources.",
                )
            yield image


def _named(contents: LabelledImages, numbered: Sequence[str]) -> LabelledImages:
    unique = all(contents.names) and len(set(contents.names)) == len(contents.names)
    return contents if unique else replace(contents, names=numbered)


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
    """Return what `labelled_rows` has kept by a key; ``None`` where it is not there."""
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
