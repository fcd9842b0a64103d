"""The nearest images are those of a full comparison, and found again quickly."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import Watcher
from opsin.core.stored_json import plain_data
from opsin.data.dataset import Dataset
from opsin.data.lazy_images import ReferenceSet
from opsin.inspection import neighbours
from opsin.inspection.neighbours import FILE, directions, keep_embeddings, nearest
from opsin.runtime.classifier import Classifier


def test_rows_that_are_no_numbers_or_nothing_are_like_none() -> None:
    rows = np.array([[np.nan, np.inf], [0, 0]], np.float32)
    assert directions(rows, None).tolist() == [[0, 0], [0, 0]]


class Asked(Watcher):
    def __init__(self) -> None:
        self.images = 0

    def advance(self, done: int, **figures: float) -> None:
        self.images = done


@pytest.fixture
def known(digits: Dataset) -> ReferenceSet:
    split = digits.split
    return ReferenceSet(
        digits.images,
        digits.labels,
        digits.names,
        split.train,
        split.val,
        digits.recipe.source,
        own=True,
    )


@pytest.fixture
def file(nearest_mean: Path, tmp_path: Path) -> Classifier:
    (tmp_path / "recipe.json").write_text("{}", encoding="utf-8")
    shutil.copy(nearest_mean, tmp_path / "classifier.onnx")
    return Classifier(tmp_path / "classifier.onnx", threads=1)


def by_hand(known: ReferenceSet, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    rows = known.images[known.train].reshape(len(known.train), -1).astype(float)
    one = pixels.ravel().astype(float)
    cosines: NDArray[np.float64] = rows @ one / np.linalg.norm(rows, axis=1) / np.linalg.norm(one)
    return cosines


def test_the_nearest_are_those_of_a_full_comparison(
    file: Classifier, known: ReferenceSet, digits: Dataset
) -> None:
    pixels = np.array(digits.images[digits.split.test[3]])
    found = nearest(file, known, pixels, count=7)
    cosines = by_hand(known, pixels)
    assert [each.row for each in found] == known.train[np.argsort(-cosines)[:7]].tolist()
    np.testing.assert_allclose(
        [each.similarity for each in found], np.sort(cosines)[::-1][:7], atol=1e-5
    )
    for each in found:
        assert each.label == digits.labels[each.row] and each.name == digits.names[each.row]
        assert each.class_name == digits.classes[each.label]
        assert np.array_equal(each.pixels, digits.images[each.row]) and not each.same
    assert plain_data(found[0])["class"] == found[0].class_name


def test_the_second_image_is_quick_and_the_same(file: Classifier, known: ReferenceSet) -> None:
    pixels = np.array(known.images[known.val[0]])
    first, second = Asked(), Asked()
    one = nearest(file, known, pixels, watcher=first)
    two = nearest(file, known, pixels, watcher=second)
    assert (first.images, second.images) == (len(known.train), 0)
    assert [each.row for each in one] == [each.row for each in two]
    assert (file.path.parent / FILE).is_file()


def test_embeddings_of_the_training_are_used_again(file: Classifier, known: ReferenceSet) -> None:
    pixels = np.array(known.images[known.val[0]])
    computed = nearest(file, known, pixels)
    (file.path.parent / FILE).unlink()
    seen = file.layers(known.images[np.arange(len(known.images))], ["embedding"])["embedding"]
    keep_embeddings(RunDirectory(file.path.parent), file.content, known.train, seen)
    asked = Asked()
    found = nearest(file, known, pixels, watcher=asked)
    assert asked.images == 0 and [each.row for each in found] == [each.row for each in computed]


@pytest.mark.parametrize("harm", ["images", "bits", "rows", "file"])
def test_what_does_not_fit_is_made_anew(file: Classifier, known: ReferenceSet, harm: str) -> None:
    pixels = np.array(known.images[known.val[0]])
    expected = [each.row for each in nearest(file, known, pixels)]
    path = file.path.parent / FILE
    content = bytearray(path.read_bytes())
    if harm == "bits":
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    elif harm == "file":  # the same network under another description
        changed = file.path.read_bytes().replace(b"digits", b"digitz")
        file.path.write_bytes(changed)
        file = Classifier(file.path, threads=1)
    else:
        other = known.train[:-1] if harm == "images" else known.train[::-1]
        known = replace(known, train=other)
    asked = Asked()
    found = nearest(file, known, pixels, watcher=asked)
    assert asked.images == len(known.train)
    if harm not in {"images", "rows"}:
        assert [each.row for each in found] == expected


def test_where_nothing_can_be_kept_it_works_all_the_same(
    file: Classifier, known: ReferenceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.array(known.images[known.val[0]])
    expected = [each.row for each in nearest(file, known, pixels)]
    shutil.rmtree(file.path.parent / FILE.parent)
    (file.path.parent / FILE.parent).write_text("in the way", encoding="utf-8")
    assert [each.row for each in nearest(file, known, pixels)] == expected
    (file.path.parent / FILE.parent).unlink()
    own = replace(known, own=False)
    assert [each.row for each in nearest(file, own, pixels)] == expected
    assert not (file.path.parent / FILE).exists()
    monkeypatch.setattr(neighbours, "MOST", 1000)
    assert [each.row for each in nearest(file, known, pixels)] == expected
    assert not (file.path.parent / FILE).exists()
