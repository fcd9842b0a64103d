"""One part of the split, handed out in batches."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opsin.data.lazy_images import Images
from opsin.training.process_group import ALONE, ProcessGroup

# Share of a GPU's free memory that images may take.
_SHARE = 0.5


class TrainingBatches:
    """Images and labels of one part of the split.

    Where a GPU has room for them, the images lie there as ``uint8``. Images that are decoded
    on the fly are read one batch ahead of the training.

    Args:
        images: Images of the whole collection, ``uint8[N, H, W, C]``: in memory, on disk, or
            read on the fly.
        labels: Their labels, ``int64[N]``.
        rows: Which of them are in this part, ``int64[M]``.
        device: Where batches are wanted.
        group: The processes that share each batch.
    """

    def __init__(
        self,
        images: Images,
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
        device: torch.device,
        group: ProcessGroup = ALONE,
    ) -> None:
        self.images = images
        self.labels = labels[rows]
        self.rows = rows
        self.device = device
        self.group = group
        self._there: Tensor | None = None
        if device.type == "cuda" and isinstance(images, np.ndarray):
            free, _ = torch.cuda.mem_get_info(device)
            if len(rows) * images[0].nbytes < _SHARE * free:
                self._there = torch.from_numpy(images[rows]).to(device)

    def __len__(self) -> int:
        return len(self.rows)

    def batches(
        self, order: NDArray[np.int64], size: int, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images ``uint8[B, H, W, C]`` and labels ``int64[B]`` on the device.

        Each process gets its share of the batch.

        Args:
            order: Places in this part, in the order in which they are wanted.
            size: Images in a batch.
            start: How many of ``order`` to pass over.
        """
        spans = self.spans(len(order), size, start)
        if isinstance(self.images, np.ndarray):
            for begin, end in spans:
                yield self._read(order[begin:end][self.group.share])
            return
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            ahead: concurrent.futures.Future[tuple[Tensor, Tensor]] | None = None
            for begin, end in spans:
                wanted, ahead = ahead, pool.submit(self._read, order[begin:end][self.group.share])
                if wanted is not None:
                    yield wanted.result()
            if ahead is not None:
                yield ahead.result()

    def spans(self, count: int, size: int, start: int = 0) -> Iterator[tuple[int, int]]:
        """Yield start and end of each batch, all processes' shares together.

        BatchNorm cannot learn from one image: a last batch of one joins the batch before it, as
        does one that would leave a process without any.
        """
        least = max(2, self.group.world)
        while start < count:
            end = min(start + size, count)
            if count - end < least:
                end = count
            yield start, end
            start = end

    def _read(self, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        labels = torch.from_numpy(self.labels[places]).to(self.device)
        if self._there is not None:
            return self._there[torch.from_numpy(places).to(self.device)], labels
        return torch.from_numpy(self.images[self.rows[places]]).to(self.device), labels
