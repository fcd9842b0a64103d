"""Switching a unit off is counted image by image."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

import opsin
from opsin.inspection.ablation import SwitchedOff, ablate
from tests.inspection.made_network import made


def answer(values: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
    layer, past = values
    return np.asarray((layer.reshape(len(layer), layer.shape[1], -1).sum(axis=2) + past).argmax(1))


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_it_counts_what_setting_to_0_changes(seed: int, count: int, size: int, maps: bool) -> None:
    random = np.random.default_rng(seed)
    shape = (count, 3, 2, 2) if maps else (count, 3)
    layer = np.maximum(random.standard_normal(shape, np.float32), 0)
    past = random.standard_normal((count, 3), np.float32)
    labels = random.integers(0, 3, count)
    kept = layer.copy()
    off = SwitchedOff(answer, np.array([0, 2]), 3)
    for start in range(0, count, size):
        some = slice(start, start + size)
        assert list(off.add([layer[some], past[some]], labels[some])) == [0, 2]
    assert np.array_equal(layer, kept)
    before = answer([layer, past]) == labels
    assert off.images.tolist() == np.bincount(labels, minlength=3).tolist()
    assert off.right.tolist() == np.bincount(labels[before], minlength=3).tolist()
    for place, unit in enumerate((0, 2)):
        without = layer.copy()
        without[:, unit] = 0
        after = answer([without, past]) == labels
        for label in range(3):
            of = labels == label
            assert off.lost[place, label] == (of & before & ~after).sum()
            assert off.gained[place, label] == (of & ~before & after).sum()


@pytest.mark.parametrize(
    "layer",
    [*(pytest.param(name, marks=pytest.mark.slow) for name in ("conv", "conv2")), "dense", "head"],
)
def test_it_equals_a_file_without_the_units_weights(tmp_path: Path, layer: str) -> None:
    classifier, network, known = made(tmp_path, count=900)
    found = ablate(classifier, network, known, layer)
    images, labels = np.asarray(known.images[known.val]), known.labels[known.val]
    before = classifier.probabilities(images).argmax(axis=1) == labels
    assert found.accuracy == before.mean()
    assert len(found.effects) == network.layer(layer).shape[0]
    changed = 0
    for effect in found.effects:
        weight, bias = (network.weights[f"{layer}.{part}"].copy() for part in ("weight", "bias"))
        weight[effect.unit], bias[effect.unit] = 0, 0
        content = network.with_weights({f"{layer}.weight": weight, f"{layer}.bias": bias})
        (tmp_path / "without").mkdir(exist_ok=True)
        file = tmp_path / "without" / "classifier.onnx"
        file.write_bytes(content)
        after = opsin.Classifier(file).probabilities(images).argmax(axis=1) == labels
        for place, name in enumerate(classifier.classes):
            of = labels == place
            assert effect.lost_by_class[name] == (of & before & ~after).sum()
            assert effect.gained_by_class[name] == (of & ~before & after).sum()
            assert effect.accuracy_by_class[name] == pytest.approx(after[of].mean())
        assert effect.change == pytest.approx(after.mean() - before.mean())
        assert effect.low <= effect.change <= effect.high
        changed += effect.lost + effect.gained
    assert changed
    changes = [effect.change for effect in found.effects]
    assert changes == sorted(changes)


def test_wrong_names_and_numbers(tmp_path: Path) -> None:
    classifier, network, known = made(tmp_path)
    with pytest.raises(opsin.ModelFileError, match="no layer 'dens' among dense, "):
        ablate(classifier, network, known, "dens")
    for units in ([4], [-1, 0], []):
        with pytest.raises(opsin.ModelFileError, match="units are 0 to 3"):
            ablate(classifier, network, known, "conv", units=units)
    none = replace(known, val=known.val[:0])
    with pytest.raises(opsin.SourceError, match="made has no"):
        ablate(classifier, network, none, "conv")
