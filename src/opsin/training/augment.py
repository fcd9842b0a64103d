"""Random changes to whole batches of training images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from opsin.core.recipe import TrainingRecipe

# Largest aspect ratio of a crop.
_ASPECT = 4 / 3


@dataclass(frozen=True)
class _Chance:
    """Random numbers, one for each image of a batch, ``[N, 1]``."""

    generator: torch.Generator
    count: int

    def integers(self, low: int, high: int) -> Tensor:
        return torch.randint(low, high, (self.count, 1), generator=self.generator)

    def signed(self) -> Tensor:
        return 2 * self.uniform() - 1

    def uniform(self) -> Tensor:
        return torch.rand((self.count, 1), generator=self.generator)


def augment(
    images: Tensor,
    recipe: TrainingRecipe,
    generator: torch.Generator,
    mirrored: Tensor | None = None,
) -> Tensor:
    """Augment each image of a batch: its position, brightness and colour, and an erased square."""
    chance = _Chance(generator, len(images))
    if recipe.zoom or recipe.rotate or recipe.crop:
        varied = _transform(images, recipe, chance, mirrored)
    elif recipe.flip or recipe.shift:
        varied = _move(images, recipe, chance, mirrored)
    else:
        varied = images
    if recipe.brightness:
        varied = _relight(varied, recipe.brightness, chance)
    if recipe.colour and images.shape[3] == 3:
        varied = _recolour(varied, recipe.colour, chance)
    if recipe.erase:
        varied = _erase(varied, _mean_colour(images), recipe.erase, chance)
    return varied


def _draw_moves(
    recipe: TrainingRecipe, chance: _Chance, mirrored: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw shifts down and right in pixels, ``int64[N, 1]``, and mirrored images."""
    none = torch.zeros((chance.count, 1), dtype=torch.int64)
    down = right = none
    if recipe.shift:
        low, high = -recipe.shift, recipe.shift + 1
        down, right = chance.integers(low, high), chance.integers(low, high)
    if not recipe.flip:
        return down, right, none.bool()
    if mirrored is None:
        mirrored = torch.rand(chance.count, generator=chance.generator) < 0.5
    return down, right, mirrored[:, None]


def _move(images: Tensor, recipe: TrainingRecipe, chance: _Chance, chosen: Tensor | None) -> Tensor:
    count, height, width, channels = images.shape
    down, right, mirrored = _draw_moves(recipe, chance, chosen)
    rows = (torch.arange(height) + down).clamp(0, height - 1)
    columns = torch.arange(width)
    columns = torch.where(mirrored, columns.flip(0), columns)
    columns = (columns + right).clamp(0, width - 1)
    if recipe.shift:
        indices = (height * torch.arange(count)[:, None] + rows).view(-1).to(images.device)
        images = images.reshape(count * height, -1).index_select(0, indices)
    values = (channels * columns[:, :, None] + torch.arange(channels)).view(count, 1, -1)
    flat = images.reshape(count, height, -1)
    return flat.gather(2, values.to(images.device).expand_as(flat)).view(
        count, height, width, channels
    )


def _transform(
    images: Tensor, recipe: TrainingRecipe, chance: _Chance, chosen: Tensor | None
) -> Tensor:
    """Crop, zoom, turn, move and mirror in one affine map, interpolated between four pixels."""
    count, height, width, channels = images.shape
    down, right, mirrored = _draw_moves(recipe, chance, chosen)
    turn = torch.zeros((count, 1))
    # Scales down and across, and the centre of the crop.
    tall = wide = torch.ones((count, 1))
    row, column = 2 * down / height, 2 * right / width
    if recipe.zoom:
        tall = wide = 1 + recipe.zoom * chance.signed()
    if recipe.rotate:
        turn = math.radians(recipe.rotate) * chance.signed()
    if recipe.crop:
        area = recipe.crop + (1 - recipe.crop) * chance.uniform()
        aspect = (chance.signed() * math.log(_ASPECT)).exp()
        high, broad = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)
        row, column = row + (1 - high) * chance.signed(), column + (1 - broad) * chance.signed()
        tall, wide = tall / high, wide / broad
    # From a place in the new image to one in the old; both run from -1 to 1, whatever the
    # sides are, so that a turn of an image that is not square needs their ratio.
    sign = 1 - 2 * mirrored.float()
    across = torch.cat(
        [sign * (turn.cos() / wide), -(turn.sin() / tall) * height / width, column], dim=1
    )
    along = torch.cat([sign * (turn.sin() / wide) * width / height, turn.cos() / tall, row], dim=1)
    maps = torch.stack([across, along], dim=1).to(images.device)
    side = recipe.crop_side if recipe.crop else None
    shape = [count, channels, side or height, side or width]
    places = nn.functional.affine_grid(maps, shape, align_corners=False)
    values = nn.functional.grid_sample(
        images.permute(0, 3, 1, 2).float(),
        places,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return values.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _relight(images: Tensor, light: float, chance: _Chance) -> Tensor:
    """Multiply each image's contrast about its own mean, then its brightness, by factors."""
    count = len(images)
    contrast = (1 + light * chance.signed()).to(images.device)
    brightness = (1 + light * chance.signed()).to(images.device)
    values = images.reshape(count, -1).float()
    mean = values.mean(dim=1, keepdim=True)
    # brightness * (mean + contrast * (value - mean)), with one product for each value
    values.mul_(brightness * contrast).add_(brightness * (1 - contrast) * mean)
    return values.round_().clamp_(0, 255).to(torch.uint8).view(images.shape)


def _recolour(images: Tensor, share: float, chance: _Chance) -> Tensor:
    """Multiply each image's saturation, and each of its channels, by factors."""
    saturation = (1 + share * chance.signed()).to(images.device)[:, :, None, None]
    tint = torch.cat([1 + share / 4 * chance.signed() for _ in range(3)], dim=1)
    values = images.float()
    grey = values.mean(dim=3, keepdim=True)
    values = (grey + saturation * (values - grey)) * tint.to(images.device)[:, None, None]
    return values.round_().clamp_(0, 255).to(torch.uint8)


def _erase(images: Tensor, colour: Tensor, share: float, chance: _Chance) -> Tensor:
    """Erase a square of each image, perhaps across its border (Cutout, arXiv:1708.04552)."""
    count, height, width, channels = images.shape
    side = max(1, round(share * min(height, width)))
    offsets = torch.arange(side) - side // 2
    # Rows beyond the border are clamped to the outermost one, which the square covers anyhow.
    rows = (chance.integers(0, height) + offsets).clamp(0, height - 1)
    columns = (chance.integers(0, width) + offsets).clamp(0, width - 1)
    starts = width * (height * torch.arange(count)[:, None] + rows)
    places = (starts[:, :, None] + columns[:, None, :]).view(-1).to(images.device)
    varied = images.clone(memory_format=torch.contiguous_format)
    varied.view(-1, channels)[places] = colour
    return varied


def _mean_colour(images: Tensor) -> Tensor:
    """The approximate mean colour of a batch, ``uint8[C]``, from some 64 pixels an image."""
    step = max(1, min(images.shape[1:3]) // 8)
    seen = images[:, ::step, ::step]
    total = seen.sum(dim=(0, 1, 2), dtype=torch.int64)
    return (total / seen[..., 0].numel()).round().to(torch.uint8)
