"""The map shows who is alike, is the same each time, and takes few images of one kind too."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from opsin.core.artifacts.run_report import MapFigures
from opsin.evaluation.embedding_map import map_embedding


def clouds(
    count: int, classes: int = 3, size: int = 60, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return embeddings in a cloud for each class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    middles = 6 * random.normal(size=(classes, size))
    return (middles[labels] + random.normal(size=(count, size))).astype(np.float32), labels


def mapped(embedding: NDArray[np.float32], labels: NDArray[np.int64], **options: int) -> MapFigures:
    names = [f"image {row}" for row in range(len(labels))]
    return map_embedding(embedding, labels, (labels + 1) % 3, names, list("abcde"), **options)


def places(figures: MapFigures) -> NDArray[np.float64]:
    return np.array([[point.x, point.y] for point in figures.points]).reshape(-1, 2)


def test_classes_that_lie_apart_do_so_on_the_map_and_it_is_always_the_same() -> None:
    embedding, labels = clouds(150)
    found = mapped(embedding, labels)
    assert found.method == "t-sne"
    distances = np.linalg.norm(places(found)[:, None] - places(found)[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(labels[distances.argmin(axis=1)] == labels) > 0.98
    assert min(entry.share for entry in found.apart) > 0.9
    assert mapped(embedding, labels) == found


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12, 29])
@pytest.mark.parametrize("size", [1, 2, 70])
def test_few_images_are_shown_by_their_components(count: int, size: int) -> None:
    found = mapped(*clouds(count, size=size))
    assert (found.method, places(found).shape) == ("pca", (count, 2))
    assert np.isfinite(places(found)).all()
    assert len(found.apart) == (min(count, 3) if count > 1 else 0)


@pytest.mark.parametrize("kinds", [1, 2])
def test_images_that_are_all_alike_do_no_harm(kinds: int) -> None:
    embedding = (np.arange(60)[:, None] % kinds * np.ones((1, 8))).astype(np.float32)
    found = mapped(embedding, np.arange(60) % 2)
    assert found.method == "pca"
    assert len(np.unique(places(found).round(3), axis=0)) == kinds


def test_embeddings_that_are_no_numbers_are_left_out() -> None:
    embedding, labels = clouds(20)
    embedding[[3, 7], 5] = np.nan, np.inf
    rows = [point.row for point in mapped(embedding, labels).points]
    assert rows == [row for row in range(20) if row not in (3, 7)]


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    most=st.integers(1, 29),
    seed=st.integers(0, 9),
)
def test_images_are_taken_evenly_from_the_classes(labels: list[int], most: int, seed: int) -> None:
    own = np.array(labels)
    embedding = np.random.default_rng(0).normal(size=(len(own), 3)).astype(np.float32)
    rows = [point.row for point in mapped(embedding, own, most=most, seed=seed).points]
    assert len(rows) == min(most, len(own))
    assert np.all(np.diff(rows) > 0)
    there, taken = np.bincount(own, minlength=5), np.bincount(own[rows], minlength=5)
    # No class has two fewer than another while it has images left.
    assert all(taken[k] >= taken.max() - 1 for k in range(5) if taken[k] < there[k])


def test_each_point_is_named_and_the_classes_least_apart() -> None:
    embedding, labels = clouds(45, classes=3)
    embedding[labels == 1] = embedding[labels == 0]  # two classes in one place
    data = mapped(embedding, labels, most=24)
    for point in data.points:
        assert point.name == f"image {point.row}"
        assert (point.label, point.answer) == (labels[point.row], (labels[point.row] + 1) % 3)
    assert data.apart[-1].name == "c"
    assert data.apart[0].share < 0.6 < data.apart[-1].share
