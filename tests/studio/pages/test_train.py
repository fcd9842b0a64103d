"""The page Train: what it asks for, and what it says when that is not possible."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.corrections import write_corrections
from opsin.studio.context import Studio
from opsin.studio.pages.train import _TrainPage, asked_here
from opsin.studio.ui.training_cards import cause_in_words
from opsin.studio.ui.training_settings import time_in_words
from tests.conftest import write_shapes
from tests.made_runs import answers_right, write_run


@pytest.fixture
def project(studio: Studio, shapes: Path, tmp_path: Path) -> str:
    """The id of a project with a copy of the images, so that they can be moved."""
    shutil.copytree(shapes, tmp_path / "mine")
    return studio.sets.add_source(str(tmp_path / "mine"), title="Shapes").id


def opened(studio: Studio, project: str, source_run: str = "") -> _TrainPage:
    """A page as it is opened, without a window."""
    page = _TrainPage(studio, studio.projects.get(project))
    asyncio.run(page.read(source_run))
    return page


def test_a_training_is_named_after_its_project(studio: Studio, project: str) -> None:
    page = opened(studio, project)
    page._add()
    page._add()
    first, second = studio.jobs.jobs()
    assert (first.title, second.title) == ("Shapes 1", "Shapes 2")
    assert first.project == project
    assert "--name=Shapes 1" in first.argv
    assert studio.jobs.of_project(project) == [first, second]
    assert studio.jobs.of_project("another") == []


def test_a_training_keeps_its_number_when_another_is_tried_again_or_removed(
    studio: Studio, project: str, digits: opsin.Dataset
) -> None:
    """Each run has the number of its job, and a new one a number that none had."""
    page = opened(studio, project)
    for _ in range(3):
        page._add()
    jobs = studio.jobs.jobs()
    right = answers_right(digits, 1.0)
    runs = [write_run(studio.runs.root, f"run {at}", digits, right) for at in range(3)]
    for job, run in zip(jobs, runs, strict=True):
        studio.jobs._look(job.model_copy(update={"run": run.name}))
    studio.runs.scan()
    rows = {row.folder: row for row in studio.runs.rows()}
    assert [rows[run.name].number for run in runs] == [1, 2, 3]
    studio.runs.delete(rows[runs[0].name].id)
    left = replace(studio.projects.get(project), runs=tuple(studio.runs.rows()))
    titles = {left.title_of(row) for row in left.runs}
    assert titles == {"Shapes 2", "Shapes 3"}
    assert left.next_title([]) == "Shapes 4"
    renamed = replace(left, name="Forms")
    assert {renamed.title_of(row) for row in left.runs} == {"Forms 2", "Forms 3"}
    # What people call it stays, and its number too.
    RunDirectory(runs[2]).write_notes(name="The best")
    studio.jobs._look(jobs[0].model_copy(update={"run": runs[2].name}))
    studio.runs.scan()
    row = studio.runs.row(rows[runs[2].name].id)
    assert (left.title_of(row), row.number) == ("The best", 3)


def test_trained_images_keep_their_parts(studio: Studio, project: str, tmp_path: Path) -> None:
    words = opened(studio, project)._argv()
    assert not [word for word in words if word.startswith(("--parts-of", "--labels"))]
    run = opsin.train(tmp_path / "mine", model="knn", runs=tmp_path / "runs", quiet=True)
    studio.runs.scan()
    write_corrections(studio.sets.corrections_path(project), [])
    page = opened(studio, project)
    words = page._argv(name=page._project.name)
    assert f"--parts-of={run.path}" in words
    assert f"--labels={studio.sets.corrections_path(project)}" in words
    cloned = opened(studio, project, studio.runs.rows()[0].id)
    assert f"--parts-of={run.path}" in cloned._argv()
    assert cloned.settings.values["model"] == "knn"
    assert "--model=knn" in cloned._argv()
    # The usual split is not stated: with it, a head would not be judged by all images.
    stated = [word for word in cloned._argv() if word.startswith(("--val-", "--test-", "--split"))]
    assert stated == []
    # Who asks for another split gets one.
    page.settings._values["split_seed"] = "7"
    assert not [word for word in page._argv() if word.startswith("--parts-of")]


def test_a_class_more_is_added_to_the_last_classifier(studio: Studio, shapes: Path) -> None:
    """Its parts stay; other settings, or a class that is gone, make a training of its own."""
    dataset = studio.sets.new_empty(["disc", "square"], title="Shapes")
    shutil.copytree(shapes, dataset.place, dirs_exist_ok=True)
    run = opsin.train(dataset.place, model="knn", runs=studio.settings.runs, quiet=True)
    studio.runs.scan()
    assert not [word for word in opened(studio, dataset.id)._argv() if "--add-to" in word]
    write_shapes(dataset.place, kinds=("cross",))
    page = opened(studio, dataset.id)
    words = page._argv()
    assert f"--add-to={run.path}" in words
    assert not [word for word in words if word.startswith("--parts-of")]
    assert page._more_classes == ["cross"]
    page.settings._values["model"] = "svm"
    assert not [word for word in page._argv() if word.startswith("--add-to")]
    shutil.rmtree(dataset.place / "disc")
    assert not [word for word in opened(studio, dataset.id)._argv() if "--add-to" in word]


def test_levels_are_options_and_say_their_time(studio: Studio, project: str) -> None:
    page = opened(studio, project)
    settings = page.settings
    assert settings.level == settings._levels["Good"]
    assert settings.level.words.startswith("about ")
    times = list(map(time_in_words, (21, 88, 900, 7_200)))
    assert times == ["about 20 seconds", "about 90 seconds", "about 15 minutes", "about 2.0 hours"]
    # What Opsin would choose is shown; another choice takes along what belonged to the older one.
    planned = {"sources": ["x"], "model": "backbone", "fine_tune": False, "size": [260, 260]}
    settings._automatic = {"model": "backbone", "fine_tune": "no"}
    settings.show_automatic(planned | {"fold": None})
    shown = settings._known("model"), settings._placeholder("size")
    assert shown == ("backbone", "Automatic: 260x260")
    settings._values = dict(settings._levels["Quick"].options)
    assert "--from=efficientnet-lite0" in page._argv()
    settings._values = dict(settings._levels["As good as it gets"].options)
    assert "--budget=10m" in page._argv()
    settings._values["epochs"] = "many"
    assert settings.faults == ["Epochs: must be a whole number, not 'many'"]


def test_what_cannot_be_trained_says_what_to_do(
    studio: Studio, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = opened(studio, project)
    assert not page.wrong
    for cause, words in (
        ("cannot write x: No space left on device", "Free some space"),
        (f"There is no folder {tmp_path / 'mine'}. Try --test.", "There is no folder Shapes."),
        ("/home/ann/x.jpg is no image", "x.jpg is no image"),
    ):
        assert words in cause_in_words(studio, cause)
        assert "--" not in cause_in_words(studio, cause)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(opsin.StorageError, match="disk is full"):
        page._add()
    for folder in sorted((tmp_path / "mine").iterdir())[1:]:
        shutil.rmtree(folder)
    assert "at least two classes" in opened(studio, project).wrong
    shutil.rmtree(tmp_path / "mine")
    moved = opened(studio, project)
    assert str(tmp_path) not in str(moved._fault)
    assert moved.wrong == "The photographs cannot be read."


@pytest.mark.parametrize(
    ("site", "own"),
    [
        (None, True), ("none", True), ("same-origin", True), ("same-site", False),
        ("cross-site", False),
    ],
)  # fmt: skip
def test_no_other_page_starts_a_training(site: str | None, own: bool) -> None:
    assert asked_here({} if site is None else {"sec-fetch-site": site}) is own
