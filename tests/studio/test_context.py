"""One studio at a time has a home, and the second one is told where the first is."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.studio.context import Studio
from opsin.studio.runs.albums import ImagePlaces
from opsin.studio.settings import StudioSettings
from tests.conftest import write_shapes
from tests.made_runs import write_run


def studio(folder: Path) -> Studio:
    return Studio(StudioSettings(runs=folder / "runs", home=folder / "home", roots=(folder,)))


def test_a_home_has_one_studio(tmp_path: Path) -> None:
    first, second = studio(tmp_path), studio(tmp_path)
    first.hold()
    with pytest.raises(opsin.RunError, match="Another studio works"):
        second.hold()
    asyncio.run(first.stop())
    second.hold()
    asyncio.run(second.stop())


def test_a_run_names_no_place_where_the_studio_may_not_look(tmp_path: Path) -> None:
    mine, private = tmp_path / "mine", tmp_path / "private"
    mine.mkdir()
    there = studio(mine)
    places = ImagePlaces(there.sets, there.folders, there.settings.home)

    def run_on(source: Path | str, name: str) -> RunDirectory:
        data = opsin.load(source)
        shares = {
            part: np.full((len(data.split.rows(part)), len(data.classes)), 0.5, np.float32)
            for part in ("val", "test")
        }
        return RunDirectory(write_run(mine / "runs", name, data, shares))

    places.check(run_on("digits", "named"))
    inside = write_shapes(mine / "shapes")
    places.check(run_on(inside, "inside"))
    outside = run_on(write_shapes(private), "outside")
    with pytest.raises(opsin.SourceError, match="may not look"):
        places.check(outside)
    (mine / "link").symlink_to(private)
    with pytest.raises(opsin.SourceError, match="may not look"):
        places.check(run_on(mine / "link", "through a link"))
    there.sets.add_source(str(private))  # its owner did that
    places.check(outside)
    shutil.rmtree(inside)
    with pytest.raises(opsin.MovedError):
        places.check(RunDirectory(mine / "runs" / "inside"))
