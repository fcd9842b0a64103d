"""How accuracy falls when images are disturbed a little.

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
from numpy.typing import NDArray
from PIL import Image

from opsin.core.artifacts.run_report import (
    DisturbanceKind,
    DisturbedAccuracy,
    RobustnessFigures,
)
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

_Disturb = Callable[[NDArray[np.uint8], float, np.random.Generator], NDArray[np.uint8]]


@dataclass(frozen=True)
class Disturbance:
    """One way to disturb images, at three strengths.

    Args:
        name: What it is called.
        strengths: From weak to strong.
        unit: What strengths are numbers of.
        words: What a strength is called, such as ``moved by {:.0%} of the side``.
        disturb: Disturbs one image, ``uint8[H, W, C]``, by a strength.
    """

    name: str
    strengths: tuple[float, float, float]
    unit: str
    words: str
    disturb: _Disturb


def robustness(
    answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    images: Images,
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    most: int = MOST,
    watcher: Watcher = SILENT,
) -> RobustnessFigures:
    """Measure the accuracy on disturbed images: six kinds, three strengths each, weak to strong."""
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    pixels, own = images[chosen], labels[chosen]
    numbers = None if groups is None else number_groups(groups[chosen])

    def hits(shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return np.asarray(answer(shown).argmax(axis=1) == own)

    steps = 1 + sum(len(kind.strengths) for kind in DISTURBANCES)
    watcher.begin("Disturb", steps * len(chosen), "images")
    before = hits(pixels)
    watcher.advance(done := len(chosen))
    kinds = []
    for number, kind in enumerate(DISTURBANCES):
        levels = []
        for strength in kind.strengths:
            after = hits(_disturbed(kind, strength, pixels, [seed, number]))
            levels.append(_level(kind, strength, before, after, numbers))
            watcher.advance(done := done + len(chosen))
        kinds.append(DisturbanceKind(name=kind.name, unit=kind.unit, levels=levels))
    watcher.end()
    low, high = share(before, numbers)
    return RobustnessFigures(
        images=len(chosen),
        of=len(rows),
        seed=seed,
        accuracy=float(before.mean()),
        low=low,
        high=high,
        kinds=kinds,
    )


def _disturbed(
    kind: Disturbance, strength: float, images: NDArray[np.uint8], seed: Sequence[int]
) -> NDArray[np.uint8]:
    """Disturb images, with the same draws at each strength, whatever was drawn for other kinds."""
    drawn = np.random.default_rng(seed)
    return np.stack([kind.disturb(each, strength, drawn) for each in images])


def disturbed_examples(pixels: NDArray[np.uint8], *, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    """Return one image disturbed in each way, to be shown."""
    return {
        kind.name: np.concatenate(
            [
                _disturbed(kind, strength, pixels[None], [seed, number])
                for strength in kind.strengths
            ]
        )
        for number, kind in enumerate(DISTURBANCES)
    }


def paired_change(lost: int, won: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of the change between two accuracies on the same images."""
    down, up = (lost + 1) / (count + 2), (won + 1) / (count + 2)
    spread = _Z * np.sqrt((down + up - (up - down) ** 2) / (count + 2))
    return max(-1.0, float(up - down - spread)), min(1.0, float(up - down + spread))


def _level(
    kind: Disturbance,
    strength: float,
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    groups: NDArray[np.int64] | None,
) -> DisturbedAccuracy:
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    low, high = share(after, groups)
    change_low, change_high = (
        paired_change(lost, won, len(after))
        if groups is None
        else interval_by_groups(after.astype(np.int64) - before, groups)
    )
    return DisturbedAccuracy(
        strength=strength,
        words=kind.words.format(strength),
        accuracy=float(after.mean()),
        low=low,
        high=high,
        lost=lost,
        won=won,
        change=(won - lost) / len(after),
        change_low=change_low,
        change_high=change_high,
    )


def _shift(
    pixels: NDArray[np.uint8], share: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Move in one of eight directions; the border is repeated."""
    directions = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    direction = np.array(directions[random.integers(len(directions))])
    moves = share * np.array(pixels.shape[:2])
    # Whole pixels, so that nothing is blurred as well; tiny images leave no choice.
    moves = np.where(moves >= 1, np.round(moves), moves)
    moved = ndimage.shift(
        pixels.astype(np.float32), (*(direction * moves), 0), order=1, mode="nearest"
    )
    return _to_pixels(moved)


def _rotate(
    pixels: NDArray[np.uint8], degrees: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Turn left or right about the middle; the border is repeated."""
    sign = random.choice([-1, 1])
    turned = ndimage.rotate(
        pixels.astype(np.float32), sign * degrees, reshape=False, order=1, mode="nearest"
    )
    return _to_pixels(turned)


def _noise(
    pixels: NDArray[np.uint8], share: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    return _to_pixels(pixels + 255 * share * random.standard_normal(pixels.shape))


def _blur(
    pixels: NDArray[np.uint8], share: float, _random: np.random.Generator
) -> NDArray[np.uint8]:
    sigma = share * np.sqrt(pixels.shape[0] * pixels.shape[1])
    blurred = ndimage.gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0), mode="nearest")
    return _to_pixels(blurred)


def _jpeg(
    pixels: NDArray[np.uint8], quality: float, _random: np.random.Generator
) -> NDArray[np.uint8]:
    plain = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    stream = io.BytesIO()
    Image.fromarray(plain).save(stream, "JPEG", quality=int(quality))
    return np.array(Image.open(stream), np.uint8).reshape(pixels.shape)


def _brightness(
    pixels: NDArray[np.uint8], share: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Add or take away the same light everywhere, as a flash or a shadow does."""
    sign = random.choice([-1, 1])
    return _to_pixels(pixels + np.float32(255 * share * sign))


def _to_pixels(values: NDArray[Any]) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


DISTURBANCES: Final = (
    Disturbance(
        "shift", (0.04, 0.08, 0.12), "share of the side", "moved by {:.0%} of the side", _shift
    ),
    Disturbance("rotation", (5, 10, 15), "degrees", "turned by {:.0f}°", _rotate),
    Disturbance("noise", (0.02, 0.05, 0.1), "share of white", "noise of {:.0%} of white", _noise),
    Disturbance(
        "blur", (0.015, 0.025, 0.04), "share of the side", "blurred over {:.1%} of the side", _blur
    ),
    Disturbance("JPEG", (80, 50, 20), "quality", "JPEG of quality {:.0f}", _jpeg),
    Disturbance(
        "brightness",
        (0.05, 0.1, 0.2),
        "share of white",
        "lighter or darker by {:.0%} of white",
        _brightness,
    ),
)
