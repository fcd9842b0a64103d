"""A known image by its name, or by its part and number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.commands.inspect_model import Inspection
from opsin.commands.known_images import known_images
from opsin.core.errors import ImageError, SourceError
from opsin.data.lazy_images import ReferenceSet


def known() -> ReferenceSet:
    """Four images, one of which is called as another one's place is."""
    return ReferenceSet(
        images=np.zeros((4, 2, 2, 1), np.uint8), labels=np.arange(4),
        names=["a.png", "test/0", "b.png", "c.png"], train=np.array([0, 1]), val=np.array([3]),
        source="made", test=np.array([2]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("a.png", 0), ("train/1", 1), ("val/0", 3), ("test/0", 1),  # its own name counts first
        ("test/1", None), ("test/-1", None), ("test/²", None), ("test/", None), ("test", None),
        ("other/0", None), ("", None),
    ],
)  # fmt: skip
def test_names_and_places(name: str, row: int | None) -> None:
    assert known().row_called(name) == row


def test_a_file_without_a_run_asks_for_images_of_its_classes(
    nearest_mean: Path, shapes: Path
) -> None:
    classifier = opsin.Classifier(nearest_mean)
    with pytest.raises(SourceError, match="--data SOURCE"):
        known_images(classifier)
    with pytest.raises(SourceError, match="also has disc, square"):
        known_images(classifier, [shapes])
    given = known_images(classifier, ["digits"])
    assert len(given.images) == 1797
    assert sum(map(len, (given.train, given.val, given.test))) == 1797


def test_a_name_that_nobody_knows(nearest_mean: Path) -> None:
    look = Inspection(nearest_mean, data="digits")
    assert look.actual(look.predict("test/3")) is not None
    with pytest.raises(ImageError, match="by part and number"):
        look.predict("tset/3")
