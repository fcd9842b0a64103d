"""Random changes to whole batches of training pictures."""

from __future__ import annotations

import torch
from torch import Tensor


def augment(images: Tensor, *, flip: bool, shift: int, generator: torch.Generator) -> Tensor:
    """Mirror and move each picture of a batch at random.

    A moved picture's border is filled by repeating its outermost pixels, so that no edge appears
    that no photograph has. Both changes are one gathering of pixels, and exact.

    Args:
        images: ``uint8[N, H, W, C]``
        flip: Mirror each picture left to right with probability one half.
        shift: Move each by up to this many pixels, up or down and left or right.
        generator: Source of randomness, on the CPU.

    Returns:
        ``uint8[N, H, W, C]``
    """
    if not flip and not shift:
        return images
    count, height, width = images.shape[:3]

    def places(size: int) -> Tensor:
        moves = torch.randint(-shift, shift + 1, (count, 1), generator=generator)
        return (torch.arange(size) + moves).clamp(0, size - 1)

    rows, columns = places(height), places(width)
    if flip:
        mirrored = torch.rand((count, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    device = images.device
    picture = torch.arange(count, device=device)[:, None, None]
    return images[picture, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
