"""Figures over many pictures: whatever the batches, and which units are dead or saturated."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.core.metadata import Layer
from opsin.inspection.activity import (
    Activity,
    ActivityRecord,
    UnitActivity,
    layers_with_units,
)


def layer(kind: str, shape: tuple[int, ...], name: str = "l") -> Layer:
    return Layer(name=name, kind=kind, shape=shape, parameters=0, trainable=0, multiply_adds=0)


def units(kind: str, values: NDArray[np.float32]) -> UnitActivity:
    record = ActivityRecord([layer(kind, values.shape[1:])])
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
    record = ActivityRecord([layer("Tanh", shape)])
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
    values[7, 1, 2, 2] = 1e-3  # one place of one picture is enough to be alive
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


def test_saturated_is_a_tanh_at_its_ends_nearly_everywhere() -> None:
    values = np.full((100, 3), 0.999, np.float32)
    values[::2] *= -1
    values[:5, 1] = 0.5
    values[:6, 2] = 0.5
    assert units("Tanh", values).saturated.tolist() == [True, True, False]
    assert not units("Dense", values).saturated.any()
    assert not units("Tanh", values).dead.any()


def test_layers_that_pass_on_what_they_are_given_have_no_units() -> None:
    kinds = ["Normalise", "Scale", "Mean 2×2, scale", "Flatten", "Dropout 0.5", "Dense", "Maximum"]
    layers = [layer(kind, (2,), kind) for kind in kinds]
    assert [each.kind for each in layers_with_units(layers)] == ["Dense", "Maximum"]


def test_json_is_plain() -> None:
    activity = Activity(4, {"l": units("ReLU", np.zeros((4, 2), np.float32))})
    said = json.loads(json.dumps(activity.to_json(), allow_nan=False))
    assert said["images"] == 4
    assert said["layers"]["l"]["dead"] == [0, 1]
    assert said["layers"]["l"]["highest"] == [0, 0]
