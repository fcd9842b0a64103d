"""What a layer's units like best does not depend on how the images come."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError, RecipeError, SourceError
from opsin.inspection.units import UnitCounter, UnitRecord, unit_gallery
from tests.inspection.made_network import made


def record_of(
    maps: NDArray[np.float32],
    labels: NDArray[np.int64],
    sizes: list[int],
    *,
    keep: int = 4,
    rows: NDArray[np.int64] | None = None,
) -> UnitRecord:
    rows = np.arange(len(maps)) if rows is None else rows
    counter = UnitCounter(maps.shape[1], 3, keep=keep)
    start = 0
    for size in [*sizes, len(maps)]:
        some = rows[start : start + size]
        if len(some):
            counter.add(maps[some], some, labels[some])
        start += size
    return counter.record()


def drawn(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    drawing = np.random.default_rng(seed)
    maps = drawing.integers(-2, 3, (count, 5, 2, 3)).astype(np.float32)
    return maps, drawing.integers(0, 3, count)


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_it_says_what_sorting_everything_says(seed: int, count: int) -> None:
    maps, labels = drawn(seed, count)
    record = record_of(maps, labels, [7, 7])
    flat = maps.reshape(count, 5, -1)
    for unit in range(5):
        order = np.lexsort((np.arange(count), -flat[:, unit].max(axis=1)))[:4]
        assert record.rows[unit].tolist() == order.tolist()
        assert record.values[unit].tolist() == flat[order, unit].max(axis=1).tolist()
        assert record.places[unit].tolist() == flat[order, unit].argmax(axis=1).tolist()
        assert record.mix[unit].tolist() == np.bincount(labels[order], minlength=3).tolist()
    for label in range(3):
        own = flat[labels == label]
        if len(own):
            np.testing.assert_allclose(record.mean[:, label], own.mean(axis=(0, 2)), atol=1e-6)
        else:
            assert np.isnan(record.mean[:, label]).all()
    np.testing.assert_allclose(record.deviation, flat.mean(axis=2).std(axis=0), atol=1e-6)


def test_selectivity_is_the_lift_in_deviations() -> None:
    labels = np.array([0, 0, 1, 1])
    maps = np.zeros((4, 3), np.float32)
    maps[labels == 1, 0] = 2  # fires for the second class alone
    maps[:, 1] = 0.1  # never changes
    maps[:, 2] = [0, 2, 0, 2]  # has nothing to do with the classes
    record = record_of(maps, labels, [])
    found = record.selectivity
    np.testing.assert_allclose(found[0], [-2, 2, 0])
    assert found[1].tolist() == [0, 0, 0]
    np.testing.assert_allclose(found[2], [0, 0, 0], atol=1e-12)
    assert record.constant.tolist() == [False, True, False]


def test_the_best_images_are_those_of_the_whole_layer(tmp_path: Path) -> None:
    classifier, network, known = made(tmp_path, count=600)
    gallery = unit_gallery(classifier, network, known, "relu")
    rows = np.sort(known.train)
    maps = classifier.layers(np.asarray(known.images[rows]), ["relu"])["relu"]
    assert gallery.images == 400
    assert len(gallery) == 4
    for unit in gallery.units:
        largest = maps[:, unit.number].reshape(400, -1).max(axis=1)
        best = rows[np.lexsort((rows, -largest))][:9]
        assert [image.row for image in unit.best] == best.tolist()
        for image in unit.best:
            assert image.name == f"train/{image.row}"
            assert image.label == classifier.classes[known.labels[image.row]]
            values = maps[np.searchsorted(rows, image.row), unit.number]
            assert image.place is not None
            assert values[image.place] == image.value == values.max()
            top, left, bottom, right = image.box
            y, x = image.place
            assert (top, left) == (max(y - 1, 0), max(x - 1, 0))
            assert (bottom, right) == (min(y + 2, 6), min(x + 2, 6))
            assert np.array_equal(image.patch, known.images[image.row][top:bottom, left:right])
        assert sum(unit.mix.values()) == 100


def test_search_ranks_the_units_that_fire_for_a_class(tmp_path: Path) -> None:
    classifier, network, known = made(tmp_path)
    gallery = unit_gallery(classifier, network, known, "dense")
    found = gallery.search("square")
    values = classifier.layers(np.asarray(known.images[known.train]), ["dense"])["dense"]
    own = known.labels[known.train] == 1
    lift = (values[own].mean(axis=0) - values[~own].mean(axis=0)) / values.std(axis=0)
    assert [match.unit for match in found] == [u for u in np.argsort(-lift) if lift[u] > 0]
    for match in found:
        assert match.selectivity == pytest.approx(lift[match.unit], rel=1e-4)
        assert match.mean > match.rest
    with pytest.raises(RecipeError, match="no class 'squares' among square, "):
        gallery.search("squares")


def test_unknown_names_are_told_the_closest_first(tmp_path: Path) -> None:
    classifier, network, known = made(tmp_path)
    with pytest.raises(ModelFileError, match="no layer 'conv3' among conv, conv2, "):
        unit_gallery(classifier, network, known, "conv3")
    with pytest.raises(ModelFileError, match="conv has no unit 4"):
        unit_gallery(classifier, network, known, "conv").unit(4)
    with pytest.raises(RecipeError, match="at least 1"):
        unit_gallery(classifier, network, known, "conv", limit=0)
    none = replace(known, train=known.train[:0])
    with pytest.raises(SourceError, match="made has no"):
        unit_gallery(classifier, network, none, "conv")
