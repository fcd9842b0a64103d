"""Images that are taken from a source when they are asked for: like an array, in any memory."""

from __future__ import annotations

import concurrent.futures
import functools
import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import Preparation
from opsin.core.platform import cores
from opsin.data.images import ImageLike, read_image

#: Threads that decode; the decoders let each other run.
THREADS: Final = min(16, cores())


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
        """Take everything, for NumPy's functions; it had better fit into the memory."""
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
        like = preparation
        super().__init__((len(images), like.height, like.width, like.channels))
        self._images, self._names, self._preparation = images, names, preparation

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Decode some images."""
        if isinstance(rows, tuple):
            first, *rest = rows
            block = self[first]
            return block[(*[slice(None)] * (block.ndim - 3), *rest)]
        # NumPy's own rules, applied to the row numbers.
        chosen = np.arange(len(self))[rows]
        images = np.empty((chosen.size, *self.shape[1:]), np.uint8)
        wanted = [int(row) for row in chosen.ravel()]

        def read(place: int) -> None:
            row = wanted[place]
            images[place] = read_image(self._images[row], self._preparation, self._names[row])

        if len(wanted) < 2:
            for place in range(len(wanted)):
                read(place)
        else:
            # Looks at every result, so that an error is raised here.
            list(self._pool.map(read, range(len(wanted))))
        return images.reshape(*chosen.shape, *self.shape[1:])

    @functools.cached_property
    def _pool(self) -> concurrent.futures.ThreadPoolExecutor:
        return concurrent.futures.ThreadPoolExecutor(THREADS)
