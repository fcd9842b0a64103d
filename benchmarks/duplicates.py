"""How many changed copies of images are found, how many others are, and how long it takes.

    python -m benchmarks.duplicates [FOLDER …] --plant 1000 --out duplicates.json

Without FOLDER, images are made. Of each folder's images some are copied, changed and put among
the others, one kind of change at a time: JPEG at quality 50, a crop of 90% of each side anywhere,
half to double size, a mirror image, brightness ±30%. Recall is the share of them that is found;
false pairs are those of a planted image with another than its original, by the number of images
(what is found without planting is a matter for the eye: `opsin data FOLDER --audit`). Then images
of the first folder, mixed two by two so that none repeats, are searched in growing numbers.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

import opsin
from benchmarks.reading import write_photos
from opsin.data.images import read_image
from opsin.data.near_duplicates import find_near_duplicates

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _jpeg(image: Image.Image, _: np.random.Generator) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=50)
    return Image.open(stream)


def _crop(image: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = round(0.9 * image.width), round(0.9 * image.height)
    left = int(random.integers(image.width - width + 1))
    top = int(random.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _resize(image: Image.Image, random: np.random.Generator) -> Image.Image:
    scale = random.choice([0.5, 0.75, 1.5, 2.0])
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.BICUBIC)


def _flip(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _brightness(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(random.choice([0.7, 0.85, 1.15, 1.3]))


CHANGES: Final[dict[str, Change]] = {
    "jpeg 50": _jpeg, "crop 90%": _crop, "resize": _resize, "flip": _flip,
    "brightness": _brightness,
}  # fmt: skip


def main() -> None:
    """Measure recall and false pairs, then how the time grows, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--made",
        type=int,
        default=1000,
        metavar="N",
        help="images to make where no folder is given",
    )
    parser.add_argument("--plant", type=int, default=1000, help="copies of each kind")
    parser.add_argument("--sizes", type=int, nargs="*", default=(10_000, 60_000, 240_000))
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if not options.folders:
            options.folders = [Path(name) / "made"]
            write_photos(options.folders[0], options.made, small=True)
        results = _measure(options)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    print(f"{'images':<30}{'change':<12}{'recall':>8}{'false pairs':>13}{'seconds':>9}")
    for folder in options.folders:
        data = opsin.load(folder.absolute())
        results[folder.name] = _planted(folder.name, data, options.plant)
    data = opsin.load(options.folders[0].absolute())
    print(f"\n{'images':>10}{'seconds':>10}{'seconds / (n log n), first = 1':>34}")
    results["growth"] = _growth(np.asarray(data.images), options.sizes)
    return results


def _planted(name: str, data: opsin.Dataset, count: int) -> dict[str, Any]:
    images, total = np.asarray(data.images), len(data)
    random = np.random.default_rng(0)
    chosen = random.permutation(total)[:count]
    began = time.perf_counter()
    before = find_near_duplicates(images, np.arange(total))
    seconds = time.perf_counter() - began
    title = f"{name} ({total:,})"
    print(f"{title:<30}{'none':<12}{'':>8}{len(before.pairs):>9,} all{seconds:>9.1f}", flush=True)
    figures: dict[str, Any] = {"found without planting": len(before.pairs), "seconds": seconds}
    # Images that belong together anyway: a planted copy may be paired with any of them.
    related: dict[int, set[int]] = {}
    for one, other in before.pairs.tolist():
        related.setdefault(one, set()).add(other)
        related.setdefault(other, set()).add(one)
    for kind, change in CHANGES.items():
        copies = [_copy(images[row], change, random, data) for row in chosen]
        began = time.perf_counter()
        found = find_near_duplicates(
            np.concatenate([images, np.stack(copies)]), np.arange(total + len(chosen))
        )
        seconds = time.perf_counter() - began
        original = dict(zip(range(total, total + len(chosen)), chosen.tolist(), strict=True))
        planted = [(a, b) for a, b in found.pairs.tolist() if b >= total]
        right = sum(a == original[b] for a, b in planted)
        false = sum(
            original.get(a, a) != original[b]
            and original.get(a, a) not in related.get(original[b], ())
            for a, b in planted
        )
        rate = false / (total + len(chosen))
        figures[kind] = {"recall": right / len(chosen), "false": rate, "seconds": seconds}
        print(
            f"{title:<30}{kind:<12}{right / len(chosen):>8.3f}{rate:>13.5f}{seconds:>9.1f}",
            flush=True,
        )
    return figures


def _copy(
    pixels: NDArray[np.uint8], change: Change, random: np.random.Generator, data: opsin.Dataset
) -> NDArray[np.uint8]:
    """Return a changed copy, prepared as Opsin prepares images."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    stream = io.BytesIO()
    change(image, random).save(stream, "PNG")
    return read_image(stream.getvalue(), data.preparation)


def _growth(images: NDArray[np.uint8], sizes: list[int]) -> dict[str, float]:
    random = np.random.default_rng(0)
    seconds: dict[str, float] = {}
    first = 0.0
    for size in sizes:
        one, other = random.integers(0, len(images), (2, size))
        mixed = np.empty((size, *images.shape[1:]), np.uint8)
        for start in range(0, size, 4096):
            part = slice(start, start + 4096)
            mixed[part] = images[one[part]] // 2 + images[other[part]] // 2
        began = time.perf_counter()
        find_near_duplicates(mixed, np.arange(size))
        taken = seconds[f"{size}"] = time.perf_counter() - began
        cost = taken / (size * math.log(size))
        first = first or cost
        print(f"{size:>10,}{taken:>10.1f}{cost / first:>34.2f}", flush=True)
    return seconds


if __name__ == "__main__":
    main()
