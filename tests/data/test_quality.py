"""What images measure is what their pixels say, computed the plain way."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.data.quality import measure


@pytest.mark.parametrize("shape", [(40, 28, 28, 1), (9, 30, 41, 3), (5, 2, 7, 3), (3, 1, 1, 1)])
def test_counts_give_what_sorting_gives(shape: tuple[int, int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images[1] = 7  # of one colour
    images[2] //= 4  # dark
    measured = measure(images)
    for row, image in enumerate(images.astype(np.float64)):
        light = image.mean(axis=2)
        ranked, last = np.sort(light.ravel()), light.size - 1
        assert measured.low[row] == pytest.approx(ranked[round(0.02 * last)])
        assert measured.high[row] == pytest.approx(ranked[round(0.98 * last)])
        assert measured.contrast[row] == pytest.approx(light.std(), abs=1e-4)
        assert measured.colour[row] == np.ptp(image, axis=2).max()
        if min(shape[1:3]) > 2:
            around = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
            fine = np.abs(4 * light[1:-1, 1:-1] - around).mean() / max(light.std(), 1)
            assert measured.sharpness[row] == pytest.approx(fine, rel=1e-4)
        else:
            assert measured.sharpness[row] == 0
