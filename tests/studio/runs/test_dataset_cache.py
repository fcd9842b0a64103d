"""Open sets: the images of the cache, by rows that mean the same everywhere."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.audit import Case, Finding
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL
from opsin.studio.datasets.catalogue import Library, LibraryDataset
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.folders import Folders
from opsin.studio.errors import NotThere
from opsin.studio.jobs.queue import Queue
from opsin.studio.runs.dataset_cache import (
    DatasetCache,
    NotDecoded,
    in_names,
    open_run,
    open_set,
)
from opsin.studio.runs.image_places import ImagePlaces
from opsin.studio.runs.run_index import RunIndex, opaque
from opsin.studio.studio_settings import StudioSettings
from tests.conftest import write_shapes
from tests.made_runs import answers_right, write_run
from tests.studio.datasets.test_dataset_corrections import opened as made_up


class Around:
    """What `DatasetCache` needs of a studio."""

    def __init__(self, folder: Path) -> None:
        self.runs = RunIndex(folder / "runs")
        self.runs.scan()
        self.sets = Library(folder / "home", Queue(folder / "home"))
        self.settings = StudioSettings(
            runs=folder / "runs", home=folder / "home", roots=(Path("/"),)
        )
        self.folders = Folders(self.settings.roots)

    def open(self, most: int = 2) -> DatasetCache:
        places = ImagePlaces(self.sets, self.folders, self.settings.home)
        return DatasetCache(self.sets, self.runs, places, most)


def pixels(png: bytes) -> Any:
    image = np.asarray(Image.open(io.BytesIO(png)))
    return image.reshape(*image.shape[:2], -1)


def set_of(*sources: str | Path, **options: Any) -> LibraryDataset:
    return LibraryDataset("0" * 16, "Mine", tuple(map(str, sources)), options)


def test_images_of_a_set_are_those_that_training_sees(shapes: Path) -> None:
    data = opsin.load(shapes, size=(20, 16))
    here = open_set(set_of(shapes, size=[20, 16]))
    for row in (0, 7, 23):
        assert (pixels(here.png(row)) == data.images[row]).all()
        assert here.name(row) == data.names[row]
        assert here.classes[here.label(row)] == data.classes[data.labels[row]]
        assert here.digest(row) == data.digests[row].tobytes().hex()[:32]
    with pytest.raises(NotThere, match="an image from 0 to 23; there is no 24"):
        here.png(24)
    with pytest.raises(NotThere):
        here.png(-1)


def test_grey_images_stay_grey(digits: opsin.Dataset) -> None:
    here = open_set(set_of("digits"))
    assert Image.open(io.BytesIO(here.png(5))).mode == "L"
    assert (pixels(here.png(5)) == digits.images[5]).all()


def test_nothing_is_read_or_fetched_that_was_not_read_before(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    for source in (shapes, "mnist", "digits"):
        with pytest.raises(NotDecoded, match="those of Mine are not in the cache"):
            open_set(set_of(source))
    assert not (tmp_path / "cache").exists()


def test_a_set_that_is_read_on_the_fly(shapes: Path) -> None:
    data = opsin.load(shapes, disk_limit=0, size=(9, 9))
    here = open_set(set_of(shapes, size=[9, 9]))
    assert (pixels(here.png(3)) == data.images[3]).all()
    here.drop_pages()


def test_corrections_change_no_row_and_no_class(shapes: Path, tmp_path: Path) -> None:
    opsin.load(shapes)
    table = tmp_path / "labels.csv"
    table.write_text("name,label\ndisc/0.png,-\ndisc/1.png,square\n")
    here = open_set(set_of(shapes, labels=str(table)))
    assert (len(here), here.name(0), here.label(1)) == (24, "disc/0.png", 0)


@given(
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=30),
    parts=st.lists(st.sampled_from([UNASSIGNED, TRAIN, VAL, TEST]), min_size=30, max_size=30),
    per=st.integers(1, 7),
)
def test_pages_of_classes_and_parts_are_the_whole(
    labels: list[int], parts: list[int], per: int
) -> None:
    here = made_up(range(len(labels)), labels)
    here.parts = np.array(parts[: len(labels)], np.uint8)
    seen: list[int] = []
    for label in range(3):
        for number, part in enumerate(("unsplit", "train", "val", "test")):
            total = here.rows(label, part, per=per).total
            assert total == here.counts()[label, number]
            for page in range(-(-total // per)):
                rows = here.rows(label, part, page=page, per=per).rows
                assert all(here.label(row) == label and here.part(row) == part for row in rows)
                assert 0 < len(rows) <= per
                seen += rows
    assert sorted(seen) == list(range(len(labels)))
    assert here.rows(per=1000).rows == tuple(range(len(labels)))
    assert here.rows(page=10**6).rows == ()


def test_rows_of_a_finding_stay_in_the_order_of_its_cases() -> None:
    here = made_up([1, 2, 3, 4], [0, 1, 0, 1])
    cases = (Case((3,), "black"), Case((0, 2), "alike"))
    here.findings = {"dark": Finding("dark", 3, "", "", "", cases)}
    assert here.rows(finding="dark").rows == (3, 0, 2)
    assert here.rows(0, finding="dark").rows == (0, 2)
    assert here.rows(finding="never heard of").total == 0
    assert here.rows(among=[2, 1]).rows == (2, 1)


def test_files_of_a_finding_are_named_without_their_place() -> None:
    cases = (Case((2, 0), "/home/me"), Case((), "/home/me/x.png: no image"))
    found = in_names(Finding("blurred", 3, "t", "o", "y", cases), "/home/me", "Mine")
    assert found.elsewhere == ["Mine/x.png: no image"]
    assert found.notes == {2: "/home/me", 0: "/home/me"}


def test_another_order_of_images_is_another_version() -> None:
    assert made_up([1, 2], [0, 1]).version != made_up([2, 1], [0, 1]).version
    assert made_up([1, 2], [0, 1]).version == made_up([1, 2], [1, 1]).version


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_mapped_images_is_given_back(tmp_path: Path) -> None:
    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGESIZE")

    images = np.zeros((20, 1000, 1000, 1), np.uint8)
    images[:, 0, 0, 0] = range(20)
    np.save(tmp_path / "images.npy", images)
    few = made_up(range(20), [0] * 20)
    whole = vars(few.decoded) | {"images": np.load(tmp_path / "images.npy", mmap_mode="r")}
    here = DecodedDataset("a", type(few.decoded)(**whole))
    before = mapped()
    for row in range(20):
        here.png(row)
    assert mapped() - before > 15_000_000
    here.drop_pages()
    assert mapped() - before < 2_000_000
    assert pixels(here.png(7))[0, 0, 0] == 7


def test_sets_are_opened_once_and_few_stay_open(tmp_path: Path) -> None:
    folders = [write_shapes(tmp_path / name, 3) for name in ("a", "b", "c")]
    around = Around(tmp_path)
    ids = []
    for folder in folders:
        opsin.load(folder)
        ids.append(around.sets.add_source(str(folder)).id)
    openings = around.open()

    async def visit() -> None:
        first, again = await asyncio.gather(openings.of_set(ids[0]), openings.of_set(ids[0]))
        assert first is again
        await openings.of_set(ids[1])
        assert await openings.of_set(ids[0]) is first
        await openings.of_set(ids[2])
        assert [openings.is_open(each) for each in ids] == [True, False, True]
        openings.forget(ids[0])
        assert not openings.is_open(ids[0])
        with pytest.raises(NotThere):
            await openings.of_set("f" * 16)

    asyncio.run(visit())


def test_a_folder_that_has_changed_is_told(tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "a", 3)
    opsin.load(folder)
    around = Around(tmp_path)
    set_id = around.sets.add_source(str(folder)).id
    openings = around.open()

    async def visit() -> None:
        await openings.of_set(set_id)
        assert not openings.is_fresh(set_id)
        assert not await openings.changed(set_id)
        assert not openings.is_fresh(set_id)  # nobody has looked at all images yet
        (await openings.of_set(set_id)).findings = {}
        assert openings.is_fresh(set_id)
        (folder / "disc" / "0.png").rename(folder / "square" / "9.png")
        assert await openings.changed(set_id)
        with pytest.raises(NotDecoded):
            await openings.of_set(set_id)
        opsin.load(folder)
        assert (await openings.of_set(set_id)).name(6 - 1) == "square/9.png"

    asyncio.run(visit())


def corrected_run(shapes: Path, tmp_path: Path) -> tuple[opsin.Dataset, RunDirectory]:
    """Write a run that was trained without one image, and with another class of one."""
    table = tmp_path / "labels.csv"
    table.write_text("name,label\ndisc/3.png,-\ndisc/1.png,square\n")
    data = opsin.load(shapes, labels=table)
    directory = RunDirectory(write_run(tmp_path / "runs", "one", data, answers_right(data, 0.8)))
    directory.corrections.write_bytes(table.read_bytes())
    return data, directory


def test_rows_of_a_run_are_those_of_its_files(shapes: Path, tmp_path: Path) -> None:
    data, _ = corrected_run(shapes, tmp_path)
    around = Around(tmp_path)
    here = asyncio.run(around.open().of_run(opaque("one")))
    assert len(here) == 23
    for row in range(23):
        assert (pixels(here.png(row)) == data.images[row]).all()
        assert (here.name(row), here.label(row)) == (data.names[row], data.labels[row])
    for part in ("train", "val", "test"):
        assert here.rows(part=part).rows == tuple(data.split.rows(part).tolist())
    whole = open_set(set_of(shapes))
    assert [whole.name(row) for row in here.source_rows(range(23))] == data.names
    assert here.address(4).startswith(f"/run-images/{opaque('one')}/4?v=")


def test_a_run_whose_images_have_changed_shows_none(shapes: Path, tmp_path: Path) -> None:
    _, directory = corrected_run(shapes, tmp_path)
    (shapes / "disc" / "5.png").write_bytes((shapes / "square" / "5.png").read_bytes())
    with pytest.raises(NotDecoded):
        open_run("one", directory)
    opsin.load(shapes)
    with pytest.raises(NotThere, match="have changed since"):
        open_run("one", directory)


def test_rows_of_a_run_stay_when_files_are_renamed(shapes: Path, tmp_path: Path) -> None:
    whole = opsin.load(shapes)
    digest = whole.digests[3, :16].tobytes().hex()
    table = tmp_path / "labels.csv"
    table.write_text(f"digest,label\n{digest},-\n")
    data = opsin.load(shapes, labels=table)
    directory = RunDirectory(write_run(tmp_path / "runs", "one", data, answers_right(data, 0.8)))
    directory.corrections.write_bytes(table.read_bytes())
    before = open_run("one", directory)
    shown = [(before.digest(row), before.label(row), before.part(row)) for row in range(len(data))]
    for file in sorted(shapes.rglob("*.png")):
        file.rename(file.with_name(f"{99 - int(file.stem)}x.png"))
    opsin.load(shapes)
    after = open_run("one", directory)
    assert shown == [
        (after.digest(row), after.label(row), after.part(row)) for row in range(len(data))
    ]
    here = open_set(set_of(shapes))
    assert [here.digest(row) for row in after.source_rows(range(len(data)))] == [
        digest for digest, _, _ in shown
    ]
    assert [after.name(row) for row in range(len(data))] != data.names
