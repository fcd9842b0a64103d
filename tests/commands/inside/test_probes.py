"""Probes say how far the classes have come apart, on validation pictures, and on no others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.commands.inside import probes as module
from opsin.commands.inside.probes import probe_figures, probe_layers
from opsin.core.errors import ModelFileError, SourceError
from opsin.data.dataset import Dataset
from opsin.data.reference_set import ReferenceSet
from opsin.evaluation.intervals import wilson
from opsin.inspection.network import Network
from opsin.runtime.classifier import Classifier


def known_digits(digits: Dataset) -> ReferenceSet:
    split = digits.split
    return ReferenceSet(
        digits.images, digits.labels, digits.names, split.train, split.val, "digits"
    )


@pytest.fixture
def opened(nearest_mean: Path) -> tuple[Classifier, Network]:
    """The nearest mean, and its graph."""
    file = opsin.Classifier(nearest_mean)
    return file, Network(file.path.read_bytes(), file.metadata.layers)


def test_pixels_first_the_classifier_last(
    opened: tuple[Classifier, Network], digits: Dataset
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
    assert said["rows"][0] | {"fitted": said["fitted"], "judged": said["judged"]} == found.rows[0]
    assert {"layer", "accuracy", "low", "high", "features", "how"} <= set(said["rows"][0])
    assert list(probe_figures(found.rows)) == ["probes"]


def test_neither_test_labels_nor_test_pictures_are_looked_at(
    opened: tuple[Classifier, Network], digits: Dataset
) -> None:
    file, network = opened
    known = known_digits(digits)
    images, labels = np.array(digits.images), digits.labels.copy()
    images[digits.split.test], labels[digits.split.test] = 255, 0
    spoilt = ReferenceSet(images, labels, known.names, known.train, known.val, known.source)
    assert probe_layers(file, network, spoilt) == probe_layers(file, network, known)


def test_labels_that_say_nothing_cannot_be_probed(
    opened: tuple[Classifier, Network], digits: Dataset
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


def test_many_pictures_are_sampled_and_many_layers_split(
    opened: tuple[Classifier, Network], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, network = opened
    whole = probe_layers(file, network, known_digits(digits))
    monkeypatch.setattr(module, "_HELD", 1)
    assert probe_layers(file, network, known_digits(digits)) == whole
    monkeypatch.setattr(module, "FITTED", 100)
    monkeypatch.setattr(module, "JUDGED", 50)
    fewer = probe_layers(file, network, known_digits(digits))
    assert (fewer.fitted, fewer.judged) == (100, 50)
    assert probe_layers(file, network, known_digits(digits), seed=1) != fewer


def test_named_layers_in_the_order_of_their_work(
    opened: tuple[Classifier, Network], digits: Dataset
) -> None:
    file, network = opened
    known = known_digits(digits)
    found = probe_layers(file, network, known, names=["head", "flatten"])
    assert [probe.layer for probe in found.probes] == ["pixels", "flatten", "head", "classifier"]
    with pytest.raises(ModelFileError, match=r"layers among input, flatten, head; got conv7"):
        probe_layers(file, network, known, names=["conv7"])


def test_nothing_to_learn_or_to_judge_by(
    opened: tuple[Classifier, Network], digits: Dataset
) -> None:
    file, network = opened
    known, none = known_digits(digits), np.zeros(0, np.int64)
    ones = np.flatnonzero(digits.labels == 1)
    for train, val in ((known.train, none), (ones, known.val)):
        with pytest.raises(SourceError, match="at least two classes"):
            probe_layers(
                file,
                network,
                ReferenceSet(known.images, known.labels, known.names, train, val, "digits"),
            )


@pytest.mark.torch
def test_a_network_makes_the_classes_easy_to_tell_apart(run: opsin.Run, digits: Dataset) -> None:
    file = run.classifier()
    network = Network(file.path.read_bytes(), file.metadata.layers)
    found = probe_layers(file, network, known_digits(digits))
    by_name = {probe.layer: probe for probe in found.probes}
    assert list(by_name) == ["pixels", "dense1", "relu1", "head", "classifier"]
    for name in ("relu1", "head"):
        assert by_name[name].accuracy > by_name["classifier"].accuracy - 0.05
