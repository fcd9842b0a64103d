"""Tables that name what they should not: other people's images, pipes, devices."""

import csv
import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import opsin
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources import open_stream
from tests.conftest import write_shapes


def downloaded(folder: Path, names: list[str]) -> Path:
    """Write a folder of images with a table that also names others."""
    write_shapes(folder)
    rows = [(f"{kind}/{number}.png", kind) for kind in ("disc", "square") for number in range(12)]
    with (folder / "set.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(
            [("path", "label"), *rows, *[(name, "disc") for name in names]]
        )
    return folder / "set.csv"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """Images that are nobody else's business."""
    return write_shapes(tmp_path / "private") / "disc" / "0.png"


def link(place: Path, target: Path) -> str:
    place.symlink_to(target)
    return place.name


WAYS: dict[str, Callable[[Path, Path], str]] = {
    "absolute": lambda _, private: str(private),
    "up": lambda *_: "../private/disc/0.png",
    "down and up": lambda *_: "disc/../../private/disc/0.png",
    "a link": lambda folder, private: link(folder / "x.png", private),
    "a link to a link": lambda at, private: link(at / "y", at / link(at / "z.png", private)),
    "behind a link": lambda folder, private: f"{link(folder / 'p', private.parent)}/0.png",
    "up behind it": lambda folder, private: f"{link(folder / 'p', private.parent)}/../disc/0.png",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_table_names_none_outside(tmp_path: Path, private: Path, way: str) -> None:
    folder = tmp_path / "downloaded"
    folder.mkdir()
    written = downloaded(folder, [WAYS[way](folder, private)])
    with pytest.raises(opsin.SourceError, match=r"Line 26 .*table's folder.*--outside"):
        opsin.load(str(written))
    with pytest.raises(opsin.SourceError, match="Line 26"):
        list(open_stream(written))
    assert len(opsin.load(str(written), outside=True)) == 25
    assert len(list(open_stream(written, outside=True))) == 25


def test_links_out_of_a_tables_folder_are_followed_where_that_is_asked_for(
    tmp_path: Path, private: Path
) -> None:
    (tmp_path / "downloaded").mkdir()
    table = downloaded(tmp_path / "downloaded", [link(tmp_path / "downloaded" / "x.png", private)])
    assert len(opsin.load(str(table), follow_links=True)) == 25
    assert len(list(open_stream(table, follow_links=True))) == 25
    table = downloaded(tmp_path / "downloaded", ["../private/disc/0.png"])
    with pytest.raises(opsin.SourceError, match="Line 26"):
        opsin.load(str(table), follow_links=True)


def test_a_table_may_lie_behind_links_itself(tmp_path: Path) -> None:
    table = downloaded(
        tmp_path / "real", [str(tmp_path / "real" / "disc" / "0.png"), "./disc//1.png"]
    )
    (tmp_path / "link").symlink_to(tmp_path / "real")
    data = opsin.load(str(tmp_path / "link" / table.name))
    assert (len(data), data.repeated) == (24, 2)  # both are in the table already


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes among the files")
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_pipes_cost_one_image(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shapes(tmp_path / "set")
    monkeypatch.chdir(tmp_path / "set")
    place = Path("x.png")
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "device":
        place.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            listener.bind(str(place))
        data = opsin.load(str(downloaded(tmp_path / "set", ["x.png"])), outside=True)
    assert len(data) == 24
    assert [name for name, _ in data.unreadable] == ["x.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes among the files")
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "set.npz"])
def test_a_source_that_is_a_pipe_keeps_nobody_waiting(tmp_path: Path, name: str) -> None:
    folder = write_shapes(tmp_path / "set")
    os.mkfifo(folder / name)
    (folder / "train-labels-idx1-ubyte").write_bytes(b"")
    found = sources.find_all(DataRecipe.of(str(folder)))
    if "idx" in name:
        with pytest.raises(opsin.SourceError, match="regular file"):
            found.open()
    else:
        assert len(found.open()) == 24


@pytest.mark.torch
def test_what_a_training_was_allowed_its_run_is(tmp_path: Path, private: Path) -> None:
    (tmp_path / "downloaded").mkdir()
    table = downloaded(tmp_path / "downloaded", [str(private)])
    train = functools.partial(
        opsin.train, table, model="mlp", hidden=(8,), epochs=1, runs=tmp_path / "runs", quiet=True
    )
    with pytest.raises(opsin.SourceError, match="--outside"):
        train()
    run = train(outside=True)
    assert opsin.resume(run, epochs=2, quiet=True).recipe.data.outside
    with pytest.raises(opsin.SourceError, match="--outside"):
        opsin.evaluate(run, table)
    assert opsin.evaluate(run, table, outside=True).images > 0
    with pytest.raises(opsin.SourceError, match="--outside"):
        list(opsin.predict_each(run.path, table))
    assert len(list(opsin.predict_each(run.path, table, outside=True))) == 25
