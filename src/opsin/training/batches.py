"""One part of the split, handed out in batches."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from opsin.core.arrays import Ints, Pixels
from opsin.data.lazy_images import Images, read_rows
from opsin.training.process_group import ALONE, ProcessGroup

# Share of a GPU's free memory that images may take.
_SHARE = 0.5


class TrainingBatches:
    """Images and labels of one part of the split.

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
        self._there: Tensor | None = None
        if device.type == "cuda" and isinstance(images, np.ndarray):
            free, _ = torch.cuda.mem_get_info(device)
            if len(rows) * images[0].nbytes < _SHARE * free:
                self._there = torch.from_numpy(images[rows]).to(device)

    def __len__(self) -> int:
        return len(self.rows)

    def batches(
        self, order: Ints, size: int, start: int = 0, *, at_once: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images ``uint8[B, H, W, C]`` and labels ``int64[B]`` on the device."""
        spans = spans_of(len(order), size, start, self.group.world)
        shares = [np.arange(begin, end)[self.group.share] for begin, end in spans]
        with contextlib.closing(self._images(order, shares, at_once)) as images:
            for batch, share in zip(images, shares, strict=True):
                labels = torch.from_numpy(self.labels[order[share]])
                yield batch.to(self.device), labels.to(self.device)

    def _images(self, order: Ints, shares: list[Ints], at_once: int | None) -> Generator[Tensor]:
        """Yield the images of this process's share of each batch."""
        if self._there is not None:
            for share in shares:
                yield self._there[torch.from_numpy(order[share]).to(self.device)]
        elif at_once is None and isinstance(self.images, np.ndarray):
            for share in shares:
                yield torch.from_numpy(self.images[self.rows[order[share]]])
        else:
            blocks = shares if at_once is None else _cut(shares, at_once)
            rows = (self.rows[order[block]] for block in blocks)
            with contextlib.closing(
                _ahead(functools.partial(read_rows, self.images), rows)
            ) as read:
                for images in read if at_once is None else _regrouped(read, map(len, shares)):
                    yield torch.from_numpy(images)


def spans_of(count: int, size: int, start: int = 0, world: int = 1) -> Iterator[tuple[int, int]]:
    """Yield start and end of each batch, all processes' shares together."""
    least = max(2, world)
    while start < count:
        end = min(start + size, count)
        if count - end < least:
            end = count
        yield start, end
        start = end


def _cut(shares: Sequence[Ints], at_once: int) -> list[Ints]:
    """Cut the places of all batches anew, where a number is a multiple of ``at_once``."""
    places = np.concatenate([*shares, np.empty(0, np.int64)])
    return np.split(places, np.flatnonzero(np.diff(places // at_once)) + 1)


def _ahead(read: Callable[[Ints], Pixels], blocks: Iterable[Ints]) -> Generator[Pixels]:
    """Read one block after the other, the next one while one is in use."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ahead: concurrent.futures.Future[Pixels] | None = None
        for block in blocks:
            wanted, ahead = ahead, pool.submit(read, block)
            if wanted is not None:
                yield wanted.result()
        if ahead is not None:
            yield ahead.result()


def _regrouped(blocks: Iterator[Pixels], sizes: Iterable[int]) -> Iterator[Pixels]:
    """Yield the images of all blocks, so many at a time; a block that is used up is let go."""
    block: Pixels | None = None
    at = 0
    for size in sizes:
        pieces, missing = [], size
        while missing:
            if block is None:
                block, at = next(blocks), 0
            # A copy, so that a batch in use keeps no block.
            pieces.append(block[at : at + missing].copy())
            at, missing = at + len(pieces[-1]), missing - len(pieces[-1])
            if at == len(block):
                block = None
        yield np.concatenate(pieces)
