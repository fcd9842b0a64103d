"""Strange images are the same each time, of any size, and told apart where they can be."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from opsin.core.artifacts.run_report import StrangeKind
from opsin.evaluation.out_of_distribution import (
    HIGHEST_RATE,
    ClassPrototypes,
    choose_threshold,
    measure_synthetic_ood,
    near_and_far,
    strange_images,
)
from opsin.evaluation.out_of_fold import OutOfFold, folds_of
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


@pytest.mark.parametrize("count", [19, 25, 60, 400])
def test_as_many_known_images_are_refused_as_promised(count: int) -> None:
    random = np.random.default_rng(count)
    refused, rate = [], 0.0
    for _ in range(2000):
        values = random.beta(8, 2, count + 200).astype(np.float32)
        chosen = choose_threshold(values[:count])
        assert chosen is not None
        most, rate = chosen
        refused.append(np.mean(values[count:] > most))
    assert rate <= HIGHEST_RATE
    assert np.mean(refused) == pytest.approx(rate, rel=0.1)


def test_too_few_images_promise_nothing() -> None:
    assert choose_threshold(np.ones(18, np.float32)) is None
    assert choose_threshold(np.zeros(0, np.float32)) is None


@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_ood_score_is_made_of_a_cosine_whatever_the_units(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(30, 5)).astype(np.float32)
    labels = random.integers(0, 3, 30)
    known = ClassPrototypes.of(embeddings, labels, 4)
    lengths = np.linalg.norm(known.directions, axis=1)
    assert lengths[np.unique(labels)] == pytest.approx(1, abs=1e-5)
    assert lengths[3] == 0
    values = known.ood_score(embeddings)
    assert (values > -1e-5).all() and (values < 2 + 1e-5).all()
    # A brighter embedding is as usual, and so is one in other units.
    assert known.ood_score(np.float32(scale) * embeddings) == pytest.approx(values, abs=1e-4)
    other = np.float32(scale) * embeddings
    assert ClassPrototypes.of(other, labels, 4).ood_score(other) == pytest.approx(values, abs=1e-3)
    own = int(labels[0])
    mean = known.directions[own : own + 1] / known.scales
    assert known.ood_score(mean) == pytest.approx(0, abs=1e-5)


def test_no_unit_drowns_the_others() -> None:
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(200, 2)).astype(np.float32)
    labels = (embeddings[:, 1] > 0).astype(np.int64)
    loud = embeddings * np.array([1, 5], np.float32)
    one, other = (ClassPrototypes.of(e, labels, 2).ood_score(e) for e in (embeddings, loud))
    assert np.corrcoef(one, other).min() > 0.99


def test_what_excites_nothing_is_unusual_and_what_never_varies_is_no_error() -> None:
    known = ClassPrototypes.of(np.array([[1, 0], [0, 1]], np.float32), np.array([0, 1]), 2)
    assert known.ood_score(np.zeros((1, 2), np.float32)).tolist() == [1.0]
    constant = np.ones((3, 2), np.float32)
    flat = ClassPrototypes.of(constant, np.array([0, 0, 1]), 2)
    assert np.isfinite(flat.ood_score(constant)).all()
