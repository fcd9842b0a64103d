"""Rows of a source, collected into labelled images."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import publish_directory, scratch_directory, write_json
from opsin.core.stored_json import JsonObject
from opsin.data.cache import DigestSet, cache_root
from opsin.data.image_stream import ListedImage
from opsin.data.image_tree import natural
from opsin.data.left_out import LeftOutCounts, left_out_in_words
from opsin.data.sources.contents import Files, LabelledImages, PackedImages, UnpreparedImages
from opsin.data.spelling import nfc, places_among
from opsin.data.split import UNASSIGNED, part_named
from opsin.stores.store_address import StoredObject

#: Share of the free disk space that may be filled.
DISK_SHARE = 0.5
_part_named = functools.lru_cache(256)(part_named)


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
        self._labels, self._parts, self._lines = array("q"), bytearray(), array("q")
        self._groups: list[str] = []
        self._numbers: list[str] = []
        self._counts: dict[str, int] = {}
        self._classes: dict[str, tuple[int, str]] = {}
        self._seen = DigestSet()
        self._repeated = 0
        #: Bytes and hash of the contents; their end offsets are the references.
        self.size, self.digest = 0, hashlib.sha256()

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
        known = "\0".join((identity or str(content), label, str(part)))
        again = not self._seen.add(_digest_of(known))
        if self._seen.add(_digest_of(f"{known}\0{row.group}")) and again:
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
            self.references.append(self.size)
        else:
            self.references.append(content)
        self.names.append(row.name)
        self._counts[split] = number + 1
        self._numbers.append(name)
        self._labels.append(self._classes.setdefault(label, (len(self._classes), row.label))[0])
        self._parts.append(part)
        self._lines.append(row.line)
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
            given=np.frombuffer(bytes(self._parts), np.uint8),
            names=self.names if unique or files else self._numbers,
            images=images,
            groups=self._groups if any(self._groups) else (),
            left_out=self.passed.listed(),
            lines=np.frombuffer(self._lines, "q") if any(self._lines) else None,
            repeated=self._repeated,
        )


def _digest_of(text: str) -> int:
    content = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


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
            room = int(DISK_SHARE * shutil.disk_usage(scratch).free)
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
                raise SourceError(
                    f"{source} would fill more than {DISK_SHARE:.0%} of the free disk",
                    "Free some space, or set OPSIN_CACHE to a larger disk.",
                )
            if packed and len(collector.references) % 64 == 0:
                watcher.advance(len(collector.references))
        if file is None:
            names = [str(reference) for reference in collector.references]
            return collector.labelled(source, Files(Path(), names), classes())
        watcher.advance(len(collector.references))
        watcher.end()
        file.close()
        ends = np.array(collector.references, np.int64)
        whole = collector.labelled(source, PackedImages(scratch, ends), classes())
        arrays = scratch / "columns.npz"
        np.savez(arrays, ends=ends, labels=whole.labels, given=whole.given, allow_pickle=False)
        about: JsonObject = {
            "classes": list(whole.classes),
            "names": list(whole.names),
            "groups": list(whole.groups),
            "left_out": [entry.model_dump() for entry in whole.left_out],
            "repeated": whole.repeated,
        }
        write_json(scratch / "about.json", about)
        collector.digest.update(whole.labels.tobytes() + whole.given.tobytes())
        collector.digest.update(repr(about).encode("utf-8", "surrogateescape"))
        key = collector.digest.hexdigest() if key is None else key
        if open_packed(source, key) is None:  # missing or damaged
            shutil.rmtree(_folder_of(key), ignore_errors=True)
        publish_directory(scratch, _folder_of(key))
    kept = open_packed(source, key)
    if kept is None:
        raise SourceError(f"The cache at {cache_root()} did not keep what was written there",
                          "Set OPSIN_CACHE to another folder.")  # fmt: skip
    return kept


def _folder_of(key: str) -> Path:
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_root() / "unpacked" / name


def open_packed(source: str, key: str) -> LabelledImages | None:
    """Return the images that `collect` cached under a key, if any."""
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
            left_out=tuple(LeftOut.model_validate(entry) for entry in about["left_out"]),
            repeated=about["repeated"],
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
