"""Figures over many images: whatever the batches, and which units are dead or saturated."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

import opsin
from opsin.commands.known_images import known_images
from opsin.core.errors import OpsinError, RunError, SourceError
from opsin.core.stored_json import plain_data
from opsin.data.dataset import Dataset
from opsin.data.lazy_images import ReferenceSet
from opsin.inspection.activity import Activity, ActivityRecord, UnitActivity, activity_of
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.conftest import Notes
from tests.made_classifier import made_layer
from tests.made_runs import answers_right, write_run


def units(kind: str, values: NDArray[np.float32]) -> UnitActivity:
    record = ActivityRecord([made_layer("l", kind, values.shape[1:])])
    record.add({"l": values})
    return record.result().layers["l"]


@given(
    st.integers(0, 1000),
    st.lists(st.integers(1, 400), min_size=1, max_size=4),
    st.sampled_from([(3,), (2, 3, 4)]),
    st.sampled_from([0.0, 300.0]),
)
def test_batches_make_no_difference(
    seed: int, sizes: list[int], shape: tuple[int, ...], offset: float
) -> None:
    values = np.random.default_rng(seed).standard_normal((sum(sizes), *shape), np.float32) + offset
    values = values.astype(np.float32)
    record = ActivityRecord([made_layer("l", "Tanh", shape)])
    for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        record.add({"l": values[start : start + size]})
    result = record.result()
    found = result.layers["l"]
    exact = values.astype(np.float64)
    axes = (0, *range(2, values.ndim))
    assert result.images == len(values)
    assert np.array_equal(found.lowest, exact.min(axis=axes))
    assert np.array_equal(found.highest, exact.max(axis=axes))
    np.testing.assert_allclose(found.mean, exact.mean(axis=axes), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.deviation, exact.std(axis=axes), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.active, (exact > 0).mean(axis=axes))
    np.testing.assert_allclose(found.saturation, (np.abs(exact) > 0.99).mean(axis=axes))


def test_dead_is_never_above_zero_after_relu_and_constant_elsewhere() -> None:
    random = np.random.default_rng(0)
    values = np.zeros((50, 3, 4, 4), np.float32)
    values[7, 1, 2, 2] = 1e-3  # one place of one image is enough to be alive
    values[:, 2] = random.random((50, 4, 4))
    assert units("ReLU", values).dead.tolist() == [True, False, False]
    dense = random.standard_normal((50, 3), np.float32)
    dense[:, 0] = 0.7
    dense[:, 1] = 0.7 + 1e-8 * dense[:, 1]
    assert units("Dense", dense).dead.tolist() == [True, True, False]
    # GELU goes below 0, so that "never above 0" would not mean that it says nothing.
    smooth = -np.abs(random.standard_normal((50, 1), np.float32))
    assert units("GELU", smooth).dead.tolist() == [False]
    assert units("ReLU", smooth).dead.tolist() == [True]


@pytest.fixture
def classifier(tmp_path: Path, digits: Dataset, nearest_mean: Path) -> opsin.Classifier:
    run = write_run(tmp_path, "run", digits, answers_right(digits, 0.9), classifier=nearest_mean)
    return opsin.Classifier(run)


class Asked:
    def __init__(self, classifier: opsin.Classifier) -> None:
        self.classifier, self.times = classifier, 0

    def __call__(self) -> ReferenceSet:
        self.times += 1
        return known_images(self.classifier)


def look(classifier: opsin.Classifier, known: Callable[[], ReferenceSet] | None) -> Activity | None:
    network = OnnxGraph(classifier.path.read_bytes(), classifier.metadata.layers)
    return activity_of(classifier, network, known)


def same(one: Activity | None, other: Activity | None) -> bool:
    assert one is not None
    assert other is not None
    pairs = zip(one.layers.items(), other.layers.items(), strict=True)
    return one.images == other.images and all(
        a == b and plain_data(x) == plain_data(y) and x.op is y.op for (a, x), (b, y) in pairs
    )


def file_of(classifier: opsin.Classifier) -> Path:
    return classifier.path.parent / "inspection" / "activity.npz"


def test_figures_are_of_1000_training_images(classifier: opsin.Classifier, digits: Dataset) -> None:
    found = look(classifier, Asked(classifier))
    assert found is not None
    train = digits.split.train
    rows = train[np.linspace(0, len(train) - 1, 1000).astype(int)]
    flat = digits.images[rows].reshape(1000, -1).astype(np.float64) / 255
    units = found.layers["flatten"]
    assert found.images == 1000
    np.testing.assert_allclose(units.mean, flat.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(units.deviation, flat.std(axis=0), atol=1e-6)
    # Corners of the digits that nobody writes in.
    assert np.array_equal(units.dead, flat.max(axis=0) == flat.min(axis=0))
    assert units.dead.any()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no archive", None])
def test_a_damaged_file_is_made_anew(classifier: opsin.Classifier, content: bytes | None) -> None:
    asked = Asked(classifier)
    first = look(classifier, asked)
    file = file_of(classifier)
    file.write_bytes(file.read_bytes()[:-40] if content is None else content)
    assert same(first, look(classifier, asked))
    assert asked.times == 2
    look(classifier, asked)
    assert asked.times == 2


def test_where_nothing_can_be_written_the_figures_come_too(classifier: opsin.Classifier) -> None:
    file_of(classifier).parent.write_bytes(b"a file where the folder should be")
    asked = Asked(classifier)
    assert same(look(classifier, asked), look(classifier, asked))
    assert asked.times == 2


def test_images_of_another_source_leave_no_file(classifier: opsin.Classifier) -> None:
    known = known_images(classifier)
    other = replace(known, source="elsewhere", own=False)
    assert look(classifier, lambda: other) is not None
    assert not file_of(classifier).exists()
    # Of the same name, too: what that says depends on where one is, and its split may be another.
    given = known_images(classifier, [known.source])
    assert look(classifier, lambda: given) is not None
    assert not file_of(classifier).exists()


@pytest.mark.parametrize("kind", [SourceError, RunError])
def test_lost_images_are_told_and_passed(
    classifier: opsin.Classifier, kind: type[OpsinError]
) -> None:
    def lost() -> ReferenceSet:
        raise kind("The images are gone", "Restore them.")

    notes = Notes()
    network = OnnxGraph(classifier.path.read_bytes(), classifier.metadata.layers)
    assert activity_of(classifier, network, lost, watcher=notes) is None
    assert len(notes.notes) == 1
    assert "images are gone" in notes.notes[0]
