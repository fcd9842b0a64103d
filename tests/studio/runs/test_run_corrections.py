"""Corrections of a run's images: by the run's rows, in the file of its set."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import SourceError
from opsin.studio.datasets.catalogue import LibraryDataset
from opsin.studio.datasets.corrections import RunCorrections
from opsin.studio.runs.dataset_cache import NotDecoded
from opsin.studio.runs.run_index import opaque
from tests.conftest import write_shapes
from tests.made_runs import answers_right, write_run

if TYPE_CHECKING:
    from opsin.studio.state import Studio


def of(studio: Studio, name: str) -> tuple[LibraryDataset, RunCorrections]:
    return asyncio.run(studio.opened.corrections_of_run(opaque(name)))


def trained(data: opsin.Dataset, tmp_path: Path, name: str = "one") -> RunDirectory:
    directory = RunDirectory(write_run(tmp_path / "runs", name, data, answers_right(data, 0.8)))
    if data.recipe.labels:
        directory.corrections.write_bytes(Path(data.recipe.labels).read_bytes())
    return directory


def named(data: opsin.Dataset, name: str) -> int:
    return data.names.index(name)


def test_a_set_is_added_for_a_run_with_what_it_was_trained_with(
    shapes: Path, tmp_path: Path, studio: Studio
) -> None:
    opsin.load(shapes)
    table = tmp_path / "mine.csv"
    table.write_text("name,label\ndisc/3.png,-\ndisc/1.png,square\n")
    data = opsin.load(shapes, labels=table)
    trained(data, tmp_path)
    the_set, corrections = of(studio, "one")
    assert (the_set.sources, the_set.options) == ((str(shapes),), {})
    assert corrections.now() == {}
    assert corrections.whole.now() == {1: "square", 3: None}

    row = named(data, "disc/5.png")
    assert corrections.put([row], "square") == 1
    assert corrections.now() == {row: "square"}
    lines = studio.sets.corrections_path(the_set.id).read_text().splitlines()
    assert [line.split(",")[1:3] for line in lines[1:]] == [
        ["disc/1.png", "square"], ["disc/3.png", "-"], ["disc/5.png", "square"],
    ]  # fmt: skip
    again = opsin.load(shapes, labels=studio.sets.corrections_path(the_set.id))
    assert again.classes[again.labels[named(again, "disc/5.png")]] == "square"
    assert table.read_text().startswith("name,label")
    assert of(studio, "one")[0].id == the_set.id
    assert len(studio.sets.all()) == 1


def test_a_run_at_another_size_has_its_images_by_name(
    shapes: Path, tmp_path: Path, studio: Studio
) -> None:
    opsin.load(shapes)
    data = opsin.load(shapes, size=(16, 16), classes=["square", "disc"])
    trained(data, tmp_path)
    the_set, corrections = of(studio, "one")
    assert the_set.options["classes"] == ("square", "disc")
    row = named(data, "disc/4.png")
    corrections.put([row], None)
    assert corrections.now() == {row: None}
    assert "disc/4.png,-" in studio.sets.corrections_path(the_set.id).read_text()


def test_a_run_of_two_sources_and_one_whose_images_are_gone(
    shapes: Path, tmp_path: Path, studio: Studio
) -> None:
    more = write_shapes(tmp_path / "more", 4)
    trained(opsin.load(shapes, more), tmp_path, "two")
    trained(opsin.load(more), tmp_path, "gone")
    with pytest.raises(SourceError, match="has 2 sources"):
        of(studio, "two")
    (more / "disc" / "0.png").unlink()
    with pytest.raises(NotDecoded):
        of(studio, "gone")
