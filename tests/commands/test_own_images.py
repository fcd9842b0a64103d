"""A run's images are found again where they were moved to, if they are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.run_images import is_moved, load_run_images, recipe_of_run
from tests.commands.export import shipped
from tests.conftest import Notes, Train, write_shapes
from tests.made_runs import answers_right, write_run


def run_on(root: Path, *sources: Path, **options: Any) -> RunDirectory:
    data = opsin.load(*sources, **options)
    return RunDirectory(write_run(root / "runs", "run", data, answers_right(data, 0.9)))


def test_the_same_images_elsewhere_are_the_runs_own(tmp_path: Path, shapes: Path) -> None:
    run = run_on(tmp_path, shapes, split_seed=3, size=12)
    before, kept = load_run_images(run), run.dataset.read_bytes()
    load_run_images(run, shutil.copytree(shapes, tmp_path / "copy"))
    assert run.dataset.read_bytes() == kept  # not remembered while the original is there
    moved = shapes.rename(tmp_path / "moved")
    assert is_moved(run)
    with pytest.raises(opsin.MovedError, match="--data NEW") as error:
        load_run_images(run)
    assert error.value.gone == (str(shapes),)
    found = load_run_images(run, moved)
    assert found.fingerprint == before.fingerprint
    assert np.array_equal(found.split.test, before.split.test)
    assert not is_moved(run)
    assert load_run_images(run).recipe.sources == (str(moved),)


def test_other_images_are_refused_with_what_differs(tmp_path: Path, shapes: Path) -> None:
    run = run_on(tmp_path, shapes)
    moved = shapes.rename(tmp_path / "moved")
    for number in range(3):
        (moved / "disc" / f"{number}.png").unlink()
    with pytest.raises(opsin.SourceError, match="of 24 images 3 are missing"):
        load_run_images(run, moved)
    for number in range(2):
        Image.new("RGB", (24, 24), (number, 9, 9)).save(moved / "disc" / f"{number}.png")
    with pytest.raises(opsin.SourceError, match="3 are missing, and 2 others are there"):
        load_run_images(run, moved)
    assert is_moved(run)


def test_other_classes_are_refused(tmp_path: Path, shapes: Path) -> None:
    run = run_on(tmp_path, shapes)
    (shapes / "disc" / "0.png").rename(shapes / "square" / "was-a-disc.png")
    with pytest.raises(opsin.SourceError, match="images are the same, but classes"):
        load_run_images(run, shapes.rename(tmp_path / "moved"))


def test_each_source_has_its_place_in_order(tmp_path: Path) -> None:
    places = [write_shapes(tmp_path / name, count) for name, count in (("a", 8), ("b", 9))]
    test = write_shapes(tmp_path / "t", 4)
    run = run_on(tmp_path, *places, test=str(test))
    moved = [place.rename(tmp_path / f"new-{place.name}") for place in (*places, test)]
    with pytest.raises(opsin.MovedError) as error:
        load_run_images(run)
    assert error.value.gone == tuple(map(str, (*places, test)))
    with pytest.raises(opsin.RecipeError, match=r"has 3 sources, not 1"):
        load_run_images(run, moved[0])
    with pytest.raises(opsin.MovedError) as error:
        load_run_images(run, moved[:2])
    assert error.value.gone == (str(test),)
    assert recipe_of_run(run, moved).test == str(moved[2])
    assert load_run_images(run, moved).given_test
    assert json.loads(run.dataset.read_text())["location"]["test"] == str(moved[2])
    # One of them alone: the others stay where they are.
    again = moved[1].rename(tmp_path / "newer-b")
    assert len(load_run_images(run, [moved[0], again])) == 2 * (8 + 9 + 4)


def test_a_damaged_recipe_is_a_damaged_run(tmp_path: Path, shapes: Path) -> None:
    run = run_on(tmp_path, shapes)
    recipes: list[dict[str, Any]] = [{}, {"data": []}, {"data": {"size": "x"}}]
    for content in recipes:
        run.recipe.write_text(json.dumps(content))
        with pytest.raises(opsin.RunError):
            load_run_images(run)
    locations: list[Any] = [3, None, [4], {"sources": 3}, {"test": []}]
    for location in locations:
        run.dataset.write_text(json.dumps({"location": location}))
        with pytest.raises(opsin.RunError):
            load_run_images(run)


@pytest.fixture
def trained(tmp_path: Path, train: Train, shapes: Path) -> opsin.Run:
    run = train(shapes, model="mlp", epochs=1)
    shapes.rename(tmp_path / "moved")
    return run


@pytest.mark.torch
def test_every_function_takes_the_new_place(tmp_path: Path, trained: opsin.Run) -> None:
    moved, kept = tmp_path / "moved", trained.directory.dataset.read_bytes()

    def asked_again() -> opsin.Run:
        trained.directory.dataset.write_bytes(kept)
        return trained

    assert opsin.write_report(asked_again(), data=moved, deep=False).name == "report.html"
    longer = opsin.resume(asked_again(), moved, epochs=2, quiet=True)
    assert longer.directory.location().sources == [str(moved)]
    look = opsin.Inspection(asked_again(), data=moved)
    assert look.known.own
    assert len(look.known.train) == len(
        trained.directory.load_arrays(longer.directory.split)["train"]
    )
    assert shipped(asked_again(), "bundle", data=[moved]).images
    # Others are welcome to be looked at, and said to be others.
    (moved / "disc" / "0.png").unlink()
    notes = Notes()
    assert not opsin.Inspection(asked_again(), data=moved, watcher=notes).known.own
    assert any("1 are missing" in note for note in notes.notes)
