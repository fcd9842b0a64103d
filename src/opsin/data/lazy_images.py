"""Array-like images that are read on access, and sets of them with known classes."""

from __future__ import annotations

import concurrent.futures
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Ints, Pixels
from opsin.core.errors import SourceError
from opsin.core.metadata import Preparation
from opsin.core.platform import cores
from opsin.data.images import ImageLike, read_image

#: Threads that decode; the decoders release the GIL.
THREADS: Final = min(16, cores())


class LazyImages:
    """An array ``uint8[N, H, W, C]`` whose rows are read on each access."""

    dtype: np.dtype[np.uint8] = np.dtype(np.uint8)
    ndim: int = 4

    def __init__(self, read: Callable[[Ints], Pixels], rows: Ints, shape: tuple[int, ...]) -> None:
        self._read, self._rows = read, rows
        self.shape: tuple[int, ...] = (len(rows), *shape)
        self.nbytes: int = math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} uint8{list(self.shape)}>"

    def __getitem__(self, index: Any) -> Pixels:
        first, *rest = index if isinstance(index, tuple) else (index,)
        rows = np.asarray(self._rows[first])
        pixels = self._read(rows.ravel()).reshape(*rows.shape, *self.shape[1:])
        return pixels[(*(slice(None),) * rows.ndim, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("images that are read when they are asked for are always copies")
        return self[:].astype(dtype or np.uint8, copy=False)


#: Decoded images ``uint8[N, H, W, C]``: an array, a memory map, or images read on access.
Images = Pixels | LazyImages


def subset(images: Images, rows: Ints) -> LazyImages:
    """Return a view of some images."""
    return LazyImages(images.__getitem__, rows, images.shape[1:])


def decode_lazily(
    images: Sequence[ImageLike] | NDArray[np.uint8 | np.uint16],
    names: Sequence[str],
    preparation: Preparation,
) -> LazyImages:
    """Return images that are decoded on each access."""
    shape = preparation.shape

    def read(rows: Ints) -> Pixels:
        pixels = np.empty((len(rows), *shape), np.uint8)
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            decoded = pool.map(lambda row: read_image(images[row], preparation, names[row]), rows)
            for number, image in enumerate(decoded):
                pixels[number] = image
        return pixels

    return LazyImages(read, np.arange(len(images)), shape)


@dataclass(frozen=True)
class ReferenceSet:
    """Images with known classes, prepared for one classifier."""

    images: Images
    labels: Ints
    names: Sequence[str]
    train: Ints
    val: Ints
    source: str
    test: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    own: bool = False
    groups: Ints | None = None

    def row_called(self, name: str) -> int | None:
        """Return the row of an image by its name, or by its part and number: ``test/17``."""
        if name in self.names:
            return list(self.names).index(name)
        part, _, number = name.partition("/")
        parts = {"train": self.train, "val": self.val, "test": self.test}
        rows = range(len(self.names)) if part == "out_of_fold" else parts.get(part, ())
        return int(rows[int(number)]) if number.isdecimal() and int(number) < len(rows) else None

    def rows_of(self, part: Literal["train", "val"]) -> Ints:
        """Return a part's rows, ascending."""
        rows = np.sort(self.train if part == "train" else self.val)
        if not len(rows):
            kind = "training" if part == "train" else "validation"
            raise SourceError(f"{self.source} has no {kind} images", "Give others: --data SOURCE.")
        return rows
