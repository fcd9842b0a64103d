"""What the form of a training asks for beside what it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("nicegui")

import opsin
from opsin.studio import StudioSettings
from opsin.studio.pages.train import _Train
from opsin.studio.state import Studio


def test_a_set_that_was_trained_on_keeps_its_parts(tmp_path: Path, shapes: Path) -> None:
    there = Studio(
        StudioSettings(runs=tmp_path / "runs", home=tmp_path / "home", roots=(tmp_path,))
    )
    known = there.sets.add_source(str(shapes))

    def words(source_run: str = "", **options: str) -> list[str]:
        form = _Train(there)
        form.read("" if source_run else known.id, source_run, "")
        form._values |= options
        return form._argv(plan=False)

    assert not [word for word in words() if word.startswith("--parts-of")]
    run = opsin.train(*known.sources, model="knn", runs=tmp_path / "runs", quiet=True)
    there.runs.scan()
    assert f"--parts-of={run.path}" in words()
    assert f"--parts-of={run.path}" in words(there.runs.rows()[0].id)
    # Who asks for another split gets one.
    assert not [word for word in words(split_seed="7") if word.startswith("--parts-of")]


def test_a_run_of_a_model_that_is_gone_is_cloned_with_a_model_that_is_there(
    tmp_path: Path, shapes: Path
) -> None:
    run = opsin.train(shapes, model="forest", runs=tmp_path / "runs", quiet=True)
    content = run.directory.recipe.read_text().replace('"forest"', '"hist-gradient-boosting"')
    run.directory.recipe.write_text(content)
    there = Studio(
        StudioSettings(runs=tmp_path / "runs", home=tmp_path / "home", roots=(tmp_path,))
    )
    there.runs.scan()
    form = _Train(there)
    form.read("", there.runs.rows()[0].id, "")
    assert form._values["model"] == "auto"
    (kept,) = (word[9:] for word in form._argv(plan=False) if word.startswith("--recipe="))
    assert not {"model", "trees"} & json.loads(Path(kept).read_text()).keys()
