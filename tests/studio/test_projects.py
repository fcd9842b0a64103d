"""A project is its images with its classifiers: renamed, removed and restored as one."""

import shutil
from pathlib import Path

import pytest

import opsin
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.pages.verdicts import in_short
from opsin.studio.settings import StudioSettings
from tests.made_studio import write_two_runs


def started(folder: Path) -> Studio:
    studio = Studio(StudioSettings(runs=folder / "runs", home=folder / "home", roots=(folder,)))
    studio.runs.scan()
    return studio


@pytest.fixture
def parts(tmp_path: Path, digits: opsin.Dataset, nearest_mean: Path) -> Studio:
    write_two_runs(tmp_path / "runs", digits, nearest_mean)
    return started(tmp_path)


def names(parts: Studio) -> list[str]:
    return [project.name for project in parts.projects.all()]


def test_runs_of_the_command_line_are_a_project_by_their_source(parts: Studio) -> None:
    [project] = parts.projects.all()
    assert (project.dataset, len(project.classifiers)) == (None, 2)
    assert names(parts) == ["digits"]
    newest = project.classifier()
    assert newest is not None
    assert in_short(newest).startswith("Right for ")
    assert parts.projects.of_run(newest.id).id == project.id
    # Its images become a dataset: the project is the same.
    added = parts.sets.add_source(*newest.places)
    assert [item.id for item in parts.projects.all()] == [project.id] == [added.id]
    parts.sets.rename(added.id, "  Digits of ours ")
    assert names(parts) == names(started(parts.settings.home.parent)) == ["Digits of ours"]


def test_a_project_is_removed_and_restored_with_its_classifiers(parts: Studio) -> None:
    [project] = parts.projects.all()
    parts.sets.add_source(*project.runs[0].places, title="Numbers")
    token = parts.projects.remove(project.id)
    assert names(parts) == []
    # After a restart, too.
    parts = started(parts.settings.home.parent)
    [removed] = parts.projects.removed()
    assert (removed.name, removed.token) == ("Numbers", token)
    parts.projects.restore(token)
    assert names(parts) == ["Numbers"]
    assert len(parts.projects.get(project.id).classifiers) == 2
    assert parts.projects.removed() == []
    with pytest.raises(NotThere):
        parts.projects.restore(token)
    # A classifier by itself.
    alone = parts.runs.delete(project.runs[0].id)
    assert [item.token for item in parts.projects.removed()] == [alone]
    parts.projects.restore(alone)
    assert len(parts.projects.get(project.id).classifiers) == 2


def test_what_was_deleted_for_good_is_gone(parts: Studio) -> None:
    made = parts.sets.new_empty(["cat", "dog"])
    images = parts.sets.get(made.id).place
    kept = parts.sets.new_empty(["ant", "bee"])
    waiting = parts.sets.new_place("An upload on its way")
    waiting.mkdir(parents=True)
    token = parts.projects.remove(made.id)
    parts.sweep()
    parts.projects.restore(token)
    assert images.is_dir()
    token = parts.projects.remove(made.id)
    parts.sweep(0)
    assert not images.exists()
    assert parts.sets.get(kept.id).place.is_dir()
    assert waiting.is_dir()
    assert parts.projects.removed() == []
    with pytest.raises(NotThere):
        parts.projects.restore(token)


def test_nothing_is_removed_while_it_trains(parts: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    [project] = parts.projects.all()
    rows = {row.id: row for row in project.runs}
    row = project.runs[1]
    with monkeypatch.context() as patch:
        running = type(row)(**vars(row) | {"state": "running"})
        patch.setattr(parts.runs, "_rows", rows | {row.id: running})
        with pytest.raises(opsin.RunError, match="Stop the training first"):
            parts.projects.remove(project.id)
    waiting = parts.jobs.add("train", "Digits 3", ["x"], project=project.id)
    with pytest.raises(opsin.RunError, match="Stop the training first"):
        parts.projects.remove(project.id)
    assert len(parts.projects.get(project.id).runs) == 2
    parts.jobs.stop(waiting.id)
    token = parts.projects.remove(project.id)
    # What is still there comes back, although a part of it is gone for good.
    shutil.rmtree(parts.runs.deleted()[0].place)
    parts.projects.restore(token)
    assert len(parts.projects.get(project.id).runs) == 1
