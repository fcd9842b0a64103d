"""A run's report drawn anew, and what it writes to be corrected."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.commands.report import look_deeper
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.artifacts.run_report import Report
from tests.commands.test_evaluate import by_class
from tests.conftest import Cli, Notes, write_digits
from tests.made_runs import answers_right, write_run

Made = Callable[[float], RunDirectory]


def with_a_copy(digits: opsin.Dataset, folder: Path) -> tuple[opsin.Dataset, str, str]:
    """Write digits, one validation image a second time in an earlier class; return both names."""
    write_digits(folder, digits, range(400), by_class(digits))
    data = opsin.load(folder)
    wrong = f"1/{'z' * 9}.png"
    for right in [data.names[row] for row in data.split.val if data.labels[row] >= 4]:
        shutil.copy(folder / right, folder / wrong)
        both = opsin.load(folder)
        if both.names.index(right) in both.split.val:  # an image of two classes is cut anew
            break
    return both, right, wrong


def run_that_doubts(root: Path, data: opsin.Dataset, right: str, classifier: Path) -> RunDirectory:
    """Write a run that knows all validation images; copies get the class of ``right``."""
    answers = answers_right(data, 1.0)
    names = [data.names[row] for row in data.split.val]
    image = data.digests[data.names.index(right)]
    for place, row in enumerate(data.split.val):
        if np.array_equal(data.digests[row], image):
            answers["val"][place] = answers["val"][names.index(right)]
    return RunDirectory(write_run(root, "run", data, answers, classifier=classifier))


@pytest.fixture
def made(tmp_path: Path, digits: opsin.Dataset, nearest_mean: Path) -> Made:
    """Writes a run on the digits, of whose answers so many are right."""

    def written(right: float) -> RunDirectory:
        answers = answers_right(digits, right)
        return RunDirectory(write_run(tmp_path, "run", digits, answers, classifier=nearest_mean))

    return written


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_of_exact_copies_in_two_classes_the_wrong_one_is_named(
    tmp_path: Path, digits: opsin.Dataset, nearest_mean: Path
) -> None:
    data, right, wrong = with_a_copy(digits, tmp_path / "digits")
    run = run_that_doubts(tmp_path / "runs", data, right, nearest_mean)
    fix = tmp_path / "labels.csv"
    opsin.write_report(run.path, deep=False, fix=fix)
    (row,) = rows_of(fix)
    label = right.partition("/")[0]
    assert (row["name"], row["label"], row["suggested"]) == (wrong, "1", label)
    unedited = opsin.load(tmp_path / "digits", labels=fix)
    assert unedited.fingerprint == data.fingerprint
    text = fix.read_text(encoding="utf-8")
    fix.write_text(text.replace(f",1,{label},", f",{label},{label},"), encoding="utf-8")
    mended = opsin.load(tmp_path / "digits", labels=fix)
    assert mended.classes[mended.labels[mended.names.index(wrong)]] == label
    assert mended.classes[mended.labels[mended.names.index(right)]] == label


def test_renamed_files_keep_their_rows(
    tmp_path: Path, digits: opsin.Dataset, nearest_mean: Path
) -> None:
    data, right, wrong = with_a_copy(digits, tmp_path / "digits")
    run = run_that_doubts(tmp_path / "runs", data, right, nearest_mean)
    opsin.write_report(run.path, deep=False)
    before = run.read(Report).failures
    for file in (tmp_path / "digits").rglob("*.png"):
        file.rename(file.with_name(f"{file.stem[::-1]}x.png"))
    fix = tmp_path / "labels.csv"
    opsin.write_report(run.path, deep=False, fix=fix)
    after = run.read(Report).failures
    assert before and after
    assert [each.row for each in after.suspects] == [data.names.index(wrong)]
    assert [each.model_copy(update={"name": ""}) for each in after.suspects] == [
        each.model_copy(update={"name": ""}) for each in before.suspects
    ]
    assert opsin.load(tmp_path / "digits", labels=fix).fingerprint == data.fingerprint


def test_what_was_corrected_before_is_written_again(
    tmp_path: Path, digits: opsin.Dataset, nearest_mean: Path
) -> None:
    data, right, _ = with_a_copy(digits, tmp_path / "digits")
    moved = data.names[int(data.split.train[0])]
    first = tmp_path / "first.csv"
    first.write_text(f"name,label\n{moved},9\n{data.names[-1]},-\n", encoding="utf-8")
    corrected = opsin.load(tmp_path / "digits", labels=first)
    run = run_that_doubts(tmp_path / "runs", corrected, right, nearest_mean)
    run.corrections.write_bytes(first.read_bytes())
    fix = tmp_path / "second.csv"
    opsin.write_report(run.path, deep=False, fix=fix)
    again = opsin.load(tmp_path / "digits", labels=fix)
    assert len(again.corrections) == 3
    assert again.fingerprint == corrected.fingerprint


def test_answers_to_other_labels_are_not_reported(tmp_path: Path, plain_run: Path) -> None:
    run = RunDirectory(plain_run)
    kept = run.load_arrays(run.predictions)
    run.save_arrays(run.predictions, **{**kept, "val_labels": np.roll(kept["val_labels"], 1)})
    with pytest.raises(opsin.RunError, match=r"labels of its val part .* are others"):
        opsin.write_report(run.path, deep=False, fix=tmp_path / "labels.csv")
    assert not (tmp_path / "labels.csv").exists()


def test_a_classifier_by_chance_accuses_nobody_and_writes_nothing(
    tmp_path: Path, made: Made
) -> None:
    run = made(0.1)
    fix, notes = tmp_path / "labels.csv", Notes()
    opsin.write_report(run.path, deep=False, fix=fix, watcher=notes)
    assert not fix.exists()
    (note,) = notes.notes
    assert note.startswith(
        f"{fix} was not written. The classifier is too weak to tell: it is right"
    )
    failures = run.read(Report).failures
    assert failures and failures.labels and failures.labels.too_weak in note
    assert (failures.suspects, failures.suspected) == ([], 0)
    assert failures.slices.too_weak
    assert failures.slices.weakest == []


def test_a_classifier_by_chance_says_nothing_of_strangers(
    made: Made, digits: opsin.Dataset, nearest_mean: Path
) -> None:
    run = made(0.1)
    kept = RunPredictions.read(run).of("test")
    kept = replace(kept, ood_score=np.zeros(len(kept.rows), np.float32))
    found = look_deeper(opsin.Classifier(nearest_mean), digits, kept, Notes())
    assert found.strangers is None
    assert "it is right for" in found.too_weak


@pytest.mark.drawn
def test_figures_of_an_earlier_report_go(made: Made) -> None:
    run = made(0.9)
    report = run.read(Report)
    training = {"trainable": 1234, "multiply_adds": 5678}
    report = report.model_copy(
        update={
            "training": report.training.model_copy(update=training),
            "file": report.file.model_copy(update={"parity_images": 90}),
        }
    )
    report.write(run.path)
    run.figures.mkdir(exist_ok=True)
    for name in ("confusion.svg", "disturbed.png", "disturbed.svg", "of-the-user.svg"):
        (run.figures / name).write_text("of an earlier report")
    opsin.write_report(run.path, deep=False)
    kept = {file.name for file in run.figures.iterdir()}
    assert {name for name in kept if not name.endswith(".png")} == {"of-the-user.svg"}
    assert "disturbed.png" not in kept


@pytest.mark.drawn
@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_figures_and_a_page_that_find_no_room_leave_the_run_usable(
    cold_cli: Cli, tmp_path: Path
) -> None:
    words = ("train", "digits", "--classes", "3,8", "--model", "logistic")
    done = cold_cli(*words, largest_file=40_000, status=0)
    for part in ("the figure answers", "the report's page"):
        assert f"{part} could not be made, and is left out (Cannot write" in done.stderr
    assert "report.html" not in done.stdout
    (run,) = opsin.list_runs(tmp_path / "runs")
    assert run.row()["state"] == "done"
    assert not run.directory.page.exists()
    assert not list(run.path.rglob("*.unfinished"))
    full = cold_cli("report", run.path, "--quick", largest_file=40_000, status=1)
    assert "file too large. Free some space" in full.stderr
    assert opsin.evaluate(run, "digits", classes=["3", "8"]).accuracy == run.accuracy
