"""What images were when they were answered.

Of a file its size and time, of an object on a store its size and version, else its content.

Beside the journal, 8 bytes for each of its records. Where the file is shorter than the journal, or
gone, as it is for work that an earlier version began, nothing is known of the rest: these images
count as they were. So it need not be brought to the disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.closed_folder import ClosedFolder
from opsin.data.image_stream import Unlabelled
from opsin.stores.store_address import StoredObject

#: Nothing is known.
UNKNOWN: Final = 0
_SIZE: Final = 8


class Stamps:
    """The file of them.

    Args:
        folder: Where it lies.
        name: Its name.
        records: How many records the journal has; as many stamps are kept.

    Raises:
        OSError: It is a link or no regular file, or the system refuses it.
    """

    def __init__(self, folder: ClosedFolder, name: str, records: int) -> None:
        self._folder, self._name = folder, name
        self._file = folder.open(name, "ab")
        with folder.open(name, "rb+") as file:
            file.truncate(records * _SIZE)

    def blocks(self, size: int) -> Iterator[NDArray[np.uint64]]:
        """Yield them, ``size`` at a time."""
        with self._folder.open(self._name) as file:
            while content := file.read(size * _SIZE):
                yield np.frombuffer(content, "<u8").astype(np.uint64)

    def append(self, stamps: Iterable[int]) -> None:
        """Add those of further records."""
        left = memoryview(np.fromiter(stamps, "<u8").tobytes())
        while left:
            left = left[self._file.write(left) or 0 :]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def stamp_of(image: Unlabelled, key: bytes) -> int:
    """Return what distinguishes an image from another of its name; `UNKNOWN` where nothing does.

    Args:
        image: Where it is, or its content.
        key: The journal's, so that no two can be made that share it.
    """
    if image.path is not None:
        try:
            found = os.stat(image.path)  # noqa: PTH116  a second's work of paths, in a million
        except OSError:
            return UNKNOWN
        content = f"{found.st_size} {found.st_mtime_ns}".encode()
    elif isinstance(image.image, StoredObject) and image.image.stamp:
        content = image.image.stamp.encode()
    elif isinstance(image.image, bytes):
        content = image.image
    else:
        return UNKNOWN
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=key).digest(), "big") or 1


def last_rows(
    records: BinaryIO, again: frozenset[int], form: np.dtype[np.void], block: int
) -> dict[int, int]:
    """Return the number of the last record of each of some images.

    Args:
        records: The journal, where its records begin.
        again: Digests of their names.
        form: A record's.
        block: How many to read at once.
    """
    wanted, last, first = np.array(sorted(again), np.uint64), dict[int, int](), 0
    while content := records.read(block * form.itemsize):
        images = np.frombuffer(content, form)["image"].astype(np.uint64)
        for place in np.flatnonzero(np.isin(images, wanted)).tolist():
            last[int(images[place])] = first + place
        first += len(images)
    return last
