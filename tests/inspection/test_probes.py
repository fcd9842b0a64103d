"""Probes see what a layer puts out, and nothing of the images they are judged by."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import opsin
from opsin.core.errors import SourceError
from opsin.data.dataset import Dataset
from opsin.data.lazy_images import ReferenceSet
from opsin.evaluation.intervals import wilson
from opsin.inspection.probes import (
    probe_hits,
    probe_layers,
    reduction_of,
)
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier
from tests.inspection.small_network import KINDS

RANDOM = np.random.default_rng(1)


@given(
    st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.integers(10, 600)
)  # fmt: skip
def test_a_reduction_never_keeps_too_much_nor_averages_needlessly(
    channels: int, height: int, width: int, most: int
) -> None:
    found = reduction_of("layer", (channels, height, width), most)
    assert found.features <= most
    assert found.outputs == channels * height * width
    if found.how == "whole":
        assert found.features == found.outputs
    elif found.how == "pooled":
        smaller = [max(1, side - 1) for side in found.block]
        grid = [math.ceil(n / b) for n, b in zip((height, width), smaller, strict=True)]
        assert channels * grid[0] * grid[1] > most
    else:
        assert channels > most


def test_a_probe_is_linear_and_learns_from_training_images_only() -> None:
    random = np.random.default_rng(0)
    points = random.uniform(-1, 1, (2000, 2)).astype(np.float32)
    crossed = (points[:, 0] * points[:, 1] > 0).astype(np.int64)  # no line parts these
    sides = (points[:, 0] > 0).astype(np.int64)
    for labels, low, high in ((crossed, 0.4, 0.62), (sides, 0.97, 1.0)):
        hits = probe_hits(points[:1500].copy(), labels[:1500], points[1500:].copy(), labels[1500:])
        assert low <= hits.mean() <= high
    noise = random.integers(0, 2, 500)
    hits = probe_hits(points[:1500].copy(), sides[:1500], points[1500:].copy(), noise)
    assert hits.mean() == pytest.approx(0.5, abs=0.08)


def test_features_that_never_vary_are_no_obstacle() -> None:
    labels = np.arange(40) % 2
    points = np.stack([labels, np.full(40, 7e5), np.zeros(40)], axis=1).astype(np.float32)
    points[30, 1] = 0.0  # varies among those it is judged by only
    hits = probe_hits(points[:20].copy(), labels[:20], points[20:].copy(), labels[20:])
    assert hits.all()


def known_digits(digits: Dataset) -> ReferenceSet:
    split = digits.split
    return ReferenceSet(
        digits.images, digits.labels, digits.names, split.train, split.val, "digits"
    )


@pytest.fixture
def opened(nearest_mean: Path) -> tuple[Classifier, OnnxGraph]:
    file = opsin.Classifier(nearest_mean)
    layers = [each.model_copy(update={"kind": KINDS[each.name]}) for each in file.metadata.layers]
    return file, OnnxGraph(file.content, layers)


def test_pixels_first_the_classifier_last(
    opened: tuple[Classifier, OnnxGraph], digits: Dataset
) -> None:
    file, network = opened
    known = known_digits(digits)
    found = probe_layers(file, network, known)
    assert [probe.layer for probe in found.probes] == ["pixels", "head", "classifier"]
    assert found.judged == len(known.val) and found.fitted == len(known.train)
    own = file.probabilities(digits.images[known.val]).argmax(axis=1) == digits.labels[known.val]
    last = found.probes[-1]
    assert last.accuracy == own.mean()
    assert (last.low, last.high) == wilson(int(own.sum()), len(own))
    assert found.probes[0].accuracy > 0.9  # digits are all but linear
    assert probe_layers(file, network, known) == found
    said = json.loads(json.dumps(found.to_json()))
    assert (said["fitted"], said["judged"]) == (found.fitted, found.judged)
    assert {"layer", "accuracy", "low", "high", "features", "how"} <= set(said["rows"][0])


def test_neither_test_labels_nor_test_images_are_looked_at(
    opened: tuple[Classifier, OnnxGraph], digits: Dataset
) -> None:
    file, network = opened
    known = known_digits(digits)
    images, labels = np.array(digits.images), digits.labels.copy()
    images[digits.split.test], labels[digits.split.test] = 255, 0
    spoilt = ReferenceSet(images, labels, known.names, known.train, known.val, known.source)
    assert probe_layers(file, network, spoilt) == probe_layers(file, network, known)


def test_labels_that_say_nothing_cannot_be_probed(
    opened: tuple[Classifier, OnnxGraph], digits: Dataset
) -> None:
    file, network = opened
    known = known_digits(digits)
    noise = np.random.default_rng(0).integers(0, 10, len(digits.labels))
    found = probe_layers(
        file,
        network,
        ReferenceSet(known.images, noise, known.names, known.train, known.val, "noise"),
    )
    assert all(probe.low < 0.1 < probe.high for probe in found.probes)


def test_nothing_to_learn_or_to_judge_by(
    opened: tuple[Classifier, OnnxGraph], digits: Dataset
) -> None:
    file, network = opened
    known, none = known_digits(digits), np.zeros(0, np.int64)
    ones = np.flatnonzero(digits.labels == 1)
    for train, val in ((known.train, none), (ones, known.val)):
        with pytest.raises(SourceError, match="two classes and one image"):
            probe_layers(
                file,
                network,
                ReferenceSet(known.images, known.labels, known.names, train, val, "digits"),
            )
