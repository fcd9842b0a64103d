"""What a training says at its end."""

import pytest

from opsin.commands.train.words import judged_in_words
from opsin.core.artifacts.run_report import PartFigures


@pytest.mark.parametrize(
    ("right", "images", "ends", "words"),
    [
        (113, 120, (0.88, 0.97), "113 of 120 right (94%, 88–97%), "),
        (1992, 2000, (0.992, 0.998), "1,992 of 2,000 right (99.6%, 99.2–99.8%), "),
    ],
)
def test_an_accuracy_lies_in_its_interval(
    right: int, images: int, ends: tuple[float, float], words: str
) -> None:
    figures = PartFigures(
        images=images,
        accuracy=right / images,
        low=ends[0],
        high=ends[1],
        classes=[{"name": "a", "count": 1, "precision": 1, "recall": 1, "f1": 1}],
    )
    assert judged_in_words(figures).startswith(words)
