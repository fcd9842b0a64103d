"""A run goes on as if never left, or says why it cannot."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from tests.conftest import Notes, Train, without_drawing

pytestmark = pytest.mark.torch


def test_a_stopped_run_comes_to_the_file_of_one_never_stopped(
    stopped: opsin.Run, tmp_path: Path
) -> None:
    whole = opsin.train(
        "digits", model="mlp", epochs=3, batch_size=16, runs=tmp_path / "whole", quiet=True
    )
    again = opsin.resume(stopped, quiet=True)
    assert again.path == stopped.path
    assert again.directory.state()[0] == "done"
    assert again.directory.classifier.read_bytes() == whole.directory.classifier.read_bytes()
    assert [e.val_loss for e in again.history] == [e.val_loss for e in whole.history]
    assert again.figures == whole.figures
    assert again.report.training == whole.report.training
    assert again.report.seconds["train"] >= sum(e.seconds for e in again.history[1:])


@pytest.mark.drawn
def test_a_run_that_goes_on_after_its_evaluation_has_looked_twice(stopped: opsin.Run) -> None:
    assert stopped.report.looks == 1
    notes = Notes()
    again = opsin.resume(stopped, watcher=notes)
    assert again.report.looks == 2
    assert any("one more look" in note for note in notes.notes)
    assert "looked at 2 times" in again.directory.page.read_text(encoding="utf-8")
    assert opsin.evaluate(again.path, "digits").looks == 3


def test_with_changes_it_is_a_new_run_that_names_its_parent(train: Train) -> None:
    first = train("digits", model="mlp", epochs=2)
    kept = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    longer = opsin.resume(first, epochs=4, optimizer="sgd", learning_rate=0.01, quiet=True)
    assert longer.path != first.path
    assert longer.recipe.parent == first.path.name == longer.report.parent
    assert [epoch.epoch for epoch in longer.history] == [3, 4]
    assert {p: p.read_bytes() for p in first.path.rglob("*") if p.is_file()} == kept
    with pytest.raises(opsin.RecipeError, match="2 epochs are trained already"):
        opsin.resume(first, epochs=2, quiet=True)
    with pytest.raises(opsin.RunError, match="--epochs"):
        opsin.resume(first, quiet=True)
    with pytest.raises(opsin.RecipeError, match="hidden cannot be changed"):
        opsin.resume(first, hidden=(3,), quiet=True)


def test_more_epochs_after_a_patient_end_are_trained(train: Train) -> None:
    first = train(
        "digits", model="mlp", epochs=30, patience=1, schedule="constant", learning_rate=0.05
    )
    ended = len(first.history)
    assert ended < 30
    longer = opsin.resume(first, epochs=60, quiet=True)
    assert [epoch.epoch for epoch in longer.history][:1] == [ended + 1]


def test_killed_before_anything_but_the_recipe_was_written_or_still_in_use(
    stopped: opsin.Run, tmp_path: Path
) -> None:
    bare = tmp_path / "2026-01-01-bare"
    bare.mkdir()
    shutil.copy(stopped.directory.recipe, bare)
    directory = RunDirectory(bare)
    with directory.hold():
        directory.set_status("running")
        with pytest.raises(opsin.RunError, match="still being trained"):
            opsin.resume(bare, quiet=True)
    directory.status.unlink()
    assert opsin.resume(bare, quiet=True).accuracy > 0.5


def test_less_memory_than_it_was_begun_with_is_refused(
    stopped: opsin.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stopped.directory.recipe.read_bytes()
    monkeypatch.setattr(
        "opsin.training.device.estimate", lambda recipe, *_, **__: recipe.training.micro_batch or 16
    )
    monkeypatch.setattr("opsin.training.device.available", lambda _: 12)
    with pytest.raises(opsin.RecipeError, match="needs about"):
        opsin.resume(stopped, quiet=True)
    assert stopped.directory.recipe.read_bytes() == before


def test_other_images_are_refused(tmp_path: Path, digits: opsin.Dataset) -> None:
    def some(count: int) -> opsin.Dataset:
        return opsin.from_arrays(np.asarray(digits.images[:count]), digits.labels[:count])

    watcher = Notes(interrupt_at=3, training=True)
    options: dict[str, Any] = {"model": "mlp", "epochs": 3, "batch_size": 16, "runs": tmp_path}
    run = opsin.train(some(600), watcher=watcher, **options)
    with pytest.raises(opsin.RunError, match="have changed since"):
        opsin.resume(run, some(601), quiet=True)
    assert opsin.resume(run, some(600), quiet=True).directory.state()[0] == "done"


@pytest.mark.drawn
def test_a_loss_that_runs_away_leaves_a_file_and_says_so(train: Train) -> None:
    steps = {"optimizer": "sgd", "learning_rate": 100.0, "weight_decay": 10.0}
    run = train("digits", model="mlp", epochs=4, schedule="constant", **steps)
    assert "the loss became" in str(run.report.training.diverged)
    state, cause = run.directory.state()
    assert (state, cause) == ("stopped", run.report.training.diverged)
    assert run.classifier().predict(np.zeros((8, 8, 1), np.uint8)).label
    assert run.directory.page.is_file()


def test_where_every_checkpoint_is_damaged_it_does_not_begin_again_in_silence(
    stopped: opsin.Run,
) -> None:
    for file in stopped.directory.checkpoints.glob("*.safetensors"):
        file.write_bytes(b"rotten")
    with pytest.raises(opsin.RunError, match="no whole checkpoint left"):
        opsin.resume(stopped, quiet=True)


def test_a_child_that_dies_at_once_has_what_it_took_over(tmp_path: Path) -> None:
    class Dies(Notes):
        def advance(self, done: int, **figures: float) -> None:
            if "share" in figures:
                raise SystemExit

    first = opsin.train("digits", model="mlp", epochs=2, runs=tmp_path / "a", quiet=True)
    whole = opsin.resume(first, epochs=4, name="whole", quiet=True)
    with pytest.raises(SystemExit):
        opsin.resume(first, epochs=4, name="cut", watcher=Dies())
    [cut] = [run for run in opsin.list_runs(tmp_path / "a") if "cut" in run.path.name]
    again = opsin.resume(cut, quiet=True)
    assert again.directory.classifier.read_bytes() == whole.directory.classifier.read_bytes()
    # Before even that was written, it does not begin with fresh weights in silence.
    shutil.rmtree(cut.directory.checkpoints)
    cut.directory.set_status("failed")
    with pytest.raises(opsin.RunError, match="before it had taken over"):
        opsin.resume(cut, quiet=True)


@pytest.mark.drawn
def test_what_was_decided_stays_with_the_run(tmp_path: Path, digits: opsin.Dataset) -> None:
    labels = digits.labels[:700]
    rows = np.concatenate([np.flatnonzero(labels != 3), np.flatnonzero(labels == 3)[:6]])
    data = opsin.from_arrays(np.asarray(digits.images[:700])[rows], labels[rows])
    with without_drawing():
        run = opsin.train(
            data, epochs=3, hidden=(4,), runs=tmp_path, watcher=Notes(interrupt_at=3, training=True)
        )
    reasons = run.report.reasons
    assert "resnet 4" in reasons["Auto"]
    assert "drawn" in reasons["Balance"] or "weigh" in reasons["Balance"]
    again = opsin.resume(run, data, quiet=True)
    assert again.report.reasons == reasons
    assert reasons["Balance"] in again.directory.page.read_text(encoding="utf-8")


def test_without_its_checkpoints_it_begins_again(stopped: opsin.Run) -> None:
    shutil.rmtree(stopped.directory.checkpoints)
    notes = Notes()
    again = opsin.resume(stopped, watcher=notes)
    assert any("begins again" in note for note in notes.notes)
    assert [epoch.epoch for epoch in again.history] == [1, 2, 3]
    shutil.rmtree(stopped.directory.checkpoints)
    with pytest.raises(opsin.RunError, match="has no checkpoint"):
        opsin.resume(stopped, epochs=9, quiet=True)
