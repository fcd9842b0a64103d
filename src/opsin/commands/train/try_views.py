"""Whether the mean over several views of an image is better than the answer to it alone."""

from __future__ import annotations

from typing import Final

import numpy as np

from opsin.core.events import Watcher
from opsin.core.metadata import Views
from opsin.data.dataset import Dataset
from opsin.evaluation.mistakes import drawn_rows
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Answers
from opsin.runtime.test_time_augmentation import step_of

# Validation images that are asked about: up to ten views of each are much work at a training's end.
_MOST: Final = 1000


def try_views(
    classifier: Classifier,
    validation: Answers | None,
    dataset: Dataset,
    varied: Views,
    watcher: Watcher,
) -> Views:
    """Try the views that a training varied images by on validation images, and judge them."""
    from opsin.evaluation.comparison import LEVEL, compare_answers  # noqa: PLC0415  needs scipy

    places = drawn_rows(len(dataset.split.val), _MOST)
    rows = dataset.split.val[places]
    height, width = dataset.images.shape[1:3]
    if validation is None or not (varied.flip or step_of(height, width, varied.shift)):
        return varied
    watcher.begin("Views", len(rows), "images")
    parts, done = [], 0
    for part in classifier.iter_answers(dataset.images, rows, views=varied):
        parts.append(part.probabilities)
        watcher.advance(done := done + len(part.probabilities))
    watcher.end()
    with_them = np.concatenate(parts).argmax(axis=1)
    alone = validation.probabilities[places].argmax(axis=1)
    found = compare_answers(alone, with_them, dataset.labels[rows], dataset.units[rows])
    gained, lost = found.only_second, found.only_first
    helped = bool(gained > lost and found.p < LEVEL)
    judged = {"images": len(rows), "gained": gained, "lost": lost, "p": found.p, "helped": helped}
    return varied.model_copy(update=judged)
