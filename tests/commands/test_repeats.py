"""Several runs are each what a single one would have been, and their summary follows from them."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.commands.repeats import summarise
from opsin.core.storage import write_json
from opsin.data.cache import short_digest
from opsin.data.corrections import read_corrections
from opsin.evaluation.intervals import wilson
from tests.conftest import Cli, Notes, Train, only_json, without_drawing


class AtRun(Notes):
    """Does something once the first epoch of that run of a series has ended."""

    def __init__(self, number: int, do: Callable[[], object]) -> None:
        super().__init__()
        self.number, self.do = f"{number} of ", do

    def epoch(self, epoch: opsin.Epoch) -> None:
        if (self.facts.get("Repeat") or self.facts["Fold"]).startswith(self.number):
            self.number = "done"
            self.do()


@pytest.fixture(scope="module")
def repeats(tmp_path_factory: pytest.TempPathFactory) -> opsin.Repeats:
    pytest.importorskip("torch")
    root = tmp_path_factory.mktemp("runs")
    with without_drawing():
        return opsin.train_repeats(
            "digits", repeats=2, model="mlp", hidden=[16], epochs=2, seed=4, runs=root, quiet=True
        )


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> opsin.Repeats:
    pytest.importorskip("torch")
    root = tmp_path_factory.mktemp("runs")
    with without_drawing():
        return opsin.train_folds(
            "digits", folds=3, model="mlp", epochs=2, name="cut", runs=root, quiet=True
        )


@pytest.mark.torch
def test_repeats_differ_in_their_seeds_only_and_are_averaged(repeats: opsin.Repeats) -> None:
    recipes = [run.recipe for run in repeats.runs]
    assert [recipe.training.seed for recipe in recipes] == [4, 5]
    same = {"training": {"seed"}}
    assert len({recipe.model_dump_json(exclude=same) for recipe in recipes}) == 1
    splits = [run.directory.load_arrays(run.directory.split) for run in repeats.runs]
    assert all(np.array_equal(split["test"], splits[0]["test"]) for split in splits)
    summary = repeats.summary
    accuracies = [run.accuracy for run in repeats.runs]
    losses = [run.figures.log_loss or 0 for run in repeats.runs]
    assert len(set(accuracies)) == 2
    assert repeats.accuracy == pytest.approx(np.mean(accuracies))
    assert repeats.deviation == pytest.approx(np.std(accuracies, ddof=1))
    assert summary.mean and summary.mean.log_loss == pytest.approx(np.mean(losses))
    assert summary.deviation
    assert summary.deviation.log_loss == pytest.approx(np.std(losses, ddof=1))
    assert [row.accuracy for row in summary.runs] == accuracies
    assert all(row.low < row.accuracy < row.high for row in summary.runs)
    assert summary.pooled is None and not repeats.stopped


@pytest.mark.torch
def test_labels_that_the_folds_contradict_are_ready_to_be_corrected(
    folds: opsin.Repeats, digits: opsin.Dataset
) -> None:
    assert folds.labels is not None
    place = {digest.tobytes().hex(): row for row, digest in enumerate(short_digest(digits.digests))}
    for row in read_corrections(folds.labels):
        own = place[row.digest]
        assert (row.name, row.label) == (digits.names[own], digits.classes[digits.labels[own]])
    with folds.labels.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    scores = [float(line["score"]) for line in lines]
    assert all(line["suggested"] != line["label"] for line in lines)
    assert folds.summary.doubts
    assert 0 < folds.summary.doubts.suspected == len(scores) < 0.1 * len(digits)
    assert scores == sorted(scores, reverse=True)
    assert opsin.load("digits", labels=folds.labels).fingerprint == digits.fingerprint


@pytest.mark.torch
def test_a_fold_is_what_a_single_run_with_it_is(folds: opsin.Repeats, train: Train) -> None:
    assert [run.path.name[11:] for run in folds.runs] == [f"cut-fold{n}of3" for n in (1, 2, 3)]
    assert folds.file.name[11:] == "cut-folds.json"
    alone = train("digits", model="mlp", epochs=2, fold="2/3")
    assert alone.recipe == folds.runs[1].recipe
    assert alone.report.figures == folds.runs[1].report.figures


@pytest.mark.torch
def test_runs_that_were_stopped_are_shown_and_not_averaged(
    repeats: opsin.Repeats, tmp_path: Path
) -> None:
    whole, last = repeats.runs
    shutil.copytree(last.path, tmp_path / "last")
    stopped = opsin.Run(tmp_path / "last")
    report = json.loads(stopped.directory.report.read_text(encoding="utf-8"))
    report["training"]["stopped"] = True
    write_json(stopped.directory.report, report)
    summary = summarise([whole, stopped], kind="repeats", asked=2)
    assert [row.stopped for row in summary.runs] == [False, True]
    assert summary.mean and summary.mean.accuracy == whole.accuracy
    assert summary.deviation is None
    alone = summarise([stopped], kind="folds", asked=2)
    assert (alone.mean, alone.deviation, alone.pooled) == (None, None, None)
    found = opsin.Repeats((stopped,), alone, repeats.file)
    assert found.stopped and found.accuracy is found.deviation is None
    assert "no mean" in repr(found)


@pytest.mark.torch
@pytest.mark.skipif(os.name == "nt", reason="sends signals as a Unix terminal does")
def test_ctrl_c_ends_the_run_in_hand_and_starts_no_other(tmp_path: Path) -> None:
    interrupt = AtRun(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    found = opsin.train_folds(
        "digits", folds=3, model="mlp", epochs=3, runs=tmp_path, watcher=interrupt
    )
    assert found.stopped
    assert [run.row()["state"] for run in found.runs] == ["done", "stopped"]
    assert found.summary.asked == 3
    assert found.summary.pooled
    assert found.accuracy == found.runs[0].accuracy == found.summary.pooled.accuracy
    assert found.deviation is None
    plain = found.summary.model_dump(mode="json", exclude_unset=True)
    assert json.loads(found.file.read_text(encoding="utf-8")) == plain
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.torch
def test_an_error_is_raised_after_what_is_done_was_told(
    tmp_path: Path, digits: opsin.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watcher = AtRun(2, lambda: monkeypatch.setattr(os, "fsync", full))
    with pytest.raises(opsin.StorageError, match="no space left on device"):
        opsin.train_repeats(
            digits, repeats=3, model="mlp", epochs=1, runs=tmp_path, watcher=watcher
        )
    (file,) = tmp_path.glob("*-repeats.json")
    (row,) = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert row["run"] in watcher.facts["Done"]
    assert f"{row['accuracy']:.4f}" in watcher.facts["Done"]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"repeats": 0}, "from 1 to 100, not 0"),
        ({"repeats": 101}, "not 101"),
        ({"repeats": 3, "seed": 2**31 - 2}, "seed"),
        ({"folds": 1}, "folds must be from 2"),
        ({"folds": 3, "fold": "1/3"}, "3 folds and the fold 1/3"),
    ],
)
def test_impossible_series_leave_nothing(
    tmp_path: Path, options: dict[str, object], match: str
) -> None:
    verb = opsin.train_folds if "folds" in options else opsin.train_repeats
    with pytest.raises(opsin.RecipeError, match=match):
        verb("digits", model="mlp", epochs=1, runs=tmp_path / "runs", quiet=True, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


@pytest.mark.torch
def test_the_command_prints_folds_as_one_object_and_repeats_as_a_table(
    cli: Cli, tmp_path: Path
) -> None:
    words = ("train", "digits", "--model", "mlp", "--epochs", "2", "--classes", "0,1,2")
    done = cli(*words, "--folds", "2", "--quiet", "--json")
    found = only_json(done)
    assert done.stderr == ""
    labels = (tmp_path / found.pop("labels")).read_text(encoding="utf-8")
    assert labels.startswith("digest,name,label,suggested,score\n")
    assert json.loads((tmp_path / found.pop("file")).read_text(encoding="utf-8")) == found
    assert [row["fold"] for row in found["runs"]] == ["1/2", "2/2"]
    pooled = found["pooled"]
    assert pooled["images"] == sum(row["images"] for row in found["runs"]) == 537
    right = sum(round(row["accuracy"] * row["images"]) for row in found["runs"])
    assert pooled["accuracy"] == pytest.approx(right / 537)
    assert (pooled["low"], pooled["high"]) == pytest.approx(wilson(right, 537))
    done = cli(*words, "--repeats", "2", "--seed", "7")
    assert "2 of 2 · seed 8" in done.stderr
    assert "standard deviation between seeds" in done.stdout
    (file,) = (tmp_path / "runs").glob("*-repeats.json")
    kept = json.loads(file.read_text(encoding="utf-8"))
    mean = f"{kept['mean']['accuracy']:.4f} ± {kept['deviation']['accuracy']:.4f}"
    assert "Mean ± deviation" in done.stdout and mean in done.stdout
