"""What a source holds, before anything is decoded."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.dataset_record import LeftOut
from opsin.core.errors import ImageError, SourceError
from opsin.core.file_stamp import MISSING, file_stamp
from opsin.core.regular_file import open_regular
from opsin.data.cache import digest_rows
from opsin.data.digest_set import DigestSet
from opsin.data.spelling import nfc, places_among
from opsin.data.split import TRAIN, UNASSIGNED
from opsin.stores.store_address import StoredObject


@dataclass(frozen=True)
class LocatedSource:
    """A source that was found, and not yet read.

    Args:
        key: Changes whenever the content may have changed; cheap to tell.
        open: Reads it.
        left_out: What it holds beside its images, which ``key`` need not tell; ``None``: only
            reading tells.
    """

    key: str
    open: Callable[[], LabelledImages]
    left_out: tuple[LeftOut, ...] | None = None


class Files(Sequence[Path]):
    """Images that are files still: a folder and names below it.

    A million `Path` objects take half a gigabyte, so each is made when it is asked for.

    Args:
        folder: Where the names begin.
        names: The files' names below it, with ``/``; absolute ones stand for themselves.

    Example:
        >>> Files(Path("photos"), ["cat/1.jpg", "dog/1.jpg"])[1].as_posix()
        'photos/dog/1.jpg'
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.names = names

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Files: ...
    def __getitem__(self, index: int | slice) -> Path | Files:
        if isinstance(index, slice):
            return Files(self.folder, self.names[index])
        return self.folder / self.names[index]

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, rows: NDArray[np.int64]) -> Files:
        """Keep some files, in the order given."""
        return Files(self.folder, [self.names[row] for row in rows])

    def places(self) -> Iterator[str]:
        """Yield each file's whole name: text, in a tenth of the time of paths."""
        folder = os.path.abspath(self.folder)  # noqa: PTH100  as the rest: no Path each
        for name in self.names:
            yield os.path.join(folder, name)  # noqa: PTH118


def key_of_files(*files: Path | Files) -> str:
    """Return a key from the files' names, sizes and times of change; some may be missing."""
    key = hashlib.sha256()
    for each in files:
        for place in each.places() if isinstance(each, Files) else [str(each.absolute())]:
            stamp = file_stamp(place)
            # The same words as always, for the keys of what is cached.
            known = (-1, -1) if stamp == MISSING else (stamp.size, stamp.mtime_ns)
            state = (place, *known)
            # Names that are no Unicode have lone surrogates, which repr escapes.
            key.update(repr(state).encode("utf-8", "surrogateescape"))
    return key.hexdigest()


class StoredImages(Sequence[StoredObject]):
    """Images that are objects of a store, each read when it is asked for.

    Args:
        objects: The objects.

    Example:
        >>> images = StoredImages([StoredObject("bucket", "cat/1.jpg", 4096, '"9c11"')])
        >>> images[0].address.key
        'cat/1.jpg'
    """

    def __init__(self, objects: Sequence[StoredObject]) -> None:
        self._objects = objects

    @overload
    def __getitem__(self, index: int) -> StoredObject: ...
    @overload
    def __getitem__(self, index: slice) -> StoredImages: ...
    def __getitem__(self, index: int | slice) -> StoredObject | StoredImages:
        if isinstance(index, slice):
            return StoredImages(self._objects[index])
        return self._objects[index]

    def __len__(self) -> int:
        return len(self._objects)

    def rows(self, rows: NDArray[np.int64]) -> StoredImages:
        """Keep some images, in the order given."""
        return StoredImages([self._objects[row] for row in rows])

    @property
    def key(self) -> str:
        """What changes whenever an image does."""
        key = hashlib.sha256()
        for each in self._objects:
            key.update(repr(each).encode())
        return key.hexdigest()


class PackedImages(Sequence[bytes]):
    """Images behind each other in one file, each read when it is asked for.

    Args:
        file: The file.
        starts: Where each begins, ``int64[N]``.
        sizes: Bytes of each, ``int64[N]``.
    """

    def __init__(self, file: Path, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self.file = file
        self._starts = starts
        self._sizes = sizes

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> PackedImages: ...
    def __getitem__(self, index: int | slice) -> bytes | PackedImages:
        if isinstance(index, slice):
            return PackedImages(self.file, self._starts[index], self._sizes[index])
        size = int(self._sizes[index])
        try:
            with open_regular(self.file) as file:
                file.seek(int(self._starts[index]))
                content = file.read(size)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise self._unreadable(reason) from error
        if len(content) != size:
            raise self._unreadable("it has been cut short")
        return content

    def __len__(self) -> int:
        return len(self._sizes)

    def rows(self, rows: NDArray[np.int64]) -> PackedImages:
        """Keep some images, in the order given."""
        return PackedImages(self.file, self._starts[rows], self._sizes[rows])

    def _unreadable(self, reason: str) -> ImageError:
        return ImageError("an image that can be read", f"{self.file}: {reason}", "Load it again.")


class ChainedImages(Sequence[Path | StoredObject | bytes | NDArray[np.uint8]]):
    """Images of several sources behind each other, each asked for where it is.

    Args:
        parts: Each source's images.
        rows: Which of them all are meant, ``int64[N]`` (default: all).

    Example:
        >>> grey = np.zeros((2, 8, 8, 1), np.uint8)
        >>> chained = ChainedImages([grey, Files(Path("photos"), ["cat/1.jpg"])])
        >>> len(chained), chained[2].name
        (3, '1.jpg')
    """

    def __init__(
        self, parts: Sequence[UnpreparedImages], rows: NDArray[np.int64] | None = None
    ) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self._rows = np.arange(self._ends[-1]) if rows is None else rows

    @overload
    def __getitem__(self, index: int) -> Path | StoredObject | bytes | NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> ChainedImages: ...
    def __getitem__(
        self, index: int | slice
    ) -> Path | StoredObject | bytes | NDArray[np.uint8] | ChainedImages:
        if isinstance(index, slice):
            return ChainedImages(self._parts, self._rows[index])
        row = self._rows[index]
        place = int(np.searchsorted(self._ends, row, side="right"))
        part = self._parts[place]
        return part[int(row - self._ends[place] + len(part))]

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, rows: NDArray[np.int64]) -> ChainedImages:
        """Keep some images, in the order given."""
        return ChainedImages(self._parts, self._rows[rows])


#: Files still, or objects of a store, their contents, or arrays already: of one shape
#: ``uint8`` or ``uint16[N, H, W, C]``, or each of its own.
UnpreparedImages = (
    Sequence[Path | StoredObject | bytes | NDArray[np.uint8]] | NDArray[np.uint8 | np.uint16]
)


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
        return replace(
            self,
            labels=self.labels[rows],
            given=self.given[rows],
            names=[self.names[row] for row in rows],
            images=(
                self.images[rows]
                if isinstance(self.images, np.ndarray)
                else self.images.rows(rows)
                if isinstance(self.images, Files | StoredImages | PackedImages | ChainedImages)
                else [self.images[row] for row in rows]
            ),
            groups=[self.groups[row] for row in rows] if self.groups else (),
            lines=None if self.lines is None else self.lines[rows],
        )

    def keep(self, classes: Sequence[str]) -> LabelledImages:
        """Keep some classes, in the order given.

        Raises:
            SourceError: One of them is not in the source, or is named twice.
        """
        places = places_among(classes, self.classes)
        unknown = [name for name, place in zip(classes, places, strict=True) if place < 0]
        if unknown or len(set(places)) < len(places):
            raise SourceError(
                f"different classes among {', '.join(self.classes)}",
                f"got {', '.join(unknown or classes)}",
                "Write them as they stand there, separated by commas.",
            )
        new_label = {place: new for new, place in enumerate(places)}
        rows = np.flatnonzero(np.isin(self.labels, list(new_label)))
        kept = self.rows(rows)
        labels = np.array([new_label[int(label)] for label in kept.labels], np.int64)
        return replace(kept, classes=tuple(self.classes[p] for p in places), labels=labels)

    def check(self) -> None:
        """Refuse contents that no classifier can be made from: see `check_classes`."""
        check_classes(self.source, self.classes, self.labels, self.given)


def located(contents: LabelledImages) -> LocatedSource:
    """Return images that no source names as one whose key is their content.

    Example:
        >>> grey = np.zeros((2, 8, 8, 1), np.uint8)
        >>> two = LabelledImages("a", ("0", "1"), np.arange(2), np.zeros(2, np.uint8), "ab", grey)
        >>> located(two).open() is two
        True
    """
    images = contents.images
    key = hashlib.sha256(repr((contents.classes, contents.groups)).encode())
    if isinstance(images, Files):
        key.update(key_of_files(images).encode())
    elif isinstance(images, StoredImages):
        key.update(images.key.encode())
    elif isinstance(images, PackedImages):
        key.update(str(images.file).encode())  # its folder is named after its content
    else:
        key.update(digest_rows(np.asarray(images)).tobytes())
    for part in (contents.labels, contents.given):
        key.update(part.tobytes())
    return LocatedSource(key.hexdigest(), lambda: contents)


class LabelColumns:
    """What a source says of its images beside their pixels, gathered row by row.

    Each class and group is kept once, however many rows share it; classes are compared in NFC. A
    row that names an image once more, with the same class for the same part, is left out; another
    class or part for it stays, for an audit to name.

    Example:
        >>> columns = LabelColumns()
        >>> columns.add("1.jpg", "dog"), columns.add("2.jpg", "cat"), columns.add("1.jpg", "dog")
        (True, True, False)
        >>> images = Files(Path("photos"), columns.names)
        >>> columns.labelled("photos", images, ["cat", "dog"]).labels.tolist()
        [1, 0]
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._labels = array("q")
        self._given = bytearray()
        self._lines = array("q")
        self._groups: list[str] = []
        self._number: dict[str, int] = {}
        self._written: list[str] = []
        self._shared: dict[str, str] = {}
        self._seen = DigestSet()
        self._repeated = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order in which they came, as they were written first."""
        return tuple(self._written)

    def add(
        self,
        name: str,
        label: str,
        given: int = UNASSIGNED,
        group: str = "",
        *,
        line: int = 0,
        place: str | None = None,
    ) -> bool:
        """Add an image; tell whether it is new, or is left out.

        Args:
            name: What it is called.
            label: Its class.
            given: Its split code.
            group: Its group.
            line: Of the table that names it; 0 for none.
            place: What tells it from others (default: its name).

        Raises:
            SourceError: It is there already, in another group.
        """
        known = [place or name, nfc(label), str(given)]
        again = not self._seen.add(_number_of(known))
        if self._seen.add(_number_of([*known, group])) and again:
            raise SourceError(
                "one group for each image",
                f"{name} is in two, one of them {group or 'none'!r}",
                "Keep one of its rows.",
            )
        if again:
            self._repeated += 1
            return False
        self.names.append(name)
        number = self._number.setdefault(nfc(label), len(self._number))
        if number == len(self._written):
            self._written.append(label)
        self._labels.append(number)
        self._given.append(given)
        self._lines.append(line)
        self._groups.append(self._shared.setdefault(group, group))
        return True

    def labelled(
        self, source: str, images: UnpreparedImages, classes: Sequence[str]
    ) -> LabelledImages:
        """Return the images with what was gathered of them, their classes in an order."""
        order = np.array(places_among(self._written, classes), np.int64)
        return LabelledImages(
            source=source,
            classes=tuple(classes),
            labels=order[np.frombuffer(self._labels, "q")],
            given=np.frombuffer(bytes(self._given), np.uint8),
            names=self.names,
            images=images,
            groups=self._groups if any(self._shared) else (),
            lines=np.frombuffer(self._lines, "q") if any(self._lines) else None,
            repeated=self._repeated,
        )


def _number_of(words: Sequence[str]) -> int:
    text = "\0".join(words).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def check_classes(
    source: str, classes: Sequence[str], labels: NDArray[np.int64], given: NDArray[np.uint8]
) -> None:
    """Refuse images that no classifier can be made from.

    Raises:
        SourceError: No images, a single class, a class with fewer than two images, or one that a
            part has and the training part lacks.
    """
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
