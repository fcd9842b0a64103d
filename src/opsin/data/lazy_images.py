"""Array-like images that are read on access, and sets of them with known classes."""

from __future__ import annotations

import concurrent.futures
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.metadata import Preparation
from opsin.core.platform import cores
from opsin.data.images import ImageLike, read_image

#: Threads that decode; the decoders release the GIL.
THREADS: Final = min(16, cores())


class _LikeArray:
    dtype: np.dtype[np.uint8] = np.dtype(np.uint8)
    ndim: int = 4

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape: tuple[int, ...] = shape
        self.nbytes: int = math.prod(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} uint8{list(self.shape)}>"

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("images that are read when they are asked for are always copies")
        return self[:].astype(dtype or np.uint8, copy=False)


class ImageSubset(_LikeArray):
    """A view of some images."""

    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        super().__init__((len(rows), *images.shape[1:]))
        self.images, self.rows = images, rows

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if isinstance(rows, tuple):
            first, *rest = rows
            return self.images[(self.rows[first], *rest)]
        return self.images[self.rows[rows]]


class LazyImages(_LikeArray):
    """Images of a source, decoded on each access."""

    def __init__(
        self,
        images: Sequence[ImageLike] | NDArray[np.uint8 | np.uint16],
        names: Sequence[str],
        preparation: Preparation,
    ) -> None:
        shape = (preparation.height, preparation.width, preparation.channels)
        super().__init__((len(images), *shape))
        self._images, self._names, self._preparation = images, names, preparation

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        # NumPy's indexing rules, applied to the row numbers.
        chosen = np.arange(len(self))[rows]
        images = np.empty((chosen.size, *self.shape[1:]), np.uint8)

        def read(row: int) -> NDArray[np.uint8]:
            return read_image(self._images[row], self._preparation, self._names[row])

        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            for number, pixels in enumerate(pool.map(read, chosen.ravel().tolist())):
                images[number] = pixels
        return images.reshape(*chosen.shape, *self.shape[1:])


#: Decoded images ``uint8[N, H, W, C]``: an array, a memory map, or images read on access.
Images = NDArray[np.uint8] | ImageSubset | LazyImages


@dataclass(frozen=True)
class ReferenceSet:
    """Images with known classes, prepared for one classifier."""

    images: Images
    labels: NDArray[np.int64]
    names: Sequence[str]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    source: str
    test: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    own: bool = False
    groups: NDArray[np.int64] | None = None

    def row_called(self, name: str) -> int | None:
        """Return the row of an image by its name, or by its part and number: ``test/17``."""
        if name in self.names:
            return list(self.names).index(name)
        part, _, number = name.partition("/")
        rows = {"train": self.train, "val": self.val, "test": self.test}.get(part, ())
        return int(rows[int(number)]) if number.isdecimal() and int(number) < len(rows) else None

    def rows_of(self, part: Literal["train", "val"]) -> NDArray[np.int64]:
        """Return a part's rows, ascending."""
        rows = np.sort(self.train if part == "train" else self.val)
        if not len(rows):
            kind = "training" if part == "train" else "validation"
            raise SourceError(f"{self.source} has no {kind} images", "Give others: --data SOURCE.")
        return rows
