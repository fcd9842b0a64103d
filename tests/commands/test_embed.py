"""What a pretrained network says of images, in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import opsin
from opsin.backbones.backbone import open_backbone
from opsin.backbones.feature_graph import usual_preparation
from opsin.backbones.features import Extractor, compute
from opsin.core.events import SILENT
from opsin.core.stored_arrays import read_arrays
from opsin.data.cache import digest_rows
from tests.conftest import Cli, Notes, only_json, shape_image, write_zip


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    asked: list[int] = []
    plain = Extractor.rows_of

    def counted(self: Extractor, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(Extractor, "rows_of", counted)
    return asked


def arrays_of(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    return read_arrays(Path(path))


def test_the_features_are_those_that_training_learns_from(
    shapes: Path, backbone: Path, tmp_path: Path, computed: list[int]
) -> None:
    opened = open_backbone(backbone)
    like = usual_preparation(opened)
    data = opsin.load(shapes, size=(like.height, like.width), channels=3, resize="squash")
    learnt = compute(opened, data.images, data.digests, ("whole",), watcher=SILENT)
    computed.clear()
    done = opsin.embed(shapes, backbone=backbone, out=tmp_path / "a.npz", at=opened.at)
    assert sum(computed) == len(data) == done.computed
    found = arrays_of(done.out)
    order = [found["names"].tolist().index(name) for name in data.names]
    np.testing.assert_array_equal(found["features"][order], learnt)
    np.testing.assert_array_equal(found["labels"][order], data.labels)
    np.testing.assert_array_equal(found["digests"][order], data.digests)
    assert tuple(found["classes"]) == data.classes


def test_images_without_labels(shapes: Path, backbone: Path, tmp_path: Path) -> None:
    heap = tmp_path / "heap"
    heap.mkdir()
    for number in range(5):
        Image.fromarray(shape_image("disc", 50 + number)).save(heap / f"{number} é.png")
    labelled = opsin.embed(shapes, backbone=backbone, out=tmp_path / "a.npz")
    notes = Notes()
    done = opsin.embed(heap, backbone=backbone, out=tmp_path / "b.npz", watcher=notes)
    assert (labelled.classes, done.classes) == (("disc", "square"), None)
    found = arrays_of(done.out)
    assert set(found) == {"about", "features", "names", "digests"}
    assert found["names"].tolist() == [f"{number} é.png" for number in range(5)]
    assert any("without labels" in note for note in notes.notes)
    contents = {file.name: file.read_bytes() for file in sorted(heap.iterdir())}
    packed = write_zip(tmp_path / "heap.zip", contents)
    again = arrays_of(opsin.embed(packed, backbone=backbone, out=tmp_path / "c.npz").out)
    np.testing.assert_array_equal(again["features"], found["features"])
    files = sorted(heap.iterdir())
    listed = arrays_of(opsin.embed(files, backbone=backbone, out=tmp_path / "d.npz").out)
    np.testing.assert_array_equal(listed["features"], found["features"])
    (tmp_path / "torn.png").write_bytes(b"no image")
    with pytest.raises(opsin.SourceError, match=r"torn\.png"):
        opsin.embed(tmp_path / "torn.png", backbone=backbone, out=tmp_path / "e.npz")
    assert not (tmp_path / "e.npz").exists()
    named = opsin.embed("digits", backbone=backbone, classes=["3", "8"], out=tmp_path / "e.npz")
    assert (named.classes, named.images) == (
        ("3", "8"),
        len(opsin.load("digits", classes=["3", "8"])),
    )


def test_values_are_joined_in_the_order_given(shapes: Path, backbone: Path, tmp_path: Path) -> None:
    done = opsin.embed(shapes, backbone=backbone, at=["relu2", "relu1"], out=tmp_path / "a.npz")
    first = opsin.embed(shapes, backbone=backbone, at=["relu2"], out=tmp_path / "b.npz")
    assert json.loads(str(arrays_of(done.out)["about"]))["units"] == [16, 8]
    joined = arrays_of(done.out)["features"]
    np.testing.assert_array_equal(joined[:, :16], arrays_of(first.out)["features"])
    with pytest.raises(opsin.RecipeError, match="relu9"):
        opsin.embed(shapes, backbone=backbone, at=["relu9"], out=tmp_path / "c.npz")


def test_what_cannot_be_read_is_listed_and_passed_over(
    shapes: Path, backbone: Path, tmp_path: Path
) -> None:
    (shapes / "disc" / "3.png").write_bytes(b"no image")
    (shapes / "square" / "4.png").write_bytes((shapes / "square" / "5.png").read_bytes()[:90])
    notes = Notes()
    done = opsin.embed(shapes, backbone=backbone, out=tmp_path / "a.npz", watcher=notes)
    assert done.images == 22
    found = arrays_of(done.out)
    assert "disc/3.png" not in found["names"]
    assert np.bincount(found["labels"]).tolist() == [11, 11]
    about = json.loads(str(found["about"]))
    names = [name for name, _ in done.unreadable]
    assert [each["name"] for each in about["unreadable"]] == names == ["disc/3.png", "square/4.png"]
    assert any(note.startswith("disc/3.png: ") for note in notes.notes)


@pytest.mark.parametrize("change", ["", "renamed", "another network"])
def test_a_stopped_command_resumes(
    shapes: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    (shapes / "disc" / "3.png").write_bytes(b"no image")
    plain = arrays_of(opsin.embed(shapes, backbone=backbone, out=tmp_path / "a.npz").out)
    assert [path.name for path in tmp_path.glob("*a.npz*")] == ["a.npz"]
    monkeypatch.setattr("opsin.commands.predict.stream._BATCH", 5)
    out, watch = tmp_path / "b.npz", Notes(interrupt_at=2)
    with pytest.raises(KeyboardInterrupt):
        opsin.embed(shapes, backbone=backbone, out=out, watcher=watch)
    assert "10 images are done and kept" in watch.notes[-1]
    assert not out.exists()
    if change == "another network":
        with pytest.raises(opsin.RecipeError, match="backbone is another one"):
            opsin.embed(shapes, backbone=backbone, out=out, at=["relu1"])
    if change == "renamed":
        (shapes / "disc" / "0.png").rename(shapes / "disc" / "00.png")
        with pytest.raises(opsin.RecipeError, match="the list of images was") as caught:
            opsin.embed(shapes, backbone=backbone, out=out)
        assert f"To begin anew, remove {tmp_path / '.b.npz.sqlite'}" in caught.value.advice
        return
    again = opsin.embed(shapes, backbone=backbone, out=out)
    assert (again.computed, again.images) == (14, 23)
    assert [name for name, _ in again.unreadable] == ["disc/3.png"]
    np.testing.assert_equal(arrays_of(out), plain)
    assert [path.name for path in tmp_path.glob("*b.npz*")] == ["b.npz"]


def test_the_command_writes_beside_the_user_and_overwrites_nothing(
    cli: Cli, shapes: Path, backbone: Path, tmp_path: Path
) -> None:
    told = only_json(cli("embed", shapes, "--from", backbone, "--json"))
    assert (told["out"], told["classes"]) == ("shapes-small.npz", ["disc", "square"])
    assert (told["images"], told["units"], told["unreadable"]) == (24, 16, [])
    before = (tmp_path / "shapes-small.npz").read_bytes()
    again = cli("embed", shapes, "--from", backbone, status=1)
    assert "shapes-small.npz is there already" in again.stderr
    assert (tmp_path / "shapes-small.npz").read_bytes() == before
    backbone.with_name("preprocessor_config.json").unlink()
    unsaid = cli("embed", shapes, "--from", backbone, "--json")
    assert "--prepare with one of" in only_json(unsaid)["error"]["advice"]
    for words in (["--prepare=-1..1"], ["--prepare", "-1..1"]):
        done = cli(
            "embed", shapes, "--from", backbone, *words, "--out", f"{len(words)}.npz", status=0
        )
        assert "24 images · 16 numbers each" in done.stdout
    with pytest.raises(opsin.RecipeError, match="does not end in"):
        opsin.embed(shapes, backbone=backbone, out=tmp_path / "a.csv")


def test_killed_in_the_middle_only_the_rest_is_computed(backbone: Path, tmp_path: Path) -> None:
    # Nice, so that it does not end while this process waits for its turn.
    command = ["nice", "-n", "19", sys.executable, "-m", "opsin", "embed", "digits"]
    command += ["--from", str(backbone)]
    with subprocess.Popen([*command, "--out", "digits.npz"], cwd=tmp_path) as process:
        # The log begins with tables; a batch takes some 30 kB, and is there once the next begins.
        log = tmp_path / ".digits.npz.sqlite-wal"
        while not log.exists() or log.stat().st_size < 60_000:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
    assert not (tmp_path / "digits.npz").exists()
    done = opsin.embed("digits", backbone=backbone, out=tmp_path / "digits.npz")
    assert done.computed <= done.images - 256 == 1797 - 256
    whole = opsin.embed("digits", backbone=backbone, out=tmp_path / "whole.npz")
    np.testing.assert_equal(arrays_of(done.out), arrays_of(whole.out))


def test_copies_and_batches_change_no_bit(shapes: Path, backbone: Path, tmp_path: Path) -> None:
    files = sorted((shapes / "disc").iterdir())
    many = arrays_of(opsin.embed(files, backbone=backbone, out=tmp_path / "a.npz").out)
    opened = open_backbone(backbone)
    like = usual_preparation(opened)
    pixels = opsin.load(shapes, size=(like.height, like.width), channels=3, resize="squash").images
    rows = Extractor(opened, (like.height, like.width, 3), "whole")
    digests = [digest.tobytes() for digest in digest_rows(pixels[:])]
    for place, digest in enumerate(many["digests"]):
        image = pixels[digests.index(digest.tobytes())][None]
        found = many["features"][place]
        np.testing.assert_array_equal(found, rows.rows_of(image)[0, : len(found)])
