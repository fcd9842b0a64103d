"""The contents of a source before decoding: images, labels and parts."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import ImageError, SourceError
from opsin.core.files import MISSING, file_stamp, open_regular
from opsin.data.cache import digest_rows
from opsin.data.image_tree import add_up, natural
from opsin.data.spelling import nfc, places_among
from opsin.data.split import TEST, TRAIN, UNASSIGNED
from opsin.stores.bucket import StoredObject

_Image_co = TypeVar("_Image_co", covariant=True)


@dataclass(frozen=True)
class LocatedSource:
    """A source that was located, and not yet read."""

    key: str
    open: Callable[[], LabelledImages]
    left_out: tuple[LeftOut, ...] | None = None


class UnreadImages(Sequence[_Image_co]):
    """A sequence that makes images on access: a million objects would take a gigabyte."""

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
        """Return some images, in the order of ``rows``."""
        kept, items = copy(self), self._items
        kept._items = items[rows] if isinstance(items, np.ndarray) else [items[row] for row in rows]
        return kept


class Files(UnreadImages[Path]):
    """Image files: a folder, and names below it with ``/``, or absolute ones."""

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
        """Yield absolute file names as text, ten times faster than paths."""
        folder = os.path.abspath(self.folder)  # noqa: PTH100  as the rest: no Path each
        for name in self._items:
            yield os.path.join(folder, name)  # noqa: PTH118


class PackedImages(UnreadImages[bytes]):
    """Images concatenated in one file; ``ends`` are their end offsets, ``int64[N]``."""

    def __init__(self, file: Path, ends: NDArray[np.int64]) -> None:
        self.file = file
        self._items = np.stack([np.concatenate([[0], ends[:-1]])[: len(ends)], ends], axis=1)

    @property
    def ends(self) -> NDArray[np.int64]:
        """End offsets of the images."""
        return np.asarray(self._items)[:, 1]

    def _made(self, item: NDArray[np.int64]) -> bytes:
        start, end = map(int, item)
        try:
            with open_regular(self.file) as file:
                file.seek(start)
                content = file.read(end - start)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ImageError(f"{self.file}: {reason}", "Load again.") from error
        if len(content) != end - start:
            raise ImageError(f"{self.file}: it has been cut short", "Load again.")
        return content


class ChainedImages(UnreadImages[Path | StoredObject | bytes | NDArray[np.uint8]]):
    """Images of several sources, concatenated without reading."""

    def __init__(self, parts: Sequence[UnpreparedImages]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self._items = np.arange(self._ends[-1])

    def _made(self, item: np.int64) -> Path | StoredObject | bytes | NDArray[np.uint8]:
        number = int(np.searchsorted(self._ends, item, side="right"))
        part = self._parts[number]
        return part[int(item - self._ends[number] + len(part))]


#: Files, objects of a store, contents of files, or arrays: all in one ``uint8`` or
#: ``uint16[N, H, W, C]``, or each of its own shape.
UnpreparedImages = (
    Sequence[Path | StoredObject | bytes | NDArray[np.uint8]] | NDArray[np.uint8 | np.uint16]
)


def key_of_files(*files: Path | Files) -> str:
    """Return a key of files' names, sizes and times of change; some may be missing."""
    key = hashlib.sha256()
    for item in files:
        for path in item.places() if isinstance(item, Files) else [str(item.absolute())]:
            stamp = file_stamp(path)
            # Unchanged for the sake of existing cache keys.
            known = (-1, -1) if stamp == MISSING else (stamp.size, stamp.mtime_ns)
            # Names that are not Unicode have lone surrogates, which repr escapes.
            key.update(repr((path, *known)).encode("utf-8", "surrogateescape"))
    return key.hexdigest()


@dataclass(frozen=True)
class LabelledImages:
    """The images of a source, ``N``, with their labels, parts and groups."""

    source: str
    classes: tuple[str, ...]
    #: Class index of each image, ``int64[N]``.
    labels: NDArray[np.int64]
    #: Split code of each image (`opsin.data.split`), ``uint8[N]``.
    source_parts: NDArray[np.uint8]
    #: What each image is called: its path below the source, or ``train/123``.
    names: Sequence[str]
    images: UnpreparedImages
    #: What images share (a person, a film), to stay on one side of a split; ``""`` for nothing.
    groups: Sequence[str] = ()
    #: Whether a mirrored image is still of its class.
    mirrored: bool = True
    left_out: tuple[LeftOut, ...] = ()
    #: Rows of a table that named an image once more, which are left out.
    repeated: int = 0

    def __len__(self) -> int:
        return int(self.labels.size)

    def rows(self, rows: NDArray[np.int64]) -> LabelledImages:
        """Return some images, in the order of ``rows``."""
        if isinstance(self.images, np.ndarray):
            images: UnpreparedImages = self.images[rows]
        elif isinstance(self.images, UnreadImages):
            images = self.images.rows(rows)
        else:
            images = [self.images[row] for row in rows]
        return replace(
            self,
            labels=self.labels[rows],
            source_parts=self.source_parts[rows],
            names=[self.names[row] for row in rows],
            images=images,
            groups=[self.groups[row] for row in rows] if self.groups else (),
        )

    def keep(self, classes: Sequence[str]) -> LabelledImages:
        """Return the images of some classes, in the order given; each must exist once."""
        indices = places_among(classes, self.classes)
        unknown = [name for name, index in zip(classes, indices, strict=True) if index < 0]
        if unknown or len(set(indices)) < len(indices):
            raise SourceError(
                f"{', '.join(unknown or classes)}: different classes among "
                f"{', '.join(self.classes)} are expected"
            )
        new_label = np.full(len(self.classes), -1, np.int64)
        new_label[indices] = np.arange(len(indices))
        kept = self.rows(np.flatnonzero(new_label[self.labels] >= 0))
        names = tuple(self.classes[index] for index in indices)
        return replace(kept, classes=names, labels=new_label[kept.labels])

    def check(self) -> None:
        """Refuse contents unfit for training: see `check_classes`."""
        check_classes(self.source, self.classes, self.labels, self.source_parts)

    def located_by_files(self, *tables: Path, about: object = None) -> LocatedSource:
        """Return a source with a key of its images and the tables that name them."""
        images = [self.images] if isinstance(self.images, Files) else []
        key = key_of_files(*tables, *images)
        return LocatedSource(
            key if about is None else repr((key, about)), lambda: self, self.left_out
        )

    def located(self) -> LocatedSource:
        """Return a source whose key is a hash of its content."""
        images = self.images
        key = hashlib.sha256(repr((self.classes, self.groups)).encode())
        if isinstance(images, Files):
            key.update(key_of_files(images).encode())
        elif isinstance(images, PackedImages):
            key.update(str(images.file).encode())  # its folder is named after its content
        else:
            key.update(digest_rows(np.asarray(images)).tobytes())
        key.update(self.labels.tobytes() + self.source_parts.tobytes())
        return LocatedSource(key.hexdigest(), lambda: self)


def check_classes(
    source: str, classes: Sequence[str], labels: NDArray[np.int64], source_parts: NDArray[np.uint8]
) -> None:
    """Refuse images unfit for training."""
    if not labels.size:
        raise SourceError(f"{source} has no images")
    if len(classes) < 2:
        raise SourceError(
            f"{source} has one class only ({', '.join(classes)}); two or more are expected",
            "Add a sub-folder with images of something else.",
        )
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        few = [f"{name!r} has {n}" for name, n in zip(classes, counts, strict=True) if n < 2]
        raise SourceError(
            f"At least two images of each class are expected: {', '.join(few[:5])}",
            "Add images, or leave the class out with --classes.",
        )
    learnt = np.bincount(labels[source_parts <= TRAIN], minlength=len(classes))
    if np.any(source_parts == TRAIN) and learnt.min() == 0:
        unlearnt = [name for name, count in zip(classes, learnt, strict=True) if not count]
        raise SourceError(
            f"{source} has {', '.join(unlearnt[:5])} in another part, but none to train",
            "Call the classes alike in each part, or leave these out with --classes.",
        )


def join(sources: Sequence[str], parts: Sequence[LabelledImages], *, test: bool) -> LabelledImages:
    """Concatenate sources; with ``test``, the last one is the test part of the others."""
    others = parts[:-1] if test else parts
    lists = [part.classes for part in others]
    same = len({tuple(map(nfc, names)) for names in lists}) == 1
    written = {nfc(name): name for names in reversed(lists) for name in names}
    classes = lists[0] if same else tuple(written[name] for name in sorted(written, key=natural))
    source_parts = [part.source_parts for part in parts]
    if test:
        _check_test(sources, parts, classes)
        # Unassigned images of the others are for training and validation.
        source_parts = [
            np.where(codes == UNASSIGNED, TRAIN, codes).astype(np.uint8) for codes in source_parts
        ]
        source_parts[-1] = np.full(len(parts[-1]), TEST, np.uint8)
    _check_once(sources, parts)
    titles = [Path(source).name.split(".")[0] or source for source in sources]
    if len(set(titles)) < len(titles):
        titles = [f"{number}-{title}" for number, title in enumerate(titles, start=1)]
    labels = [np.array(places_among(p.classes, classes), np.int64)[p.labels] for p in parts]
    groups = [group for part in parts for group in (part.groups or [""] * len(part))]
    return LabelledImages(
        source=" + ".join(sources),
        classes=classes,
        labels=np.concatenate(labels),
        source_parts=np.concatenate(source_parts),
        names=[f"{title}/{name}" for title, part in zip(titles, parts, strict=True)
               for name in part.names],
        images=_together([part.images for part in parts]),
        groups=groups if any(groups) else (),
        mirrored=all(part.mirrored for part in parts),
        left_out=add_up(part.left_out for part in parts),
        repeated=sum(part.repeated for part in parts),
    )  # fmt: skip


def _together(parts: Sequence[UnpreparedImages]) -> UnpreparedImages:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts) and len({(array.shape[1:], array.dtype) for array in arrays}) == 1:
        return np.concatenate(arrays)
    return ChainedImages(parts)


def _check_once(sources: Sequence[str], parts: Sequence[LabelledImages]) -> None:
    """Refuse images in two sources, such as a folder inside another."""
    seen: dict[str, str] = {}
    for source, part in zip(sources, parts, strict=True):
        if isinstance(files := part.images, Files):
            for name in Files(Path(os.path.realpath(files.folder)), files.names).places():
                path = os.path.normpath(name)
                if seen.setdefault(path, source) != source:
                    raise SourceError(
                        f"{path} is in {seen[path]} and in {source}", "Leave one of the two out."
                    )


def _check_test(
    sources: Sequence[str], parts: Sequence[LabelledImages], classes: Sequence[str]
) -> None:
    tested = parts[-1].classes
    unknown = [n for n, i in zip(tested, places_among(tested, classes), strict=True) if i < 0]
    if unknown:
        raise SourceError(
            f"{sources[-1]} has the classes {', '.join(unknown[:5])}, which the training images "
            "lack",
            f"They have {', '.join(classes[:10])}.",
        )
    for source, part in zip(sources[:-1], parts, strict=False):
        if np.any(part.source_parts == TEST):
            raise SourceError(
                f"{source} has a test part of its own beside {sources[-1]}",
                "Leave --test out, or give the training part alone.",
            )
