"""The table of runs: true, quick, and never thrown by what lies in a folder."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, strategies as st

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions
from opsin.core.errors import RunError, StorageError
from opsin.core.recipe import DataRecipe
from opsin.data.dataset import Dataset
from opsin.studio.errors import NotThere
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.trash import Trash
from opsin.studio.words import opaque
from tests.made_runs import answers_right, write_run as made_run

FIGURES = {"accuracy": 0.92, "low": 0.91, "high": 0.93}
REPORT = {"split": "test", "figures": {"test": FIGURES}, "seconds": {"train": 12.5}}
RECIPE = {"data": {"sources": ["/data/boots", "digits"]}, "model": {"name": "cnn"}}


def write_run(root: Path, name: str, state: str = "done") -> RunDirectory:
    run = RunDirectory(root / name)
    run.path.mkdir(parents=True)
    run.recipe.write_text(json.dumps(RECIPE))
    status = {"state": state, "pid": 1, "started": 1000.0, "heartbeat": 1000.0, "cause": None}
    run.status.write_text(json.dumps(status))
    if state == "done":
        run.report.write_text(json.dumps(REPORT))
    return run


def scanned(root: Path) -> RunIndex:
    index = RunIndex(root)
    index.scan()
    return index


def test_a_row_is_what_the_files_say(tmp_path: Path) -> None:
    run = write_run(tmp_path, "one")
    run.write_notes(name="Boots", note="a first try")
    index = RunIndex(tmp_path)
    assert index.scan()
    [row] = index.rows()
    assert (row.name, row.note, row.folder) == ("Boots", "a first try", "one")
    assert (row.state, row.source, row.model) == ("done", "boots + digits", "cnn")
    assert (row.split, row.accuracy, row.low, row.high) == ("test", 0.92, 0.91, 0.93)
    assert (row.seconds, row.started) == (12.5, 1000.0)
    assert index.get(row.id).path == run.path
    assert row.in_steps
    assert not replace(row, model="forest").in_steps


def test_a_run_whose_process_is_gone_has_failed_though_no_file_changed(tmp_path: Path) -> None:
    run = write_run(tmp_path, "one", "running")
    index = RunIndex(tmp_path)
    lock = FileLock(run.lock)
    lock.acquire()
    index.scan()
    assert index.rows()[0].state == "running"
    lock.release()
    assert index.scan()
    assert not index.scan()
    [row] = index.rows()
    assert row.state == "failed"
    assert row.cause is not None and "ended without a message" in row.cause


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("recipe.json", "{"),
        ("recipe.json", "{}"),
        ("recipe.json", '{"data": [], "model": 3}'),
        ("status.json", "[]"),
        ("report.json", '{"split": "test", "figures": []}'),
        ("report.json", '{"split": [], "figures": {}}'),
        ("report.json", "[" * 5000),
        ("notes.json", "?"),
    ],
)
def test_a_damaged_run_says_so_and_hides_nobody(tmp_path: Path, file: str, content: str) -> None:
    write_run(tmp_path, "good")
    (write_run(tmp_path, "bad").path / file).write_text(content)
    index = scanned(tmp_path)
    rows = {row.folder: row for row in index.rows()}
    assert (rows["good"].state, rows["bad"].state) == ("done", "damaged")
    assert rows["bad"].cause
    assert str(tmp_path) not in rows["bad"].cause  # pages show no paths
    assert index.find("bad") == rows["bad"]
    assert index.find("other") is None


def test_a_run_of_any_name_started_since_the_last_scan_is_found(tmp_path: Path) -> None:
    index = scanned(tmp_path)
    run = write_run(tmp_path, os.fsdecode(b"<img src=x onerror=alert(1)> \xff"), "running")
    id_ = opaque(run.path.name)
    with run.hold():
        assert (index.row(id_).folder, index.row(id_).state) == (run.path.name, "running")
    assert index.get(id_).path == run.path
    assert index.row(id_).name.encode("utf-8")
    # Its arrival is the scan's to tell, which windows wait for.
    assert index.scan()
    (tmp_path / "no-run").mkdir()
    with pytest.raises(NotThere):
        index.row(opaque("no-run"))


def test_deleting_is_taken_back(tmp_path: Path) -> None:
    write_run(tmp_path, "one")
    write_run(tmp_path, "two")
    index = scanned(tmp_path)
    index.get(opaque("one")).write_notes(name="My first <one>")
    token = index.delete(opaque("one"))
    assert [row.folder for row in index.rows()] == ["two"]
    assert not (tmp_path / "one").exists()
    # Also by a studio that was started since.
    again = RunIndex(tmp_path)
    [deleted] = again.deleted()
    assert (deleted.token, deleted.folder) == (token, "one")
    assert deleted.name == "My first <one>"
    again.restore(token)
    assert {row.folder for row in again.rows()} == {"one", "two"}
    for wrong in (token, "../two", "", opaque("two"), "two"):
        with pytest.raises(NotThere):
            again.restore(wrong)


def test_a_run_comes_back_beside_a_newer_one_of_its_name(tmp_path: Path) -> None:
    write_run(tmp_path, "one").write_notes(name="The first")
    index = scanned(tmp_path)
    token = index.delete(opaque("one"))
    write_run(tmp_path, "one")
    index.restore(token)
    assert {row.folder: row.given_name for row in index.rows()} == {"one": "", "one-2": "The first"}
    assert index.deleted() == []


def test_a_run_at_work_is_not_deleted(tmp_path: Path) -> None:
    run = write_run(tmp_path, "one", "running")
    index = scanned(tmp_path)
    with run.hold(), pytest.raises(RunError, match="being trained"):
        index.delete(opaque("one"))
    assert run.path.is_dir()


def test_the_run_before_of_the_same_images_and_split_is_found(tmp_path: Path) -> None:
    asked: list[dict[str, Any]]
    asked, runs = [{}, {"test_fraction": 0.3}, {"classes": ["3", "8"]}, {"size": 12}], []
    for number, options in enumerate(asked):
        data = opsin.load("digits", **options)
        runs.append(made_run(tmp_path, f"run {number}", data, answers_right(data, 0.6)))
    index = scanned(tmp_path)
    for run, options in zip(runs[1:], (*asked[1:3], {}), strict=True):
        found = index.last_of(DataRecipe.of("digits", **options))
        assert found is not None
        assert found.path == run
    assert index.last_of(DataRecipe.of("digits", fold="1/3")) is None
    assert index.last_of(DataRecipe.of("others")) is None
    RunDirectory(runs[3]).split.unlink()
    found = index.last_of(DataRecipe.of("digits"))
    assert found is not None
    assert found.path == runs[0]


def test_images_that_all_judge_are_not_parted_next_time(tmp_path: Path, digits: Dataset) -> None:
    index = RunIndex(tmp_path)
    made_run(tmp_path, "parted", digits, answers_right(digits, 0.6))
    index.scan()
    assert index.last_of(digits.recipe) is not None
    judged = {"out_of_fold": np.full((len(digits), 10), 0.1, np.float32)}
    made_run(tmp_path, "judged", digits, judged)
    index.scan()
    assert index.last_of(digits.recipe) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0.5, 1, width=32))))
def test_the_surest_of_some_answers_come_first(images: list[tuple[int, int, float]]) -> None:
    probabilities = np.zeros((len(images), 4), np.float32)
    for row, (_, answer, sure) in enumerate(images):
        probabilities[row, answer] = sure
    labels = np.array([label for label, _, _ in images], np.int64)
    answers = PartPredictions(np.arange(len(images)), labels, probabilities)
    wrong, known = answers.surest(~answers.right), answers.surest(answers.right)
    assert sorted(wrong + known) == list(range(len(images)))
    assert all(labels[row] != images[row][1] for row in wrong)
    assert [images[row][2] for row in wrong] == sorted((images[r][2] for r in wrong), reverse=True)


def test_restoring_replaces_nothing(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "mine.txt").write_text(content)
        if content == "first":
            Trash(tmp_path).put("set")
    [removed] = Trash(tmp_path).removed()
    with pytest.raises(StorageError):
        Trash(tmp_path).restore(removed)
    assert (tmp_path / "set" / "mine.txt").read_text() == "second"
    assert Trash(tmp_path).removed() == [removed]
