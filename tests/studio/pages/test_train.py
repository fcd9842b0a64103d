"""What the form of a training asks for beside what it shows."""

from __future__ import annotations

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
