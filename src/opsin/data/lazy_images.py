"""Images that are taken from a file or a source when they are asked for: like an array."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import math
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import Preparation
from opsin.core.platform import cores
from opsin.data.images import ImageLike, read_image

#: Threads that decode; the decoders let each other run.
THREADS: Final = min(16, cores())
# Bytes that are read at once, and images in between that are read with those around them.
_BLOCK: Final = 1 << 22
_BETWEEN: Final = 8


class Images(Protocol):
    """Decoded images ``uint8[N, H, W, C]``: an array, a memory map, or images read on the fly."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, height, width, channels."""

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """``uint8``, always."""

    @property
    def ndim(self) -> int:
        """Four, always."""

    @property
    def nbytes(self) -> int:
        """Bytes of all images together."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]: ...

    def __array__(self) -> NDArray[np.uint8]: ...


class _LikeArray:
    """What an array tells of itself."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[np.uint8] = np.dtype(np.uint8)
        self.ndim: int = 4
        self.nbytes: int = math.prod(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} uint8{list(self.shape)}>"

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("images that are read on the fly are always copies")
        return self[:].astype(dtype or np.uint8, copy=False)


class ImageSubset(_LikeArray):
    """Some images of others, not copied."""

    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        super().__init__((len(rows), *images.shape[1:]))
        self.images, self.rows = images, rows

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if isinstance(rows, tuple):
            first, *rest = rows
            return self.images[(self.rows[first], *rest)]
        return self.images[self.rows[rows]]


class LazyImages(_LikeArray):
    """Images too many for the disk: each is decoded anew when its row is taken."""

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
        if isinstance(rows, tuple):
            first, *rest = rows
            block = self[first]
            return block[(*[slice(None)] * (block.ndim - 3), *rest)]
        # NumPy's own rules, applied to the row numbers.
        chosen = np.arange(len(self))[rows]
        wanted = chosen.ravel().tolist()

        def read(row: int) -> NDArray[np.uint8]:
            return read_image(self._images[row], self._preparation, self._names[row])

        images = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        decoded = map(read, wanted) if len(wanted) < 2 else self._pool.map(read, wanted)
        for number, pixels in enumerate(decoded):
            images[number] = pixels
        return images.reshape(*chosen.shape, *self.shape[1:])

    @functools.cached_property
    def _pool(self) -> concurrent.futures.ThreadPoolExecutor:
        return concurrent.futures.ThreadPoolExecutor(THREADS)


def read_rows(images: Images, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read some images, in any order, neighbours on the disk in one go."""
    while isinstance(images, ImageSubset):
        rows = images.rows[rows]
        images = images.images
    found = np.empty((len(rows), *images.shape[1:]), np.uint8)
    ascending = np.argsort(rows)
    step = max(1, _BLOCK // max(1, math.prod(images.shape[1:])))
    with contextlib.ExitStack() as stack:
        take: Callable[[NDArray[np.int64]], NDArray[np.uint8]] = images.__getitem__
        base: object = getattr(images, "base", None)
        # A part of a map has the whole one's place in the file, and a base that is no map.
        if isinstance(images, np.memmap) and isinstance(base, mmap.mmap):
            file = stack.enter_context(Path(str(images.filename)).open("rb"))
            take = functools.partial(_neighbours, file, images.offset, images.shape[1:])
        for start in range(0, len(rows), step):
            places = ascending[start : start + step]
            found[places] = take(rows[places])
    return found


def _neighbours(
    file: IO[bytes], offset: int, shape: tuple[int, ...], rows: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Read images, ascending, from an ``.npy`` file; a few that are in between are read as well."""
    size, runs = math.prod(shape), []
    for run in np.split(rows, np.flatnonzero(np.diff(rows) > _BETWEEN) + 1):
        first, last = int(run[0]), int(run[-1])
        file.seek(offset + first * size)
        block = np.frombuffer(file.read((last - first + 1) * size), np.uint8)
        runs.append(block.reshape(-1, *shape)[run - first])
    return np.concatenate(runs)
