"""The run directory: whole files, a true state, and clear errors."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from opsin.core.artifacts.records import Epoch, LoggedEvaluation, RunNotes, RunStatus
from opsin.core.artifacts.run_directory import RunDirectory, find_classifier
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import RunError
from opsin.core.storage import write_json
from tests.made_runs import made_epoch


def started(root: Path, name: str = "digits-mlp") -> RunDirectory:
    run = RunDirectory.create(root, name)
    write_json(run.recipe, {})
    return run


@pytest.mark.parametrize(
    "name", ["../../etc", "a/b\\c", "   ", "çà и 漢字", "x" * 300, "con\0trol"]
)
def test_any_name_becomes_one_harmless_directory(tmp_path: Path, name: str) -> None:
    run = RunDirectory.create(tmp_path, name)
    assert run.path.parent == tmp_path
    assert run.path.is_dir()
    assert run.path.name.startswith("20")
    assert RunDirectory.create(tmp_path, name).path != run.path


def test_a_run_whose_process_is_gone_has_failed(tmp_path: Path) -> None:
    run = started(tmp_path)
    run.set_status("running")
    assert run.state() == ("running", None)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    run.read(RunStatus).model_copy(update={"pid": process.pid}).write(run.path)
    state, cause = run.state()
    assert state == "failed"
    assert cause is not None and str(process.pid) in cause
    # A living process's number alone does not keep a run alive.
    run.set_status("running")
    run.read(RunStatus).model_copy(update={"heartbeat": 0.0}).write(run.path)
    assert run.state()[0] == "failed"


@pytest.mark.parametrize("end", ['{"epoch": 3, "tr', "3", "null", "[" * 100_000])
def test_a_history_line_cut_by_a_crash_is_left_out(tmp_path: Path, end: str) -> None:
    run = started(tmp_path)
    run.append(made_epoch(1))
    run.append(made_epoch(2))
    with run.history.open("a") as file:
        file.write(end)
    assert [event.epoch for event in run.lines(Epoch)] == [1, 2]


@pytest.mark.parametrize("middle", ['{"epoch": 2, "tr', "{}", ""])
def test_a_damaged_line_within_a_history_is_told(tmp_path: Path, middle: str) -> None:
    run = started(tmp_path)
    run.append(made_epoch(1))
    with run.history.open("a") as file:
        file.write(f"{middle}\n")
    run.append(made_epoch(3))
    with pytest.raises(RunError, match=r"history.jsonl is damaged \(line 2\)"):
        run.lines(Epoch)
    run.looks.write_text(f"{middle}\n")  # several processes write: one is cut, others follow
    run.append(LoggedEvaluation(test_set="b"))
    assert [look.test_set for look in run.lines(LoggedEvaluation)] == ["b"]


@pytest.mark.parametrize("made", [True, False])
def test_what_is_no_run_is_refused(tmp_path: Path, made: bool) -> None:
    path = tmp_path / "holiday"
    if made:
        path.mkdir()
    with pytest.raises(RunError, match="is no run directory" if made else "does not exist"):
        find_classifier(path)


def test_a_run_that_another_process_holds_is_refused_as_that(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, "mine")
    directory.set_status("running")
    code = "import sys; from opsin.core.artifacts.run_directory import RunDirectory\n"
    code += "with RunDirectory(sys.argv[1]).hold():"
    code += "\n    print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(directory.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="is training"), directory.hold():
            pass
        other.communicate()


@given(name=st.text(max_size=200), note=st.text(max_size=300))
def test_a_name_and_a_note_come_back_and_replace_each_other_alone(name: str, note: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = started(Path(folder))
        assert run.read_notes() == RunNotes()
        run.write_notes(name=name)
        run.write_notes(note=note)
        kept = run.read_notes()
        assert (kept.name, kept.note) == (name.strip(), note.strip())


def test_a_note_that_is_too_long_changes_nothing(tmp_path: Path) -> None:
    run = started(tmp_path)
    run.write_notes(name="boots")
    with pytest.raises(RunError, match="The note: it has more than 10,000 characters"):
        run.write_notes(name="other", note="x" * 10_001)
    assert run.read_notes().name == "boots"


REPORT: dict[str, Any] = {
    "format": 1, "split": "test", "figures": {"test": {"accuracy": 0.9, "low": 0.8, "high": 0.95}},
    "later": {"a": [1, None]}, "training": {"later": "b"},
}  # fmt: skip


def test_fields_that_nobody_knows_come_back(tmp_path: Path) -> None:
    run = started(tmp_path)
    write_json(run.report, REPORT)
    run.read(Report).write(run.path)
    assert json.loads(run.report.read_text()) == REPORT


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": 2}, r"report\.json has format 2, .* Update Opsin"),
        ({"split": "train"}, "split"),
        ({"figures": {}}, "no figures of the test part"),
        ({"seconds": {"train": -1}}, r"seconds\.train"),
    ],
)
def test_a_damaged_report_says_where(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    run = started(tmp_path)
    write_json(run.report, REPORT | changed)
    with pytest.raises(RunError, match=words):
        run.read(Report)
