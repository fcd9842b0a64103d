"""Run directories that somebody else made: no link in them is followed, none hides the others."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from opsin.commands.train.recorder import recorded
from opsin.core.artifacts.records import Epoch, LoggedEvaluation
from opsin.core.artifacts.run_directory import RunDirectory, find_classifier
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import OpsinError, RunError
from opsin.core.recipe import DataRecipe
from opsin.core.storage import write_json
from opsin.models.resolve import resolve
from tests.commands.predict.test_strangers_answers import seal
from tests.conftest import Cli, Notes, only_json
from tests.made_runs import made_epoch

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202ekcab"
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def write_bare_run(root: Path, name: str) -> RunDirectory:
    directory = RunDirectory(root / name)
    directory.path.mkdir(parents=True)
    write_json(directory.recipe, resolve(DataRecipe.of("digits")).model_dump(mode="json"))
    write_json(directory.dataset, {"location": {"sources": ["digits"]}})
    directory.set_status("failed", cause="a test")
    return directory


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    root = tmp_path / "outside"
    (root / "folder").mkdir(parents=True)
    (root / "private.txt").write_text('{"mine": "private"}\n')
    os.mkfifo(root / "pipe")
    return root


FILES = ("recipe.json", "status.json", "dataset.json", "history.jsonl",
         "split.npz", "predictions.npz", "looks.jsonl", "report.json", "report.html", "notes.json",
         "log.txt", "classifier.onnx", "corrections.csv", "pictures.csv", ".status.json.next",
         ".lock", "figures", "checkpoints", "inspection", "figures/roc.png")  # fmt: skip
PLANTS: tuple[Callable[[Path, Path], None], ...] = (
    lambda place, outside: place.symlink_to(outside / "private.txt"),
    lambda place, outside: place.symlink_to(outside / "new.txt"),
    lambda place, outside: place.symlink_to(outside / "folder"),
    lambda place, outside: place.symlink_to(outside / "pipe"),
    lambda place, outside: os.mkfifo(place),
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("file", FILES)
def test_nothing_in_a_run_is_a_link_or_a_pipe(
    tmp_path: Path, outside: Path, file: str, plant: Callable[[Path, Path], None]
) -> None:
    directory = write_bare_run(tmp_path, "run")
    place = directory.path / file
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    plant(place, outside)
    before = seal(outside)
    with pytest.raises(RunError):
        RunDirectory.open(directory.path)
    with pytest.raises(RunError):
        find_classifier(directory.path)
    for use in (
        lambda: directory.append(made_epoch(1)),
        lambda: directory.show_progress(done=1),
        lambda: directory.cut_history(0),
        lambda: directory.set_status("done"),
        lambda: directory.write_notes(name="a"),
        lambda: directory.lines(Epoch),
        directory.read_notes,
        directory.state,
        directory.location,
        lambda: directory.lines(LoggedEvaluation),
        lambda: directory.load_arrays(directory.split),
        lambda: directory.read(Report),
        lambda: recorded(directory, Notes()).__enter__(),
    ):
        try:
            got = use()
        except OpsinError:
            got = None
        assert "private" not in str(got)
    assert seal(outside) == before


def test_what_strangers_write_commands_no_terminal(tmp_path: Path, outside: Path, cli: Cli) -> None:
    good = write_bare_run(tmp_path / "runs", "good")
    bad = write_bare_run(tmp_path / "runs", f"bad-{HOSTILE.replace('/', '')}")
    bad.set_status("failed", cause=HOSTILE)
    write_json(bad.notes, {"name": HOSTILE, "note": HOSTILE})
    recipe = json.loads(bad.recipe.read_text(encoding="utf-8"))
    recipe["data"]["sources"] = [HOSTILE]
    write_json(bad.recipe, recipe)
    commands: list[list[str | Path]] = [["runs"], ["runs", "--json"]]
    commands += [[v, bad.path] for v in ("runs", "report", "resume", "evaluate", "inspect")]
    commands += [["predict", bad.path, HOSTILE], ["compare", bad.path, good.path]]
    for words in commands:
        said = cli(*words)
        assert not COMMANDS.search(said.stdout + said.stderr), words
        assert "Traceback" not in said.stderr, words
    rows = only_json(cli("runs", "--json"))["runs"]
    assert {row["cause"] for row in rows} == {HOSTILE, "a test"}
    bad.page.symlink_to(outside / "private.txt")
    shown = cli("runs").stdout
    assert "damaged" in shown and "is a link" in shown and "a test" in shown
