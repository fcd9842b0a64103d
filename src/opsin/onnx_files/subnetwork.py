"""A piece of a network that runs by itself, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import Layer
from opsin.data.lazy_images import Images
from opsin.onnx_files.postprocessing import IMAGES
from opsin.runtime.providers import cpu_session

# Bytes that a batch may take in the largest layer; the network holds a few layers at once.
_ROOM: Final = 64_000_000
_MOST: Final = 256


@dataclass(frozen=True)
class SubnetworkBatch:
    """Some images, and what a part of the network makes of them."""

    rows: NDArray[np.int64]  # int64[B]
    images: NDArray[np.uint8]  # uint8[B, H, W, C]
    values: tuple[NDArray[Any], ...]  # float32[B, ...]


class Subnetwork:
    """A piece of a network."""

    def __init__(self, content: bytes) -> None:
        self._session = cpu_session(content)
        self.outputs: tuple[str, ...] = tuple(out.name for out in self._session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        """Return the outputs for some inputs, in the order of ``outputs``."""
        return tuple(self._session.run(list(self.outputs), dict(inputs)))

    def stream(
        self, images: Images, rows: NDArray[np.int64] | None, size: int
    ) -> Iterator[SubnetworkBatch]:
        """Yield batch by batch what this part makes of images."""
        count = len(images) if rows is None else len(rows)
        for start in range(0, count, size):
            end = min(start + size, count)
            some = np.arange(start, end) if rows is None else rows[start:end]
            batch = np.ascontiguousarray(images[start:end] if rows is None else images[some])
            yield SubnetworkBatch(some, batch, self.run({IMAGES: batch}))


def batch_size(layers: Iterable[Layer]) -> int:
    """Return how many images may run at once, so that large layers fit into the memory."""
    largest = max((math.prod(layer.shape) for layer in layers), default=1)
    return max(1, min(_MOST, _ROOM // (4 * max(largest, 1))))
