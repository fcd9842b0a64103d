"""Strange images are the same each time, of any size, and told apart where they can be."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.core.artifacts.run_report import StrangeKind
from opsin.evaluation.out_of_distribution import measure_strangers, strange_images


@pytest.mark.parametrize("shape", [(8, 8, 1), (20, 33, 3)])
def test_each_kind_has_images_of_the_size_asked_for(shape: tuple[int, int, int]) -> None:
    made = strange_images(*shape, count=4)
    assert list(made) == ["blank", "noise", "text", "drawings", "digits"]
    again = strange_images(*shape, count=4)
    for name, images in made.items():
        assert images.shape == (4, *shape)
        assert images.dtype == np.uint8
        assert np.array_equal(images, again[name])
        varied = images.reshape(4, -1, shape[2]).std(axis=1).max(axis=1)
        assert (varied == 0).all() if name == "blank" else (varied > 0).all(), name


def test_areas_and_shares() -> None:
    known = np.array([0.5, 0.3, 0.1, 0.05], np.float32)
    strange = {"far": np.array([0.9, 0.8], np.float32), "near": np.array([0.4, 0.2], np.float32)}
    assert measure_strangers(known, strange, 0.45) == [
        StrangeKind(name="far", images=2, auroc=1.0, refused=1.0),
        StrangeKind(name="near", images=2, auroc=5 / 8, refused=0.0),
    ]
    assert measure_strangers(known, strange, None)[0].refused is None
