"""The gallery of a layer's units, on a real file and real pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opsin.commands.inside.units import unit_gallery
from opsin.core.errors import ModelFileError, RecipeError, SourceError
from opsin.core.events import Watcher
from opsin.data.reference_set import ReferenceSet
from tests.inspection.made_network import made


class Steps(Watcher):
    def __init__(self) -> None:
        self.told: list[object] = []

    def begin(self, what: str, total: int, unit: str) -> None:
        self.told.append((what, total, unit))

    def advance(self, done: int, **figures: float) -> None:
        self.told.append(done)

    def end(self) -> None:
        self.told.append("end")


def test_the_best_pictures_are_those_of_the_whole_layer(tmp_path: Path) -> None:
    classifier, network, known = made(tmp_path, count=600)
    steps = Steps()
    gallery = unit_gallery(classifier, network, known, "relu", watcher=steps)
    assert steps.told == [("Units of relu", 400, "pictures"), 256, 400, "end"]
    rows = np.sort(known.train)
    maps = classifier.layers(np.asarray(known.images[rows]), ["relu"])["relu"]
    assert gallery.images == 400
    assert len(gallery) == 4
    for unit in gallery:
        largest = maps[:, unit.number].reshape(400, -1).max(axis=1)
        best = rows[np.lexsort((rows, -largest))][:9]
        assert [picture.row for picture in unit.best] == best.tolist()
        for picture in unit.best:
            assert picture.name == f"train/{picture.row}"
            assert picture.label == classifier.classes[known.labels[picture.row]]
            values = maps[np.searchsorted(rows, picture.row), unit.number]
            assert picture.place is not None
            assert values[picture.place] == picture.value == values.max()
            top, left, bottom, right = picture.box
            y, x = picture.place
            assert (top, left) == (max(y - 1, 0), max(x - 1, 0))
            assert (bottom, right) == (min(y + 2, 6), min(x + 2, 6))
            assert np.array_equal(picture.patch, known.images[picture.row][top:bottom, left:right])
        assert sum(unit.mix.values()) == 100


def test_a_unit_that_sees_everything_shows_everything(tmp_path: Path) -> None:
    gallery = unit_gallery(*made(tmp_path), "dense", limit=7)
    assert gallery.images == 7
    assert gallery.sees is None
    (picture, *_) = gallery.unit(4).best
    assert picture.place is None
    assert picture.patch.shape == picture.pixels.shape == (6, 6, 1)
    assert len(gallery.unit(4).best) == 7


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
    with pytest.raises(RecipeError, match="among square, "):
        gallery.search("squares")


def test_unknown_names_are_told_the_closest_first(tmp_path: Path) -> None:
    classifier, network, known = made(tmp_path)
    with pytest.raises(ModelFileError, match=r"among conv, conv2, .*got 'conv3'"):
        unit_gallery(classifier, network, known, "conv3")
    with pytest.raises(ModelFileError, match="0 to 3; got 4"):
        unit_gallery(classifier, network, known, "conv").unit(4)
    with pytest.raises(RecipeError, match="at least 1"):
        unit_gallery(classifier, network, known, "conv", limit=0)
    none = ReferenceSet(known.images, known.labels, known.names, known.train[:0], known.val, "here")
    with pytest.raises(SourceError, match="here has none"):
        unit_gallery(classifier, network, none, "conv")


def test_json_is_plain_and_whole(tmp_path: Path) -> None:
    classifier, network, known = made(tmp_path)
    alone = ReferenceSet(
        known.images, known.labels * 0, known.names, known.train, known.val, "here"
    )
    said = unit_gallery(classifier, network, alone, "add").to_json()
    text = json.dumps(said, allow_nan=False)
    assert json.loads(text) == said
    assert said["layer"] == "add"
    assert said["sees"] == [5, 5]
    assert [unit["unit"] for unit in said["units"]] == [0, 1, 2, 3]
    # Two classes have no pictures: they have no mean, and lift nothing.
    assert said["units"][0]["mean"]["square"] is None
    assert set(said["units"][0]["selectivity"].values()) == {0}


def test_four_thousand_units_of_a_layer_take_seconds(tmp_path: Path) -> None:
    classifier, network, known = made(tmp_path, units=1024, side=2)
    gallery = unit_gallery(classifier, network, known, "flatten")
    assert len(gallery) == 4096
    assert len(gallery.unit(4095).best) == 9


def test_ctrl_c_comes_through(tmp_path: Path) -> None:
    class Stop(Watcher):
        def advance(self, done: int, **figures: float) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unit_gallery(*made(tmp_path), "conv", watcher=Stop())
    assert [path.name for path in tmp_path.iterdir()] == ["classifier.onnx"]
