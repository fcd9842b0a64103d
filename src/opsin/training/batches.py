"""Batches of one part of the split."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Generator, Iterator

import numpy as np
import torch
from torch import Tensor

from opsin.core.arrays import Ints, Pixels
from opsin.data.lazy_images import Images
from opsin.training.process_group import ALONE, ProcessGroup

# Share of a GPU's free memory that images may take.
_SHARE = 0.5


class TrainingBatches:
    """Images and labels of one part of the split.

    Args:
        images: Images of the whole collection, ``uint8[N, H, W, C]``: in memory, or on
            disk.
        labels: Their labels, ``int64[N]``.
        rows: Which of them are in this part, ``int64[M]``.
        device: Where batches are wanted.
        group: The processes that share each batch.
    """

    def __init__(
        self,
        images: Images,
        labels: Ints,
        rows: Ints,
        device: torch.device,
        group: ProcessGroup = ALONE,
    ) -> None:
        self.images = images
        self.labels = labels[rows]
        self.rows = rows
        self.device = device
        self.group = group
        self._on_gpu: Tensor | None = None
        if device.type == "cuda" and isinstance(images, np.ndarray):
            free, _ = torch.cuda.mem_get_info(device)
            if len(rows) * images[0].nbytes < _SHARE * free:
                self._on_gpu = torch.from_numpy(images[rows]).to(device)

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, order: Ints, size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of each batch: images ``uint8[B, H, W, C]``, labels ``int64[B]``."""
        spans = spans_of(len(order), size, start, self.group.world)
        shares = [order[begin:end][self.group.share] for begin, end in spans]
        with contextlib.closing(self._images(shares)) as batches:
            for images, share in zip(batches, shares, strict=True):
                yield images.to(self.device), torch.from_numpy(self.labels[share]).to(self.device)

    def _images(self, shares: list[Ints]) -> Generator[Tensor]:
        if self._on_gpu is not None:
            for share in shares:
                yield self._on_gpu[torch.from_numpy(share).to(self.device)]
        elif isinstance(self.images, np.ndarray):
            for share in shares:
                yield torch.from_numpy(self.images[self.rows[share]])
        else:  # the next batch is decoded while one is in use
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                ahead: concurrent.futures.Future[Pixels] | None = None
                for share in shares:
                    read, ahead = ahead, pool.submit(self.images.__getitem__, self.rows[share])
                    if read is not None:
                        yield torch.from_numpy(read.result())
                if ahead is not None:
                    yield torch.from_numpy(ahead.result())


def spans_of(count: int, size: int, start: int = 0, world: int = 1) -> Iterator[tuple[int, int]]:
    """Start and end of each batch, all processes' shares together."""
    least = max(2, world)
    while start < count:
        end = min(start + size, count)
        if count - end < least:
            end = count
        yield start, end
        start = end
