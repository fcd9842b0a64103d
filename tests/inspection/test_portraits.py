"""A class's surest and most typical images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.commands.inspect_model import Inspection
from opsin.commands.runs import Run
from opsin.core.errors import SourceError
from opsin.inspection.portraits import ClassCounter, ClassRecord, portraits
from tests.inspection.made_network import made


def record_of(
    images: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    logits: NDArray[np.float32],
    embedding: NDArray[np.float32],
    size: int = 100,
) -> ClassRecord:
    counter = ClassCounter(1)
    for start in range(0, len(images), size):
        some = slice(start, start + size)
        rows = np.arange(len(images))[some]
        counter.add(rows, images[some], probabilities[some], logits[some], embedding[some])
    record = counter.record()
    assert record is not None
    return record


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 30))
def test_batches_make_no_difference(seed: int, count: int, size: int) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 2, 2, 3), np.uint8)
    logits = random.integers(-2, 3, (count, 3)).astype(np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    embedding = random.integers(-2, 3, (count, 4)).astype(np.float32)
    whole, parts = (record_of(images, shares, logits, embedding, at) for at in (100, size))
    assert np.array_equal(whole.surest, parts.surest)
    assert np.array_equal(whole.mean, parts.mean)
    np.testing.assert_allclose(whole.distances, parts.distances, atol=1e-12)
    assert np.array_equal(whole.mean, images.mean(axis=0).round().astype(np.uint8))
    assert (np.diff(shares[whole.surest, 1]) <= 0).all()
    assert (np.diff(whole.distances[whole.nearest]) >= 0).all()


def test_where_all_are_sure_the_lead_of_the_logit_decides() -> None:
    logits = np.array([[0, 30], [0, 90], [85, 90], [0, 90]], np.float32)
    shares = np.tile(np.array([0, 1], np.float32), (4, 1))
    record = record_of(
        np.zeros((4, 1, 1, 1), np.uint8), shares, logits, np.ones((4, 2), np.float32)
    )
    assert record.rows[record.surest].tolist() == [1, 3, 0, 2]


def test_votes_of_nobody_have_a_logit_too() -> None:
    logits = np.array([[0, -np.inf], [-np.inf, 0]], np.float32)
    shares = np.array([[1, 0], [0, 1]], np.float32)
    record = record_of(
        np.zeros((2, 1, 1, 1), np.uint8), shares, logits, np.ones((2, 2), np.float32)
    )
    assert record.surest.tolist() == [1, 0]


def test_typical_is_the_direction_not_the_length() -> None:
    embedding = np.array([[1, 1], [90, 88], [0.1, 0], [0, 0]], np.float32)
    zeros = np.zeros((4, 1, 1, 1), np.uint8)
    shares = np.full((4, 2), 0.5, np.float32)
    record = record_of(zeros, shares, shares, embedding)
    assert record.nearest.tolist() == [1, 0, 2, 3]
    assert record.distances[3] == 1  # no direction at all


def test_a_class_without_images_has_no_record() -> None:
    assert ClassCounter(0).record() is None


def test_each_class_has_its_own_images(tmp_path: Path) -> None:
    classifier, _, known = made(tmp_path, count=600)
    found = portraits(classifier, known)
    assert [portrait.label for portrait in found] == list(classifier.classes)
    rows = np.sort(known.train)
    values = classifier.layers(np.asarray(known.images[rows]), ["probabilities", "embedding"])
    for place, portrait in enumerate(found):
        of = known.labels[rows] == place
        assert portrait.images == of.sum()
        mean = known.images[rows[of]].mean(axis=0)
        assert portrait.mean is not None
        assert np.abs(portrait.mean - mean).max() <= 0.5
        shares, embedding = values["probabilities"][of, place], values["embedding"][of]
        best = np.argsort(-shares, kind="stable")[:8]
        assert [one.probability for one in portrait.surest] == shares[best].tolist()
        middle = embedding.mean(axis=0)
        cosines = embedding @ middle / np.linalg.norm(embedding, axis=1) / np.linalg.norm(middle)
        order = np.argsort(-cosines)
        assert [one.row for one in portrait.nearest] == rows[of][order[:8]].tolist()
        assert [one.row for one in portrait.farthest] == rows[of][order[::-1][:8]].tolist()
        for one in portrait.farthest:
            assert np.array_equal(one.pixels, known.images[one.row])
            assert one.name == known.names[one.row]
    json.dumps([portrait.to_json() for portrait in found], allow_nan=False)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_classes_without_images_are_empty(tmp_path: Path, left: int) -> None:
    classifier, _, known = made(tmp_path)
    train = known.train[known.labels[known.train] == left]
    found = portraits(classifier, replace(known, train=train))
    assert [portrait.images for portrait in found] == [len(train) * (k == left) for k in range(3)]
    assert [portrait.mean is None for portrait in found] == [k != left for k in range(3)]


def test_no_training_images(tmp_path: Path) -> None:
    classifier, _, known = made(tmp_path)
    with pytest.raises(SourceError, match="made has none"):
        portraits(classifier, replace(known, train=known.train[:0]))


@pytest.mark.torch
def test_the_surest_digits_are_sure(run: Run) -> None:
    found = Inspection(run.path).portraits()
    assert len(found) == 10
    assert all(portrait.surest[0].probability > 0.9 for portrait in found)
    for portrait in found:
        assert portrait.nearest[0].distance < portrait.farthest[0].distance
