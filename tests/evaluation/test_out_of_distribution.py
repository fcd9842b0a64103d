"""Strange images are the same each time, of any size, and told apart where they can be."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.core.artifacts.run_report import StrangeKind
from opsin.evaluation.out_of_distribution import (
    measure_synthetic_ood,
    near_and_far,
    strange_images,
)
from opsin.evaluation.out_of_fold import OutOfFold, folds_of
from opsin.evaluation.reject import ClassPrototypes
from opsin.runtime.prediction import Answers


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
    assert measure_synthetic_ood(known, strange, 0.45) == [
        StrangeKind(name="far", images=2, auroc=1.0, refused=1.0),
        StrangeKind(name="near", images=2, auroc=5 / 8, refused=0.0),
    ]
    assert measure_synthetic_ood(known, strange, None)[0].refused is None


def test_each_class_is_left_out_and_no_image_is_compared_with_its_own_fold() -> None:
    random = np.random.default_rng(0)
    # The first two classes look alike, so that either is known by the other.
    centres = random.normal(size=(4, 24))
    centres[1] = centres[0]
    labels = np.repeat(np.arange(4), [12, 14, 10, 16])
    points = (3 * centres[labels] + random.normal(size=(len(labels), 24))).astype(np.float32)
    points[1] = points[0]  # a copy in the same fold is no help
    units = np.maximum(np.arange(len(labels)), 1)
    folds = folds_of(labels, units, 0)
    fold = np.full(len(labels), -1)
    scores = np.zeros(len(labels), np.float32)
    for number, (train, test) in enumerate(folds):
        fold[test] = number
        scores[test] = ClassPrototypes.of_images(points[train]).ood_score(points[test])
    answers = Answers(np.zeros((len(labels), 4), np.float32), scores)
    judged = OutOfFold(np.arange(len(labels)), fold, answers)
    strange = random.normal(size=(8, 24)).astype(np.float32)
    found = near_and_far(judged, points, labels, "abcd", strange=strange, most=0.4)
    assert found is not None
    far = ClassPrototypes.of_images(points).ood_score(strange)
    assert found.far == measure_synthetic_ood(scores, {"far": far}, None)[0].auroc
    for label, each in enumerate(found.classes):
        own = labels == label
        without = np.zeros(len(labels), np.float32)
        for train, test in folds:
            others = ClassPrototypes.of_images(points[train[labels[train] != label]])
            without[test] = others.ood_score(points[test])
        (expected,) = measure_synthetic_ood(without[~own], {"abcd"[label]: without[own]}, 0.4)
        assert each.model_dump() == pytest.approx(expected.model_dump())
    assert [each.auroc > 0.9 for each in found.classes] == [False, False, True, True]
    assert found.near == pytest.approx(np.mean([each.auroc for each in found.classes]))
    judged = OutOfFold(judged.rows, judged.fold, Answers(answers.probabilities, None))
    assert near_and_far(judged, points, labels, "abcd", strange=strange, most=None) is None
