"""What a source holds, before anything is decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.file_stamp import MISSING, file_stamp


@dataclass(frozen=True)
class LocatedSource:
    """A source that was found, and not yet read.

    Args:
        key: Changes whenever the content may have changed; cheap to tell.
        open: Reads it.
    """

    key: str
    open: Callable[[], LabelledImages]


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


#: Files still, or arrays already: all of one shape ``uint8[N, H, W, C]``, or each of its own.
Images = Sequence[Path | NDArray[np.uint8]] | NDArray[np.uint8]


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
    """

    source: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    given: NDArray[np.uint8]
    names: Sequence[str]
    images: Images
    groups: Sequence[str] = ()
    mirrored: bool = True

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
                if isinstance(self.images, Files)
                else [self.images[row] for row in rows]
            ),
            groups=[self.groups[row] for row in rows] if self.groups else (),
        )

    def keep(self, classes: Sequence[str]) -> LabelledImages:
        """Keep some classes, in the order given.

        Raises:
            SourceError: One of them is not in the source, or is named twice.
        """
        unknown = [name for name in classes if name not in self.classes]
        if unknown or len(set(classes)) < len(classes):
            raise SourceError(
                f"different classes among {', '.join(self.classes)}",
                f"got {', '.join(unknown or classes)}",
                "Write them as they stand there, separated by commas.",
            )
        new_label = {self.classes.index(name): new for new, name in enumerate(classes)}
        rows = np.flatnonzero(np.isin(self.labels, list(new_label)))
        kept = self.rows(rows)
        labels = np.array([new_label[int(label)] for label in kept.labels], np.int64)
        return replace(kept, classes=tuple(classes), labels=labels)

    def check(self) -> None:
        """Refuse contents that no classifier can be made from: see `check_classes`."""
        check_classes(self.source, self.classes, self.labels)


def check_classes(source: str, classes: Sequence[str], labels: NDArray[np.int64]) -> None:
    """Refuse images that no classifier can be made from.

    Raises:
        SourceError: No images, a single class, or a class with fewer than two images.
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
