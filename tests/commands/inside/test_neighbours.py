"""The nearest training pictures are the nearest, and are found again without asking the network."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from opsin.commands.inside import neighbours
from opsin.commands.inside.neighbours import FILE, nearest
from opsin.core.errors import StorageError
from opsin.core.events import Watcher
from opsin.data.dataset import Dataset
from opsin.data.reference_set import ReferenceSet
from opsin.runtime.classifier import Classifier


class Asked(Watcher):
    """Counts the pictures that the network was asked about."""

    def __init__(self) -> None:
        self.pictures = 0

    def advance(self, done: int, **figures: float) -> None:
        self.pictures = done


@pytest.fixture
def known(digits: Dataset) -> ReferenceSet:
    split = digits.split
    return ReferenceSet(
        digits.images, digits.labels, digits.names, split.train, split.val, digits.recipe.source
    )


@pytest.fixture
def file(nearest_mean: Path, tmp_path: Path) -> Classifier:
    """A classifier in something that passes for a run directory."""
    (tmp_path / "recipe.json").write_text("{}", encoding="utf-8")
    shutil.copy(nearest_mean, tmp_path / "classifier.onnx")
    return Classifier(tmp_path / "classifier.onnx", threads=1)


def by_hand(known: ReferenceSet, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the cosines to all training pictures; the embedding is the picture itself."""
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
    assert found[0].to_json()["class"] == found[0].class_name


def test_a_training_picture_finds_itself(file: Classifier, known: ReferenceSet) -> None:
    row = known.train[5]
    first, second, *_ = nearest(file, known, np.array(known.images[row]))
    assert (first.row, first.same, second.same) == (row, True, False)
    assert first.similarity == pytest.approx(1)


def test_the_second_picture_is_quick_and_the_same(file: Classifier, known: ReferenceSet) -> None:
    pixels = np.array(known.images[known.val[0]])
    first, second = Asked(), Asked()
    one = nearest(file, known, pixels, watcher=first)
    two = nearest(file, known, pixels, watcher=second)
    assert (first.pictures, second.pictures) == (len(known.train), 0)
    assert [each.row for each in one] == [each.row for each in two]
    assert (file.path.parent / FILE).is_file()


@pytest.mark.parametrize("harm", ["cut", "other", "pictures", "bits", "rows", "source", "file"])
def test_what_does_not_fit_is_made_anew(file: Classifier, known: ReferenceSet, harm: str) -> None:
    pixels = np.array(known.images[known.val[0]])
    expected = [each.row for each in nearest(file, known, pixels)]
    path = file.path.parent / FILE
    content = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "bits":
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    elif harm == "other":
        path.write_bytes(b"no arrays")
    elif harm == "file":  # the same network under another description
        changed = file.path.read_bytes().replace(b"nearest-mean", b"nearest-name")
        file.path.write_bytes(changed)
        file = Classifier(file.path, threads=1)
    elif harm == "source":
        known = replace(known, source="elsewhere")
    else:
        other = known.train[:-1] if harm == "pictures" else known.train[::-1]
        known = replace(known, train=other)
    asked = Asked()
    found = nearest(file, known, pixels, watcher=asked)
    assert asked.pictures == len(known.train)
    if harm not in {"pictures", "rows"}:
        assert [each.row for each in found] == expected


def test_where_nothing_can_be_kept_it_works_all_the_same(
    file: Classifier, known: ReferenceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.array(known.images[known.val[0]])
    expected = [each.row for each in nearest(file, known, pixels)]
    shutil.rmtree(file.path.parent / FILE.parent)
    (file.path.parent / FILE.parent).write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError):
        neighbours._write(file.path.parent / FILE, "", 1, 1, iter(()))
    assert [each.row for each in nearest(file, known, pixels)] == expected
    (file.path.parent / FILE.parent).unlink()
    monkeypatch.setattr(neighbours, "MOST", 1000)
    assert [each.row for each in nearest(file, known, pixels)] == expected
    assert not (file.path.parent / FILE).exists()


def test_a_file_outside_a_run_gets_nothing_written_beside_it(
    nearest_mean: Path, known: ReferenceSet
) -> None:
    assert nearest(Classifier(nearest_mean), known, np.array(known.images[0]), count=2)
    assert not (nearest_mean.parent / FILE).exists()


def test_no_training_pictures_no_neighbours(file: Classifier, known: ReferenceSet) -> None:
    none = replace(known, train=known.train[:0])
    assert nearest(file, none, np.array(known.images[0])) == []
