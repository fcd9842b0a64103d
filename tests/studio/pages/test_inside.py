"""What an address of Look inside names, and what a run has to show."""

from pathlib import Path

import pytest

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.metadata import Layer
from opsin.studio.pages.inside import _Shown, checked, rows_judged
from opsin.studio.ui.graph import blocks_of
from opsin.studio.ui.maps import confidence_of, in_percent
from tests.made_runs import answers_right, write_run


def test_the_images_that_judged_are_there_mistakes_first(
    tmp_path: Path, shapes: Path, digits: opsin.Dataset, nearest_mean: Path
) -> None:
    right = answers_right(digits, 0.9)
    run = RunDirectory(write_run(tmp_path, "means", digits, right, classifier=nearest_mean))
    judged = RunPredictions.read(run).of("test")
    rows = rows_judged(run)
    assert sorted(rows) == sorted(judged.rows)
    wrong = judged.rows[~judged.right]
    assert len(wrong) and {*rows[: len(wrong)]} == {*wrong}
    run.predictions.unlink()
    with pytest.raises(opsin.OpsinError):
        rows_judged(run)
    data = opsin.load(shapes)
    run = RunDirectory(write_run(tmp_path / "runs", "one", data, answers_right(data, 0.8)))
    shapes.rename(tmp_path / "elsewhere")
    with pytest.raises(opsin.MovedError) as moved:
        rows_judged(run)
    assert moved.value.gone == (str(shapes),)


def layer(name: str, kind: str = "ReLU") -> Layer:
    return Layer(name=name, kind=kind, shape=(3,), parameters=9, trainable=9, multiply_adds=9)


@pytest.mark.parametrize(
    ("image", "becomes"),
    [
        ("", "0"), ("17", "17"), ("999999999", "178"), ("-1", "0"), ("../../etc/passwd", "0"),
        ("\u0663", "0"), ("00000000000000aa", "00000000000000aa"), ("../aa", "0"),
    ],
)  # fmt: skip
def test_an_address_names_a_photograph_or_the_first(image: str, becomes: str) -> None:
    blocks = blocks_of([layer("input"), layer("a", "Dense"), layer("head", "Dense")])
    assert checked(_Shown(image, "nowhere", "3"), blocks, 179) == _Shown(becomes, "a", "3")
    assert checked(_Shown(image, "head"), blocks, 179).layer == "head"
    if len(becomes) < 16:  # without images one has to be chosen
        assert checked(_Shown(image, "a"), blocks, 0).image == ""


def test_maps_are_framed_in_percent_and_no_classifier_is_certain() -> None:
    assert in_percent((2, 0, 4, 8), (8, 16)) == (25.0, 0.0, 25.0, 50.0)
    assert list(map(confidence_of, (0.9999, 0.962, 0.0001))) == [">99%", "96%", "<1%"]
