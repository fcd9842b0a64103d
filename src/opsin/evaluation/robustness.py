"""Accuracy on disturbed images.

After D. Hendrycks and T. Dietterich, "Benchmarking neural network robustness to common corruptions
and perturbations", ICLR 2019; strengths grow with the image's sides, so that they look alike at any
size. The same images are asked about with and without, so the interval of the change is that of
paired proportions: D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a
difference of binomial proportions based on paired data", JEBS 2012.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from opsin.core.arrays import Bools, Floats, Ints, Pixels
from opsin.core.artifacts.run_report import DisturbanceKind, DisturbedAccuracy, RobustnessFigures
from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import Images
from opsin.evaluation.comparison import interval_by_groups
from opsin.evaluation.intervals import number_groups, share

try:
    from scipy import ndimage
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

#: More images than this narrow the intervals little, and take longer.
MOST: Final = 1000
_Z: Final = 1.959963984540054


@dataclass(frozen=True)
class Disturbance:
    """One way to disturb images, at three strengths."""

    name: str  # what it is called
    strengths: tuple[float, float, float]  # from weak to strong
    unit: str  # what strengths are numbers of
    words: str  # what a strength is called, such as ``moved by {:.0%} of the side``
    # Returns one image, ``uint8[H, W, C]``, disturbed by a strength, as numbers that are then
    # rounded.
    change: Callable[[Pixels, float, Generator], NDArray[Any]]

    def apply(self, images: Pixels, strength: float, seed: Sequence[int]) -> Pixels:
        """Disturb images, with the same random draws at each strength."""
        random = np.random.default_rng(seed)
        changed = (self.change(image, strength, random) for image in images)
        return np.stack([np.clip(np.rint(pixels), 0, 255).astype(np.uint8) for pixels in changed])


def robustness(
    answer: Callable[[Pixels], Floats],
    images: Images,
    labels: Ints,
    rows: Ints,
    *,
    groups: Ints | None = None,
    seed: int = 0,
    most: int = MOST,
    watcher: Watcher = SILENT,
) -> RobustnessFigures:
    """Measure the accuracy on disturbed images: six kinds, three strengths each, weak to strong."""
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    pixels, expected = images[chosen], labels[chosen]
    numbers = None if groups is None else number_groups(groups[chosen])
    steps = 1 + sum(len(kind.strengths) for kind in DISTURBANCES)
    watcher.begin("Disturb", steps * len(chosen), "images")
    before = answer(pixels).argmax(axis=1) == expected
    watcher.advance(done := len(chosen))
    kinds = []
    for number, kind in enumerate(DISTURBANCES):
        levels = []
        for strength in kind.strengths:
            after = answer(kind.apply(pixels, strength, [seed, number])).argmax(axis=1) == expected
            levels.append(_level(kind, strength, before, after, numbers))
            watcher.advance(done := done + len(chosen))
        kinds.append(DisturbanceKind(name=kind.name, unit=kind.unit, levels=levels))
    watcher.end()
    low, high = share(before, numbers)
    accuracy = float(before.mean())
    return RobustnessFigures(
        images=len(chosen),
        of=len(rows),
        seed=seed,
        accuracy=accuracy,
        low=low,
        high=high,
        kinds=kinds,
    )


def paired_change(lost: int, won: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of the change between two accuracies on the same images."""
    down, up = (lost + 1) / (count + 2), (won + 1) / (count + 2)
    spread = _Z * np.sqrt((down + up - (up - down) ** 2) / (count + 2))
    return max(-1.0, float(up - down - spread)), min(1.0, float(up - down + spread))


def _level(
    kind: Disturbance, strength: float, before: Bools, after: Bools, groups: Ints | None
) -> DisturbedAccuracy:
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    low, high = share(after, groups)
    if groups is None:
        change_low, change_high = paired_change(lost, won, len(after))
    else:
        change_low, change_high = interval_by_groups(after.astype(np.int64) - before, groups)
    return DisturbedAccuracy(
        strength=strength,
        words=kind.words.format(strength),
        images=len(after),
        accuracy=float(after.mean()),
        low=low,
        high=high,
        lost=lost,
        won=won,
        change=(won - lost) / len(after),
        change_low=change_low,
        change_high=change_high,
    )


def _shift(pixels: Pixels, share: float, random: Generator) -> NDArray[Any]:
    """Move in one of eight directions; the border is repeated."""
    directions = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    direction = np.array(directions[random.integers(len(directions))])
    moves = share * np.array(pixels.shape[:2])
    # Whole pixels, so that nothing is blurred as well; tiny images leave no choice.
    moves = direction * np.where(moves >= 1, np.round(moves), moves)
    single = pixels.astype(np.float32)
    return np.asarray(ndimage.shift(single, (*moves, 0), order=1, mode="nearest"))


def _rotate(pixels: Pixels, degrees: float, random: Generator) -> NDArray[Any]:
    """Turn left or right about the middle; the border is repeated."""
    angle, single = random.choice([-1, 1]) * degrees, pixels.astype(np.float32)
    return np.asarray(ndimage.rotate(single, angle, reshape=False, order=1, mode="nearest"))


def _noise(pixels: Pixels, share: float, random: Generator) -> NDArray[Any]:
    return pixels + 255 * share * random.standard_normal(pixels.shape)


def _blur(pixels: Pixels, share: float, _random: Generator) -> NDArray[Any]:
    sigma, single = share * np.sqrt(pixels.shape[0] * pixels.shape[1]), pixels.astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(single, (sigma, sigma, 0), mode="nearest"))


def _jpeg(pixels: Pixels, quality: float, _random: Generator) -> NDArray[Any]:
    stream = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(stream, "JPEG", quality=int(quality))
    return np.array(Image.open(stream), np.uint8).reshape(pixels.shape)


def _brightness(pixels: Pixels, share: float, random: Generator) -> NDArray[Any]:
    """Add or take away the same light everywhere, as a flash or a shadow does."""
    return pixels + np.float32(255 * share * random.choice([-1, 1]))


_SIDE, _WHITE = "share of the side", "share of white"
DISTURBANCES: Final = (
    Disturbance("shift", (0.04, 0.08, 0.12), _SIDE, "moved by {:.0%} of the side", _shift),
    Disturbance("rotation", (5, 10, 15), "degrees", "turned by {:.0f}°", _rotate),
    Disturbance("noise", (0.02, 0.05, 0.1), _WHITE, "noise of {:.0%} of white", _noise),
    Disturbance("blur", (0.015, 0.025, 0.04), _SIDE, "blurred over {:.1%} of the side", _blur),
    Disturbance("JPEG", (80, 50, 20), "quality", "JPEG of quality {:.0f}", _jpeg),
    Disturbance(
        "brightness", (0.05, 0.1, 0.2), _WHITE, "lighter or darker by {:.0%} of white", _brightness
    ),
)
