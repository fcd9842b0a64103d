"""Views are tried on validation images alone, and used only where they help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opsin.commands.train.calibrate import try_views
from opsin.core.events import SILENT
from opsin.core.metadata import Views
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Answers


def answered(classifier: Classifier, dataset: Dataset) -> Answers:
    return Answers(classifier.probabilities(dataset.images[dataset.split.val]), None)


def test_views_that_put_more_wrong_are_not_used(nearest_mean: Path, digits: Dataset) -> None:
    classifier = Classifier(nearest_mean)
    alone = answered(classifier, digits)
    found = try_views(classifier, alone, digits, Views(flip=True, shift=1), SILENT)
    assert (found.images, found.helped) == (len(digits.split.val), False)
    assert found.lost > found.gained
    labels, images = digits.labels[digits.split.val], digits.images[digits.split.val]
    mean = alone.probabilities + classifier.probabilities(images[:, :, ::-1])
    gained = (mean.argmax(axis=1) == labels).sum()
    assert found.gained - found.lost == gained - (alone.probabilities.argmax(1) == labels).sum()


def test_views_that_put_more_right_beyond_chance_are_used(
    nearest_mean: Path, digits: Dataset
) -> None:
    classifier = Classifier(nearest_mean)
    # As if each image alone were told by a coin: anything is better.
    unsure = Answers(np.roll(answered(classifier, digits).probabilities, 1, axis=1), None)
    found = try_views(classifier, unsure, digits, Views(flip=True, shift=0), SILENT)
    assert found.gained > found.lost
    assert found.helped
    assert "help this classifier on its" in found.words


@pytest.mark.parametrize("shift", [0, 2])
def test_what_was_not_varied_is_not_tried(nearest_mean: Path, digits: Dataset, shift: int) -> None:
    classifier = Classifier(nearest_mean)
    validation = answered(classifier, digits)
    found = try_views(classifier, validation, digits, Views(flip=False, shift=shift), SILENT)
    assert (found.images, found.helped) == (0, False)
