"""The table of runs names them as people did, and a run's history is a frame."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from opsin.cli.runs import runs
from opsin.commands.runs import History
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RecipeError, RunError
from opsin.core.storage import write_json
from tests.made_runs import made_epoch


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create(tmp_path, "digits-mlp")
    write_json(made.recipe, {})
    return made


def test_a_name_and_a_note_are_kept_and_shown(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(run.path, name="Boots [b]second[/b] :dog:", note="less\naugmentation")
    shown = capsys.readouterr().out
    assert "Boots [b]second[/b] :dog:" in shown
    assert "less\naugmentation" in shown
    runs(run.path, as_json=True)
    row = json.loads(capsys.readouterr().out)["runs"][0]
    assert (row["name"], row["note"]) == ("Boots [b]second[/b] :dog:", "less\naugmentation")


def test_a_name_needs_its_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No run is given"):
        runs(name="Boots")
    with pytest.raises(RunError, match="does not exist"):
        runs(tmp_path / "none", name="Boots")


def test_a_frame_has_a_row_for_each_epoch() -> None:
    pd = pytest.importorskip("pandas")
    history = History(
        [
            made_epoch(1, val_accuracy=0.25),
            made_epoch(2, val_loss=math.nan, learning_rate=1e-4),
            made_epoch(3, best=False),
        ]
    )
    frame = history.frame()
    assert isinstance(frame, pd.DataFrame)
    assert (frame.index.name, frame.index.tolist()) == ("epoch", [1, 2, 3])
    assert frame.val_accuracy.tolist() == [0.25, 0.5, 0.5]
    assert frame.val_loss.isna().tolist() == [False, True, False]
    assert frame.best.dtype == bool
    assert list(History().frame().columns) == list(frame.columns)
