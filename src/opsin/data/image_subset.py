"""Images without some of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.data.cache import Decoded
from opsin.data.lazy_images import Images


class ImageSubset:
    """Images without those that are left out, not copied: see `opsin.data.lazy_images.Images`."""

    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self.shape: tuple[int, ...] = (len(rows), *images.shape[1:])
        self.dtype: np.dtype[np.uint8] = np.dtype(np.uint8)
        self.ndim: int = 4
        self.nbytes: int = math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<ImageSubset uint8{list(self.shape)}>"

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Take images as from an array; see `opsin.data.lazy_images.LazyImages`."""
        if isinstance(rows, tuple):
            first, *rest = rows
            return self._images[(self._rows[first], *rest)]
        return self._images[self._rows[rows]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Take everything, for NumPy's functions; it had better fit into the memory."""
        if copy is False:
            raise ValueError("images that remain of others are always copies")
        return self[:].astype(dtype or np.uint8, copy=False)


def take(decoded: Decoded, rows: NDArray[np.int64]) -> Decoded:
    """Return some of the images, in the order of ``rows``, with all that is known of each."""
    return replace(
        decoded,
        images=ImageSubset(decoded.images, rows),
        labels=decoded.labels[rows],
        given=decoded.given[rows],
        digests=decoded.digests[rows],
        source_digests=decoded.source_digests[rows],
        sizes=decoded.sizes[rows],
        ranges=decoded.ranges[rows],
        rows=None if decoded.rows is None else decoded.rows[rows],
        source_labels=None if decoded.source_labels is None else decoded.source_labels[rows],
        names=[decoded.names[row] for row in rows],
        groups=[decoded.groups[row] for row in rows] if decoded.groups else [],
    )
