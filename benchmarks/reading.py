"""How fast images become arrays, beside what people write themselves, and in how much memory.

    python -m benchmarks.reading [2000] --photos FOLDER --out reading.json

JPEG files of 500×400 pixels become ``uint8[128, 128, 3]``. They are made of the images below
FOLDER or, without it, of shapes and textures. Each measurement is a process of its own that tells
its seconds after its imports; the contenders take turns, and the files are in the system's memory
for all of them. A first pass also looks for near duplicates, which nobody else does: a line tells
what it takes without. Then `opsin.load` reads few and many small images, and the highest memory
use of both processes is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

_SIDE: Final = 128
_CLASSES: Final = 4
_BATCH: Final = 256


def main() -> None:
    """Make the images, measure all contenders in turn and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", nargs="?", type=int, default=2000)
    parser.add_argument("--photos", type=Path, help="folder of images to make the files of")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs=2, default=(10_000, 100_000), metavar="N")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--contender", choices=_CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(_CONTENDERS[options.contender](options.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos", options.images, options.photos)
        results: dict[str, Any] = {"speed": _speed(folder, options.images, options.repeats)}
        results["memory"] = _memory(folder, options.memory)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _speed(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Time the contenders in turn; print images a second and how much faster Opsin is."""
    rates: dict[str, list[float]] = {name: [] for name in _TURNS}
    for turn in range(repeats):
        for name in _TURNS:
            # The second pass finds what the first has left; the others find nothing.
            kept = "first or second" if name.endswith("pass") else name
            cache = folder / f"cache of {kept} {turn}"
            rates[name].append(count / _child(name, folder / "photos", cache)["seconds"])
    first = rates["opsin, first pass"]
    print(f"{'500×400 JPEG to 128×128':<26}{'images/s':>12}{'each':>26}{'first pass is':>15}")
    for name, each in rates.items():
        ratio = statistics.median(a / b for a, b in zip(first, each, strict=True))
        shown = " ".join(f"{rate:,.0f}" for rate in each)
        print(f"{name:<26}{statistics.median(each):>12,.0f}{shown:>26}{ratio:>13.2f} ×", flush=True)
    return rates


def _memory(folder: Path, counts: tuple[int, int]) -> dict[str, int]:
    """Read few and many small images; print the highest memory use of both processes."""
    small = folder / "small"
    write_photos(small, min(2000, *counts), small=True)
    peaks: dict[str, int] = {}
    print(f"\n{'small JPEG to 64×64':<26}{'peak memory':>12}{'growth':>26}")
    for count in counts:
        many = folder / f"many{count}"
        _repeat(small, many, count)
        peaks[f"{count}"] = peak = _child("opsin, memory", many, folder / f"c{count}")["peak"]
        growth = peak / next(iter(peaks.values())) - 1
        print(f"{f'{count:,} images':<26}{peak / 1e6:>9,.0f} MB{growth:>25.1%}", flush=True)
    return peaks


def _child(contender: str, folder: Path, cache: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--contender", contender, "--folder", str(folder)]
    environment = os.environ | {"OPSIN_CACHE": str(cache)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _opsin(folder: Path) -> dict[str, float]:
    from opsin import load  # noqa: PLC0415  each contender loads its own packages only

    began = time.perf_counter()
    data = load(folder, size=(_SIDE, _SIDE))
    # The others end with all pixels in memory; ours are on the disk, and are fetched from there.
    pixels = np.empty(data.images.shape, np.uint8)
    for start in range(0, len(data), _BATCH):
        pixels[start : start + _BATCH] = data.images[start : start + _BATCH]
    return {"seconds": time.perf_counter() - began, "mean": float(pixels.mean())}


def _opsin_reading(folder: Path) -> dict[str, float]:
    from opsin.core.recipe import DataRecipe  # noqa: PLC0415
    from opsin.data.dataset import read_corrected  # noqa: PLC0415

    began = time.perf_counter()
    images = read_corrected(DataRecipe.of(str(folder), size=(_SIDE, _SIDE)))[0].images
    pixels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), _BATCH):
        pixels[start : start + _BATCH] = images[start : start + _BATCH]
    return {"seconds": time.perf_counter() - began, "mean": float(pixels.mean())}


def _opsin_memory(folder: Path) -> dict[str, float]:
    import opsin  # noqa: PLC0415

    opsin.load(folder, size=(64, 64))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak": peak * (1 if sys.platform == "darwin" else 1024)}


def _pixels(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        size = (_SIDE, _SIDE)
        return np.asarray(ImageOps.pad(image.convert("RGB"), size, Image.Resampling.BILINEAR))


def _pillow(folder: Path) -> dict[str, float]:
    began = time.perf_counter()
    files = sorted(folder.glob("*/*.jpg"))
    pixels = np.empty((len(files), _SIDE, _SIDE, 3), np.uint8)
    for row, file in enumerate(files):
        pixels[row] = _pixels(file)
    return {"seconds": time.perf_counter() - began, "mean": float(pixels.mean())}


def _dataloader(folder: Path) -> dict[str, float]:
    import torch  # noqa: PLC0415
    from torch.utils.data import DataLoader, Dataset  # noqa: PLC0415

    class Files(Dataset[torch.Tensor]):
        def __init__(self, files: list[Path]) -> None:
            self.files = files

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, row: int) -> torch.Tensor:
            return torch.from_numpy(_pixels(self.files[row]).copy())

    began = time.perf_counter()
    files = Files(sorted(folder.glob("*/*.jpg")))
    pixels = np.empty((len(files), _SIDE, _SIDE, 3), np.uint8)
    start = 0
    for batch in DataLoader(files, batch_size=64, num_workers=2):
        pixels[start : start + len(batch)] = batch.numpy()
        start += len(batch)
    return {"seconds": time.perf_counter() - began, "mean": float(pixels.mean())}


_CONTENDERS: Final[dict[str, Callable[[Path], dict[str, float]]]] = {
    "opsin, first pass": _opsin,
    "opsin, reading alone": _opsin_reading,
    "Pillow, one thread": _pillow,
    "DataLoader, two workers": _dataloader,
    "opsin, second pass": _opsin,
    "opsin, memory": _opsin_memory,
}
_TURNS: Final = tuple(_CONTENDERS)[:-1]


def write_photos(
    folder: Path, count: int, photos: Path | None = None, *, small: bool = False
) -> None:
    """Write ``folder/<class>/<number>.jpg``: 500×400 pixels at quality 85, small ones 40×40."""
    size = (40, 40) if small else (500, 400)
    made = _of_photos(photos, size) if photos else _of_nothing(size)
    for number in range(count):
        file = folder / f"class{number % _CLASSES}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        next(made).save(file, "JPEG", quality=85)


def _of_photos(folder: Path, size: tuple[int, int]) -> Iterator[Image.Image]:
    """Yield images of a size, four photos or parts of photos in each, never two alike."""
    endings = (".jpg", ".jpeg", ".png")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in endings)
    random = np.random.default_rng(0)
    while True:
        whole = Image.new("RGB", size)
        for place in range(4):
            with Image.open(files[int(random.integers(len(files)))]) as photo:
                part = ImageOps.fit(
                    photo.convert("RGB"), (size[0] // 2, size[1] // 2), Image.Resampling.BICUBIC
                )
            whole.paste(part, (place % 2 * size[0] // 2, place // 2 * size[1] // 2))
        yield whole


def _of_nothing(size: tuple[int, int]) -> Iterator[Image.Image]:
    """Yield shapes on a texture that has a photograph's share of fine and coarse detail."""
    random = np.random.default_rng(0)
    width, height = size
    across, down = np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None]
    frequency = np.maximum(np.hypot(across, down), 1 / max(size))
    while True:
        noise = np.fft.rfft2(random.normal(size=(3, height, width)))
        texture = np.fft.irfft2(noise / frequency, s=(height, width))
        texture = 110 + 35 * texture / texture.std()
        pixels = np.clip(texture, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        image = Image.fromarray(np.ascontiguousarray(pixels))
        draw = ImageDraw.Draw(image)
        for _ in range(6):
            left, right = sorted(int(x) for x in random.integers(0, width, 2))
            top, bottom = sorted(int(y) for y in random.integers(0, height, 2))
            colour = tuple(int(value) for value in random.integers(0, 256, 3))
            draw.ellipse((left, top, right, bottom), outline=colour, width=max(1, width // 60))
        yield image


def _repeat(small: Path, folder: Path, count: int) -> None:
    """Fill a folder with ``count`` names of the files below ``small``."""
    files = sorted(small.glob("*/*.jpg"))
    for number in range(count):
        file = files[number % len(files)]
        place = folder / file.parent.name / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(file)


if __name__ == "__main__":
    main()
