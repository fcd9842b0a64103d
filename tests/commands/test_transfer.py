"""A collection that was written out is the same collection, and nothing else was touched."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import opsin
from opsin.commands.transfer import check_target
from opsin.core.errors import RecipeError, SourceError, StorageError
from tests.conftest import Cli, Notes, only_json, shape_image, write_shapes


def sides(data: opsin.Dataset) -> dict[str, list[tuple[str, bytes]]]:
    return {
        part: sorted(
            (data.classes[data.labels[row]], data.digests[row].tobytes())
            for row in data.split.rows(part)
        )
        for part in ("train", "val", "test")
    }


def table(folder: Path) -> list[dict[str, str]]:
    text = (folder / "metadata.csv").read_bytes().decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def noise(count: int, *, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8), np.uint8)


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_files_are_copied_byte_by_byte_and_come_back_the_same(tmp_path: Path, shapes: Path) -> None:
    Image.fromarray(shape_image("disc", 5)).save(shapes / "disc" / "photo.JPG", quality=80)
    data = opsin.load(shapes)
    out, told = tmp_path / "new" / "out", Notes()
    written = opsin.export_data(data, out, watcher=told)
    assert (written.path, written.images, told.batches) == (out, 25, 25)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert written.bytes == sum(path.stat().st_size for path in files)
    assert len(files) == 26
    originals = {path.read_bytes() for path in shapes.rglob("*.*")}
    for row in table(out):
        content = (out / row["file_name"]).read_bytes()
        assert content in originals
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["file_name"].startswith(f"{row['split']}/{row['label']}/")
        assert (out / row["file_name"]).stat().st_nlink == 1
    assert any(row["file_name"].endswith("/photo.JPG") for row in table(out))
    for source in (out, out / "metadata.csv"):
        back = opsin.load(source)
        assert (back.fingerprint, back.classes) == (data.fingerprint, data.classes)
        assert sides(back) == sides(data)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


# What a table can hold, of any script: see the test of names that it cannot.
CLASS = st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable() and t == t.strip())


@settings(max_examples=25)
@given(st.lists(CLASS, min_size=2, max_size=4, unique=True))
def test_any_class_name_comes_back(names: list[str]) -> None:
    count = 6 * len(names)
    data = opsin.from_arrays(noise(count), np.arange(count) % len(names), names)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        opsin.export_data(data, out)
        assert [path.name for path in Path(folder).iterdir()] == ["out"]
        back = opsin.load(out)
        assert back.fingerprint == data.fingerprint
        assert sorted(back.classes) == sorted(names)
        assert sides(back) == sides(data)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_names_that_are_no_unicode_are_made_legal(tmp_path: Path, shapes: Path) -> None:
    (shapes / "disc" / "0.png").rename(shapes / "disc" / os.fsdecode(b"caf\xe9\n.png"))
    data = opsin.load(shapes)
    opsin.export_data(data, tmp_path / "out")
    assert opsin.load(tmp_path / "out").fingerprint == data.fingerprint
    assert any(row["file_name"].endswith("/caf--.png") for row in table(tmp_path / "out"))


@pytest.mark.parametrize("name", ["a\nb", " a", ""])
def test_a_class_name_that_no_table_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    data = opsin.from_arrays(noise(20), np.arange(20) % 2, [name, "b"])
    with pytest.raises(SourceError, match="Rename it"):
        opsin.export_data(data, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opsin.load(shapes)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".hidden").write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = everything(tmp_path)
    for target, message in {
        "file": "is there already",
        "full": "is there already",
        "file/below": "Cannot write",
        "here": "that you are in",
        "shapes/out": "lies in",
    }.items():
        with pytest.raises(StorageError, match=message):
            opsin.export_data(data, tmp_path / target)
    with pytest.raises(RecipeError, match="name of a folder"):
        opsin.export_data(data, tmp_path / "x.parquet")
    with pytest.raises(StorageError, match="Cannot write"):
        check_target(tmp_path / "file" / "new" / "below")  # at once, not after an hour's reading
    assert everything(tmp_path) == before


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, digits: opsin.Dataset) -> None:
    with pytest.raises(KeyboardInterrupt):
        opsin.export_data(digits, tmp_path / "a" / "b" / "out", watcher=Notes(interrupt_at=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="kills as a Unix system does")
def test_a_killed_export_is_whole_or_not_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "opsin", "data", "digits", "--export", "out", "--quiet"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        while not list(tmp_path.glob(".scratch-*/train/*/*")) and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    if (tmp_path / "out").exists():
        assert len(table(tmp_path / "out")) == 1797
    else:
        assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".scratch-")]


def test_a_full_disk_leaves_nothing_half_done(small_disk: Path, digits: opsin.Dataset) -> None:
    with pytest.raises(StorageError, match=r"(?i)no space left on device"):
        opsin.export_data(digits, small_disk / "new" / "out")
    assert list(small_disk.iterdir()) == []


def test_the_command_line_exports(cli: Cli, tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "my shapes")
    seen = only_json(cli("data", folder, "--json", "--no-draw"))
    done = cli("data", folder, "--export", "my out", "--json")
    assert set(only_json(done)) == {"path", "images", "bytes"}
    assert only_json(done)["images"] == 24
    assert done.stderr == ""
    for source in ("my out", "my out/metadata.csv"):
        back = only_json(cli("data", source, "--json", "--no-draw"))
        assert back["fingerprint"] == seen["fingerprint"]
        assert back["counts"] == seen["counts"]
    assert not (tmp_path / "data-figures").exists()
    assert "opsin train other " in cli("data", folder, "--export", "other").stdout
    assert "is there already" in cli("data", "no such source", "--export", "my out").stderr
    cli("data", folder, "--export", "x", "--audit", status=2)
    cli("data", status=2)


def test_an_exported_training_part_has_parts_of_its_own(tmp_path: Path) -> None:
    opsin.export_data(opsin.load(write_shapes(tmp_path / "set", 150)), tmp_path / "out")
    alone = opsin.load(tmp_path / "out" / "train").split
    assert min(len(alone.val), len(alone.test)) >= 12
    tested = opsin.load(tmp_path / "out" / "train", test=str(tmp_path / "out" / "test")).split
    assert len(tested.val) >= 12


def test_an_image_that_is_gone_by_now(tmp_path: Path, shapes: Path) -> None:
    folder = opsin.load(shapes)
    # In a table, images that are missing are found out only when they are read.
    rows = [f"shapes/{kind}/{n}.png,{kind}" for kind in ("disc", "square") for n in range(12)]
    (tmp_path / "t.csv").write_text("path,label\n" + "\n".join(rows))
    data = opsin.load(tmp_path / "t.csv")
    (shapes / "square" / "11.png").unlink()
    with pytest.raises(SourceError, match=r"11\.png: no such file"):
        opsin.export_data(data, tmp_path / "out")
    with pytest.raises(SourceError, match="holds other images by now"):
        opsin.export_data(folder, tmp_path / "new" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"shapes", "t.csv"}
