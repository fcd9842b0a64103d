"""What changed since a run is told image by image, copies and odd names included."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import opsin
from opsin.commands.changes import _match, write_images
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError, SourceError, StorageError
from opsin.core.storage import write_json
from opsin.data.run_images import RunImage, read_images
from opsin.models.resolve import resolve
from tests.conftest import shape_image


def made_run(root: Path, data: opsin.Dataset) -> Path:
    """Write what a training writes of its images, before it begins."""
    directory = RunDirectory.create(root, "test")
    write_json(directory.recipe, resolve(data.recipe, model="mlp").model_dump(mode="json"))
    write_json(directory.dataset, data.describe().to_json())
    write_images(directory, data)
    return directory.path


def names(images: Any) -> list[str]:
    return [image.name for image in images]


def from_to(pairs: Any) -> list[tuple[str, str]]:
    return [(pair.then.name, pair.now.name) for pair in pairs]


def test_every_kind_of_change_is_told(tmp_path: Path, shapes: Path) -> None:
    run = made_run(tmp_path, opsin.load(shapes))
    same = opsin.changes_since(run)
    assert (same.unchanged, same.fingerprint_then) == (24, same.fingerprint_now)
    assert not any((same.added, same.removed, same.renamed, same.relabelled, same.changed))
    assert not same.moved

    (shapes / "disc" / "0.png").unlink()
    (shapes / "disc" / "1.png").rename(shapes / "disc" / "one.png")
    (shapes / "disc" / "2.png").rename(shapes / "square" / "two.png")
    Image.fromarray(shape_image("disc", 91)).save(shapes / "disc" / "3.png")
    Image.fromarray(shape_image("disc", 92)).save(shapes / "disc" / "new.png")
    shutil.copy(shapes / "disc" / "4.png", shapes / "disc" / "copy of 4.png")
    found = opsin.changes_since(run)
    assert found.unchanged == 20
    assert names(found.removed) == ["disc/0.png"]
    assert names(found.added) == ["disc/copy of 4.png", "disc/new.png"]
    assert from_to(found.renamed) == [("disc/1.png", "disc/one.png")]
    assert from_to(found.relabelled) == [("disc/2.png", "square/two.png")]
    assert found.relabelled[0].then.label == "disc"
    assert found.relabelled[0].now.label == "square"
    assert from_to(found.changed) == [("disc/3.png", "disc/3.png")]
    assert found.fingerprint_now == opsin.load(shapes).fingerprint != found.fingerprint_then

    content = json.loads(json.dumps(found.to_json()))
    assert content["unchanged"] == 20
    assert content["removed"] == [{"name": "disc/0.png", "label": "disc",
                                   "part": found.removed[0].part}]  # fmt: skip
    assert content["renamed"][0]["now"]["name"] == "disc/one.png"
    assert content["fingerprint"] == {"then": found.fingerprint_then, "now": found.fingerprint_now}


def test_images_are_prepared_and_split_as_the_run_did(tmp_path: Path, shapes: Path) -> None:
    options: dict[str, Any] = {"size": (10, 12), "channels": 1, "resize": "squash",
                               "classes": ["square", "disc"], "split_seed": 3,
                               "val_fraction": 0.3}  # fmt: skip
    run = made_run(tmp_path, opsin.load(shapes, **options))
    moved = tmp_path / "moved"
    shutil.copytree(shapes, moved)
    (moved / "cross").mkdir()
    found = opsin.changes_since(run, moved)
    assert (found.unchanged, found.moved, found.source) == (24, (), str(moved))
    shutil.rmtree(shapes)
    with pytest.raises(SourceError, match="there is no"):
        opsin.changes_since(run)


def test_images_that_change_sides_are_counted(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    labels = np.arange(60) % 2
    file = tmp_path / "a.npz"
    np.savez(file, images=images[:50], labels=labels[:50], test_images=images[50:],
             test_labels=labels[50:])  # fmt: skip
    run = made_run(tmp_path, opsin.load(file))
    # Ten images go from the training into the test part and ten others back.
    np.savez(file, images=np.concatenate([images[10:50], images[50:]]),
             labels=np.concatenate([labels[10:50], labels[50:]]),
             test_images=images[:10], test_labels=labels[:10])  # fmt: skip
    found = opsin.changes_since(run)
    assert found.fingerprint_then == found.fingerprint_now
    into = sum(count for (_, part), count in found.sides.items() if part == "test")
    out = sum(count for (part, _), count in found.sides.items() if part == "test")
    assert (into, out) == (10, 10)
    assert sum(found.sides.values()) == len(found.moved)
    assert not found.added and not found.removed and not found.relabelled


def test_of_copies_each_counts(tmp_path: Path, shapes: Path) -> None:
    for number in range(3):
        shutil.copy(shapes / "disc" / "0.png", shapes / "disc" / f"x{number}.png")
    run = made_run(tmp_path, opsin.load(shapes))
    (shapes / "disc" / "x0.png").unlink()
    (shapes / "disc" / "x1.png").rename(shapes / "disc" / "y.png")
    found = opsin.changes_since(run)
    assert found.unchanged == 25
    assert len(found.renamed) == len(found.removed) == 1
    assert from_to(found.renamed)[0][1] == "disc/y.png"
    assert not found.added


IMAGE = st.builds(RunImage, st.sampled_from("abc"), st.sampled_from("XY"),
                    st.sampled_from(("train", "val", "test")), st.sampled_from("012"))  # fmt: skip


@given(st.lists(IMAGE), st.lists(IMAGE), st.randoms())
def test_each_image_is_in_one_place_and_of_its_kind(
    then: list[RunImage], now: list[RunImage], random: Any
) -> None:
    pairs, removed, added = _match(then, now)
    found = [pair for each in pairs.values() for pair in each]
    assert Counter([pair.then for pair in found] + removed) == Counter(then)
    assert Counter([pair.now for pair in found] + added) == Counter(now)
    for kind, each in pairs.items():
        for one, other in each:
            assert (one.digest == other.digest) == (kind != "changed")
            assert (one.label == other.label) or kind in ("relabelled", "changed")
            assert (one.name == other.name) or kind in ("relabelled", "renamed")
    # As many have kept their pixels as can have.
    shared = Counter(p.digest for p in then) & Counter(p.digest for p in now)
    assert sum(len(each) for kind, each in pairs.items() if kind != "changed") == shared.total()
    assert not {image.name for image in removed} & {image.name for image in added}
    shuffled = list(then)
    random.shuffle(shuffled)
    assert {kind: len(each) for kind, each in _match(then, shuffled)[0].items()} == (
        {"unchanged": len(then)} if then else {}
    )


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_the_table_holds_any_name(tmp_path: Path, shapes: Path) -> None:
    odd = [b'"a, b".png', b"caf\xe9.png", b"two\nlines\r.png", "円.png".encode()]
    for number, name in enumerate(odd):
        (shapes / "disc" / f"{number}.png").rename(shapes / "disc" / os.fsdecode(name))
    data = opsin.load(shapes)
    run = made_run(tmp_path, data)
    content = (run / "pictures.csv").read_bytes()
    assert content.startswith(b"name,label,part,digest\r\n")
    assert b"disc/caf\xe9.png" in content
    kept = read_images(RunDirectory(run))
    assert names(kept) == data.names
    assert opsin.changes_since(run).unchanged == 24


def test_the_table_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    data = opsin.load("digits")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        write_images(RunDirectory(tmp_path), data)
    assert list(tmp_path.iterdir()) == []


def test_runs_without_the_table_and_damaged_ones_say_so(tmp_path: Path, shapes: Path) -> None:
    run = made_run(tmp_path, opsin.load(shapes))
    file = run / "pictures.csv"
    content = file.read_bytes()
    for damaged in (b"", content[:-20], content.replace(b"digest", b"hash", 1), content + b"a,b\n",
                    b'name,label,part,digest\r\n"'):  # fmt: skip
        file.write_bytes(damaged)
        with pytest.raises(RunError, match=r"pictures\.csv is damaged"):
            opsin.changes_since(run)
    file.unlink()
    with pytest.raises(RunError, match=r"has no pictures\.csv"):
        opsin.changes_since(run)
    with pytest.raises(RunError, match="is no run directory"):
        opsin.changes_since(shapes)
