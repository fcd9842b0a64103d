"""Slices cover the images, weak ones are found, and chance alone names none."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays

import opsin
from opsin.core.artifacts.run_report import Slice, Slices
from opsin.evaluation.intervals import wilson
from opsin.evaluation.slices import measure_traits, slice_accuracy


def slices_of(found: Slices, trait: str) -> list[Slice]:
    return next(each.slices for each in found.traits if each.name == trait)


def ends(slice_: Slice) -> tuple[float, float]:
    assert slice_.start is not None
    assert slice_.to is not None
    return slice_.start, slice_.to


@given(
    values=arrays.arrays(
        np.float64, st.integers(1, 80), elements=st.integers(-5, 5).map(float) | st.just(np.nan)
    ),
    seed=st.integers(0, 99),
)
def test_slices_part_the_images(values: np.ndarray[Any, np.dtype[np.float64]], seed: int) -> None:
    right = np.random.default_rng(seed).random(len(values)) < 0.8
    found = slice_accuracy(right, {"x": values})
    json.dumps(found.model_dump(mode="json", exclude_unset=True))
    if len(set(values[~np.isnan(values)])) < 2:
        assert found.traits == []
        return
    slices = slices_of(found, "x") if found.traits else []
    for one, other in itertools.pairwise(slices):
        assert ends(one)[0] <= ends(one)[1] < ends(other)[0]
    for each in slices:
        start, to = ends(each)
        inside = (values >= start) & (values <= to)
        assert each.images == inside.sum()
        assert each.right == (inside & right).sum()
        assert (each.low, each.high) == wilson(each.right, each.images)
    if slices:
        assert sum(each.images for each in slices) == np.sum(~np.isnan(values))


def test_a_weak_slice_is_named_and_the_others_are_not() -> None:
    random = np.random.default_rng(0)
    light = random.uniform(0, 255, 2000)
    right = random.random(2000) < np.where(light < 51, 0.7, 0.93)
    columns = {"place": [("lab", "street", "")[k % 3] for k in range(2000)]}
    found = slice_accuracy(right, {"brightness": light, "noise": random.random(2000)}, columns)
    (worst,) = found.weakest
    assert (worst.trait, worst.weak) == ("brightness", True)
    start, to = ends(worst)
    assert start < 1 and 45 < to < 55
    assert worst.high < found.accuracy
    assert worst.p is not None and worst.p < 1e-6
    assert found.judged == 12
    assert [each.value for each in slices_of(found, "place")] == ["lab", "street"]


def test_few_images_are_shown_and_not_judged() -> None:
    right = np.arange(500) >= 20
    who = ["anna"] * 20 + ["ben"] * 480
    found = slice_accuracy(right, {}, {"who": who})
    (ben, anna) = slices_of(found, "who")
    assert (ben.value, anna.value, anna.accuracy) == ("ben", "anna", 0.0)
    assert (anna.p, anna.weak, found.judged, found.weakest) == (None, False, 1, [])


def test_what_classes_explain_is_told_apart_and_comes_last() -> None:
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1], 1000)
    dark, far = random.random(2000) < 0.3, labels == 1
    right = random.random(2000) < np.where(far, 0.75, 0.97) - np.where(dark, 0.15, 0)
    columns = {"far": [str(each) for each in far], "dark": [str(each) for each in dark]}
    found = slice_accuracy(right, {}, columns, labels=labels)
    assert [(each.name, each.explained) for each in found.weakest] == [
        ("dark True", False),
        ("far True", True),
    ]
    assert found.weakest[0].accuracy > found.weakest[1].accuracy
    (far_slice,) = [each for each in slices_of(found, "far") if each.value == "True"]
    assert far_slice.expected == pytest.approx(far_slice.accuracy)


def test_without_a_difference_a_slice_is_named_in_at_most_one_of_twenty_reports() -> None:
    random = np.random.default_rng(0)
    named = 0
    for _ in range(120):
        right = random.random(300) < 0.85
        traits = {name: random.random(300) for name in "abcd"}
        named += bool(slice_accuracy(right, traits).weakest)
    assert named <= 0.05 * 120 + 2 * np.sqrt(120 * 0.05 * 0.95)


def test_out_of_fold_intervals_are_wider_and_name_fewer_slices() -> None:
    right = np.arange(200) % 10 > 0
    right[:40] = np.arange(40) % 4 > 0
    found, wider = (
        slice_accuracy(right, {"size": np.arange(200.0)}, out_of_fold=out_of_fold)
        for out_of_fold in (False, True)
    )
    assert wider.low < found.low < found.high < wider.high
    for narrow, wide in zip(slices_of(found, "size"), slices_of(wider, "size"), strict=True):
        assert wide.low < narrow.low < narrow.high < wide.high
        assert wide.accuracy == narrow.accuracy
    assert len(found.weakest) >= len(wider.weakest)


def test_columns_of_numbers_are_cut_and_columns_of_names_left_out() -> None:
    random = np.random.default_rng(0)
    right = np.ones(600, bool)
    ages = [str(age) for age in random.integers(1, 100, 600)]
    names = [f"file {k}" for k in range(600)]
    found = slice_accuracy(right, {}, {"age": ages, "file": names, "same": ["x"] * 600})
    assert [each.name for each in found.traits] == ["age"]
    assert len(slices_of(found, "age")) == 5


def test_traits_are_those_of_the_chosen_images(digits: opsin.Dataset) -> None:
    rows = np.array([5, 3, 1000])
    traits = measure_traits(digits.images, rows, digits.sizes)
    assert set(traits) == {"brightness", "contrast", "sharpness"}  # all are of one size
    pixels = digits.images[rows].reshape(3, -1)
    assert traits["brightness"] == pytest.approx(pixels.mean(axis=1))
    assert traits["contrast"] == pytest.approx(pixels.std(axis=1), rel=1e-5)
    sizes = np.array([[8, 8], [16, 4], [20, 5], [8, 8]], np.int32)
    images = np.zeros((4, 8, 8, 3), np.uint8)
    assert measure_traits(images, np.array([2, 0]), sizes)["size"].tolist() == [10, 8]
    assert "size" not in measure_traits(images, np.array([3, 0]), sizes)
    assert measure_traits(images, np.zeros(0, np.int64))["brightness"].shape == (0,)


def test_mistakes_of_one_group_make_no_slice_weak() -> None:
    groups = np.arange(400) // 40
    right = groups != 3
    columns = {"person": [f"p{number}" for number in groups]}
    alone = slice_accuracy(right, {}, columns)
    assert [each.name for each in alone.weakest] == ["person p3"]
    grouped = slice_accuracy(right, {}, columns, groups=groups)
    assert grouped.weakest == []
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_slice_that_is_worse_in_many_groups_is_weak() -> None:
    random = np.random.default_rng(0)
    groups = np.arange(600) // 5
    dark = random.random(600) < 0.3
    right = random.random(600) < np.where(dark, 0.4, 0.95)
    found = slice_accuracy(
        right, {}, {"light": np.where(dark, "dark", "day").tolist()}, groups=groups
    )
    assert [each.name for each in found.weakest] == ["light dark"]


@pytest.mark.slow
def test_without_a_difference_slices_of_grouped_images_are_rarely_weak() -> None:
    random = np.random.default_rng(1)
    groups = np.arange(400) // 10
    named = 0
    for _ in range(300):
        own = random.beta(6.0, 1.5, 40)[groups]
        camera = random.integers(0, 4, 40)[groups].astype(str).tolist()
        found = slice_accuracy(random.random(400) < own, {}, {"camera": camera}, groups=groups)
        named += bool(found.weakest)
    assert named / 300 <= 0.07
