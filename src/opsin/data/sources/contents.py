"""What a source holds before anything is decoded: its images, and what it says of each."""

from __future__ import annotations

import functools
import hashlib
import os
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import ImageError, SourceError
from opsin.core.files import MISSING, file_stamp, open_regular
from opsin.data.cache import DigestSet, digest_rows
from opsin.data.image_tree import natural
from opsin.data.left_out import LeftOutCounts
from opsin.data.spelling import nfc, places_among
from opsin.data.split import TRAIN, UNASSIGNED, part_named
from opsin.stores.store_address import StoredObject

_Image_co = TypeVar("_Image_co", covariant=True)
_part_named = functools.lru_cache(256)(part_named)


@dataclass(frozen=True)
class LocatedSource:
    """A source that was found, and not yet read."""

    key: str
    open: Callable[[], LabelledImages]
    left_out: tuple[LeftOut, ...] | None = None


class UnreadImages(Sequence[_Image_co]):
    """Images that are made when they are asked for: a million objects would take a gigabyte."""

    _items: Sequence[Any] | NDArray[np.int64]

    @overload
    def __getitem__(self, index: int) -> _Image_co: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> _Image_co | Self:
        if isinstance(index, slice):
            return self.rows(np.arange(len(self))[index])
        return self._made(self._items[index])

    @abstractmethod
    def _made(self, item: Any) -> _Image_co: ...

    def __len__(self) -> int:
        return len(self._items)

    def rows(self, rows: NDArray[np.int64]) -> Self:
        """Keep some images, in the order given."""
        kept, items = copy(self), self._items
        kept._items = items[rows] if isinstance(items, np.ndarray) else [items[row] for row in rows]
        return kept


class Files(UnreadImages[Path]):
    """Images in files: a folder, and names below it with ``/``, or absolute ones."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self._items: Sequence[str] = names

    @property
    def names(self) -> Sequence[str]:
        """The names below the folder."""
        return self._items

    def _made(self, item: str) -> Path:
        return self.folder / item

    def places(self) -> Iterator[str]:
        """Yield each file's whole name: text, in a tenth of the time of paths."""
        folder = os.path.abspath(self.folder)  # noqa: PTH100  as the rest: no Path each
        for name in self.names:
            yield os.path.join(folder, name)  # noqa: PTH118


class PackedImages(UnreadImages[bytes]):
    """Images behind each other in one file, which end at places ``int64[N]``."""

    def __init__(self, file: Path, ends: NDArray[np.int64]) -> None:
        self.file = file
        starts = np.concatenate([[0], ends[:-1]])
        self._items = np.stack([starts[: len(ends)], ends], axis=1).astype(np.int64)

    def _made(self, item: NDArray[np.int64]) -> bytes:
        reason, content, (start, end) = "it has been cut short", b"", map(int, item)
        try:
            with open_regular(self.file) as file:
                file.seek(start)
                content = file.read(end - start)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        if len(content) != end - start:
            raise ImageError("an image that can be read", f"{self.file}: {reason}", "Load again.")
        return content


class ChainedImages(UnreadImages[Path | StoredObject | bytes | NDArray[np.uint8]]):
    """Images of several sources behind each other, each asked for where it is."""

    def __init__(self, parts: Sequence[UnpreparedImages]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self._items = np.arange(self._ends[-1])

    def _made(self, item: np.int64) -> Path | StoredObject | bytes | NDArray[np.uint8]:
        number = int(np.searchsorted(self._ends, item, side="right"))
        part = self._parts[number]
        return part[int(item - self._ends[number] + len(part))]


#: Files still, or objects of a store, their contents, or arrays already: of one shape
#: ``uint8`` or ``uint16[N, H, W, C]``, or each of its own.
UnpreparedImages = (
    Sequence[Path | StoredObject | bytes | NDArray[np.uint8]] | NDArray[np.uint8 | np.uint16]
)


def key_of_files(*files: Path | Files) -> str:
    """Return a key from the files' names, sizes and times of change; some may be missing."""
    key = hashlib.sha256()
    for each in files:
        for place in each.places() if isinstance(each, Files) else [str(each.absolute())]:
            stamp = file_stamp(place)
            # The same words as always, for the keys of what is cached.
            known = (-1, -1) if stamp == MISSING else (stamp.size, stamp.mtime_ns)
            # Names that are no Unicode have lone surrogates, which repr escapes.
            key.update(repr((place, *known)).encode("utf-8", "surrogateescape"))
    return key.hexdigest()


@dataclass(frozen=True)
class LabelledImages:
    """Images, still files or already arrays, with what the source says about them.

    Args:
        source: The source as the user wrote it.
        classes: Class names in the order of their labels.
        labels: Class index of each image, ``int64[N]``.
        given: Split code of each image (`opsin.data.split`), ``uint8[N]``.
        names: What each image is called: its path below the source, or ``train/123``.
        images: The images.
        groups: What each image shares with others (a person, a patient, a film), so that they
            belong on one side of a split; ``""`` for none. Empty where the source does not say.
        mirrored: Whether a mirrored image is still of its class.
        left_out: What the source holds beside them.
        lines: Lines of the table that name them, ``int64[N]``, 0 for none; ``None``: no table does.
        repeated: Rows of a table that named an image once more, which are left out.
    """

    source: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    given: NDArray[np.uint8]
    names: Sequence[str]
    images: UnpreparedImages
    groups: Sequence[str] = ()
    mirrored: bool = True
    left_out: tuple[LeftOut, ...] = ()
    lines: NDArray[np.int64] | None = None
    repeated: int = 0

    def __len__(self) -> int:
        return int(self.labels.size)

    def rows(self, rows: NDArray[np.int64]) -> LabelledImages:
        """Keep some images, in the order given."""
        if isinstance(self.images, np.ndarray):
            images: UnpreparedImages = self.images[rows]
        elif isinstance(self.images, UnreadImages):
            images = self.images.rows(rows)
        else:
            images = [self.images[row] for row in rows]
        return replace(
            self,
            labels=self.labels[rows],
            given=self.given[rows],
            names=[self.names[row] for row in rows],
            images=images,
            groups=[self.groups[row] for row in rows] if self.groups else (),
            lines=None if self.lines is None else self.lines[rows],
        )

    def keep(self, classes: Sequence[str]) -> LabelledImages:
        """Keep some classes, in the order given; each must be there, and be named once."""
        places = places_among(classes, self.classes)
        unknown = [name for name, place in zip(classes, places, strict=True) if place < 0]
        if unknown or len(set(places)) < len(places):
            raise SourceError(
                f"different classes among {', '.join(self.classes)}",
                f"got {', '.join(unknown or classes)}",
                "Write them as they stand there, separated by commas.",
            )
        new_label = np.full(len(self.classes), -1, np.int64)
        new_label[places] = np.arange(len(places))
        kept = self.rows(np.flatnonzero(new_label[self.labels] >= 0))
        names = tuple(self.classes[place] for place in places)
        return replace(kept, classes=names, labels=new_label[kept.labels])

    def check(self) -> None:
        """Refuse contents that no classifier can be made from: see `check_classes`."""
        check_classes(self.source, self.classes, self.labels, self.given)

    def located(self) -> LocatedSource:
        """Return images that no source names as one whose key is their content."""
        images = self.images
        key = hashlib.sha256(repr((self.classes, self.groups)).encode())
        if isinstance(images, Files):
            key.update(key_of_files(images).encode())
        elif isinstance(images, PackedImages):
            key.update(str(images.file).encode())  # its folder is named after its content
        else:
            key.update(digest_rows(np.asarray(images)).tobytes())
        key.update(self.labels.tobytes())
        key.update(self.given.tobytes())
        return LocatedSource(key.hexdigest(), lambda: self)


class Row(NamedTuple):
    """One image of a source, and what the source says of it: "" for nothing.

    ``split`` is the source's own word for a part, ``name`` what the image is called, ``line``
    where a table names it, and ``place`` what tells it from other images, by default its name.
    """

    reference: str | Path | bytes
    label: str
    split: str = ""
    group: str = ""
    name: str = ""
    line: int = 0
    place: str = ""


class RowCollector:
    """Gathers what a source says of its images beside their pixels, row by row.

    Rows without a class, or of an unknown part, are left out and counted in ``passed``.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.passed = LeftOutCounts()
        self._labels = array("q")
        self._parts = bytearray()
        self._lines = array("q")
        self._groups: list[str] = []
        self._classes: dict[str, tuple[int, str]] = {}
        self._shared: dict[str, str] = {}
        self._seen = DigestSet()
        self._repeated = 0

    def add(self, row: Row) -> bool:
        """Add an image; tell whether it is new, or is left out."""
        part = _part_named(row.split) if row.split.strip() else UNASSIGNED
        if not row.label or part is None:
            kind = f"image in the part {row.split}" if row.label else "image without a class"
            self.passed.add(kind, row.name)
            return False
        label = nfc(row.label)
        known = "\0".join((row.place or row.name, label, str(part)))
        again = not self._seen.add(digest_of(known))
        if self._seen.add(digest_of(f"{known}\0{row.group}")) and again:
            raise SourceError(
                "one group for each image",
                f"{row.name} is in two, one of them {row.group or 'none'!r}",
                "Keep one of its rows.",
            )
        if again:
            self._repeated += 1
            return False
        self.names.append(row.name)
        number, _ = self._classes.setdefault(label, (len(self._classes), row.label))
        self._labels.append(number)
        self._parts.append(part)
        self._lines.append(row.line)
        self._groups.append(self._shared.setdefault(row.group, row.group))
        return True

    def labelled(
        self, source: str, images: UnpreparedImages, classes: Sequence[str] = ()
    ) -> LabelledImages:
        """Return the images, their classes in the order that the source has, else a natural one."""
        listed = [name for name in classes if nfc(name) in self._classes]
        rest = sorted(sorted(self._classes.keys() - set(map(nfc, listed))), key=natural)
        order = (*listed, *(self._classes[name][1] for name in rest))
        for name in order[len(listed) :]:
            if not name.isprintable():
                what = "class names of printable characters"
                raise SourceError(what, f"{source} has {name!r}", "Rename the class.")
        labels = np.array(places_among(self._classes, order), np.int64)
        return LabelledImages(
            source=source,
            classes=order,
            labels=labels[np.frombuffer(self._labels, "q")],
            given=np.frombuffer(bytes(self._parts), np.uint8),
            names=self.names,
            images=images,
            groups=self._groups if any(self._shared) else (),
            left_out=self.passed.listed(),
            lines=np.frombuffer(self._lines, "q") if any(self._lines) else None,
            repeated=self._repeated,
        )


def digest_of(text: str) -> int:
    """Return 64 bits that stand for a text."""
    content = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def check_classes(
    source: str, classes: Sequence[str], labels: NDArray[np.int64], given: NDArray[np.uint8]
) -> None:
    """Refuse images that no classifier can be made from."""
    if not labels.size:
        raise SourceError("images", f"{source} holds none", "Is it the right source?")
    if len(classes) < 2:
        raise SourceError(
            "two classes or more to tell apart",
            f"{source} has {len(classes)} ({', '.join(classes)})",
            "Add a sub-folder with images of something else.",
        )
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        few = [f"{name!r} has {n}" for name, n in zip(classes, counts, strict=True) if n < 2]
        raise SourceError(
            "at least two images of each class",
            f"class {', '.join(few[:5])}",
            "Add images, or leave the class out with --classes.",
        )
    learnt = np.bincount(labels[given <= TRAIN], minlength=len(classes))
    if np.any(given == TRAIN) and learnt.min() == 0:
        unlearnt = [name for name, count in zip(classes, learnt, strict=True) if not count]
        raise SourceError(
            "the same classes in each part",
            f"{source} has {', '.join(unlearnt[:5])} in another part, and none to train",
            "Call the classes alike in each part, or leave these out with --classes.",
        )
