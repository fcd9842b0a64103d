"""Augmentation moves and mirrors pictures, pixel for pixel."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from opsin.training.augment import augment


def batch(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 6, 5, 3), dtype=torch.uint8, generator=generator)


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    rows = (torch.arange(6) + down).clamp(0, 5)
    columns = (torch.arange(5) + right).clamp(0, 4)
    return image[rows][:, columns]


@given(flip=st.booleans(), shift=st.integers(0, 3), seed=st.integers(0, 50))
def test_each_picture_is_a_move_or_a_mirror_of_itself(flip: bool, shift: int, seed: int) -> None:
    images = batch(4, seed)
    generator = torch.Generator().manual_seed(seed)
    changed = augment(images, flip=flip, shift=shift, generator=generator)
    for before, after in zip(images, changed, strict=True):
        moves = [
            candidate
            for down in range(-shift, shift + 1)
            for right in range(-shift, shift + 1)
            for candidate in ([moved(before, down, right)]
                              + ([moved(before, down, right).flip(1)] if flip else []))
        ]  # fmt: skip
        assert any(torch.equal(after, move) for move in moves)


def test_the_same_seed_gives_the_same_changes() -> None:
    images = batch(16)
    one, two, other = (
        augment(images, flip=True, shift=2, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_about_half_are_mirrored() -> None:
    images = batch(400)
    changed = augment(images, flip=True, shift=0, generator=torch.Generator().manual_seed(0))
    mirrored = sum(torch.equal(a, b.flip(1)) for a, b in zip(changed, images, strict=True))
    assert 160 < mirrored < 240
