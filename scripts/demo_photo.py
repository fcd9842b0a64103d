"""Make what a phone would see: a boot of the test set, dark, on a light table.

    python scripts/demo_photo.py boot.jpg

The shape is Fashion-MNIST's test image 0; size, light, noise and compression are a photograph's.
The network never sees this image's like in training, where everything is white on black.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import opsin


def main(path: Path, row: int = 0) -> None:
    """Write the photograph of a test image as a JPEG of 960×720 pixels."""
    data = opsin.load("fashion-mnist")
    boot = data.images[data.split.test[row], :, :, 0]
    large = Image.fromarray(boot).resize((440, 440), Image.Resampling.BICUBIC)
    shape = np.zeros((720, 960), np.float64)
    shape[150:590, 250:690] = (
        np.asarray(large.filter(ImageFilter.GaussianBlur(5)), np.float64) / 255
    )
    rows, columns = np.mgrid[:720, :960]
    light = 246 - 22 * (columns / 960) - 14 * (rows / 720)  # a window on the left
    random = np.random.default_rng(0)
    scene = light * (1 - 0.86 * shape) + random.normal(0, 2.5, shape.shape)
    brown = np.stack([scene, scene * (1 - 0.07 * shape), scene * (1 - 0.16 * shape)], axis=2)
    photo = Image.fromarray(np.clip(brown, 0, 255).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    photo.save(path, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
