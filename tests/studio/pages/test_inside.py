"""What an address of Look inside names, and what a run has to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("nicegui")

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.metadata import Layer
from opsin.core.storage import write_json
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.studio.context import Studio
from opsin.studio.pages.inside import _Inside, _read, _Results, _Shown
from opsin.studio.projects import Project
from opsin.studio.ui.maps import in_percent
from tests.made_runs import answers_right, write_run


@pytest.fixture
def run(tmp_path: Path, digits: Dataset, nearest_mean: Path) -> RunDirectory:
    right = answers_right(digits, 0.9)
    directory = RunDirectory(write_run(tmp_path, "means", digits, right, classifier=nearest_mean))
    layers = [layer.model_dump(mode="json") for layer in Classifier(nearest_mean).metadata.layers]
    report = json.loads(directory.report.read_text(encoding="utf-8"))
    write_json(directory.report, report | {"layers": layers})
    return directory


def shown(studio: Studio, results: _Results, asked: _Shown) -> _Shown:
    body = _Inside(studio, Project("0", "digits", None), "0", results, asked)
    body._check()
    return body._shown


def test_a_run_has_layers_and_the_images_that_it_was_judged_by(run: RunDirectory) -> None:
    results = _read(run)
    assert [layer.name for layer in results.layers] == ["input", "flatten", "head"]
    assert results.judged is not None
    assert results.moved is None
    assert len(results.judged.rows) > 100


def test_a_run_without_images_or_report_can_still_be_looked_into(run: RunDirectory) -> None:
    run.predictions.unlink()
    assert _read(run).judged is None
    run.report.unlink()  # an imported network has none
    assert _read(run).layers == []


def test_moved_images_are_told(tmp_path: Path, shapes: Path) -> None:
    data = opsin.load(shapes)
    run = RunDirectory(write_run(tmp_path / "runs", "one", data, answers_right(data, 0.8)))
    assert _read(run).judged is not None
    shapes.rename(tmp_path / "elsewhere")
    results = _read(run)
    assert results.judged is None
    assert results.moved is not None
    assert results.moved.gone == (str(shapes),)


@pytest.mark.parametrize(
    ("image", "becomes"),
    [
        ("", "0"), ("17", "17"), ("999999999", "178"), ("-1", "0"), ("../../etc/passwd", "0"),
        ("\u0663", "0"), ("00000000000000aa", "00000000000000aa"), ("../aa", "0"),
    ],
)  # fmt: skip
def test_an_address_names_a_photograph_or_the_first(
    studio: Studio, run: RunDirectory, image: str, becomes: str
) -> None:
    found = shown(studio, _read(run), _Shown(image, "nowhere", "3"))
    assert found.image == becomes
    assert found.layer in {"flatten", "head"}


def test_without_images_one_has_to_be_chosen(studio: Studio) -> None:
    layer = Layer(name="a", kind="Dense", shape=(3,), parameters=9, trainable=9, multiply_adds=9)
    assert shown(studio, _Results([layer]), _Shown("3", "a")) == _Shown("", "a")


def test_a_part_of_an_image_is_framed_in_percent() -> None:
    assert in_percent((2, 0, 4, 8), (8, 16)) == (25.0, 0.0, 25.0, 50.0)
