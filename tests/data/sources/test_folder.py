"""Folders: one class each, with or without given parts."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from PIL import Image

import opsin
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.image_tree import natural
from opsin.data.sources import folder, open_stream
from opsin.data.sources.contents import LabelledImages
from opsin.data.sources.rows import SourceRequest
from opsin.data.split import UNASSIGNED
from tests.conftest import Notes, write_shapes
from tests.data.sources.conftest import put


def open_folder(path: Path, watcher: Watcher = SILENT) -> LabelledImages:
    return folder.open_folder(SourceRequest(str(path), watcher=watcher))


def test_classes_are_in_natural_order_and_any_script(tmp_path: Path) -> None:
    names = ("10", "2", "Ünicode mit Leerzeichen", "漢字", "it's [red] $x$", "½", "²")
    write_shapes(tmp_path, count=0, kinds=())
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a b.PNG").write_bytes(b"")
    classes = open_folder(tmp_path).classes
    assert set(classes) == set(names)
    assert classes.index("2") < classes.index("10")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Training", "Testing"), "Training (train), Testing (test)"),
        (("train_set", "test_set"), "train_set (train), test_set (test)"),
        (("TrainSet", "Dev", "Hold-Out"), "TrainSet (train), Dev (val), Hold-Out (test)"),
        (("Train", "VALID", "testset"), "Train (train), VALID (val), testset (test)"),
        (("train", "validation"), "train (train), validation (val)"),
        (("train", "val", "test"), ""),
    ],
)
def test_parts_by_their_usual_names(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    for part in names:
        write_shapes(tmp_path / part, count=2)
    notes = Notes()
    contents = open_folder(tmp_path, watcher=notes)
    assert contents.classes == ("disc", "square")
    assert len(set(contents.source_parts.tolist())) == len(names)
    assert UNASSIGNED not in contents.source_parts
    taken, _, parts = "".join(notes.notes).partition(": ")
    assert taken.startswith("Taken for parts of a split" if said else "")
    assert sorted(parts.split(", ")) == sorted(said.split(", "))
    assert len(notes.notes) == bool(said)


def test_parts_beside_other_folders_are_a_question(tmp_path: Path) -> None:
    write_shapes(tmp_path / "train", count=2)
    write_shapes(tmp_path / "bus", count=2)
    (tmp_path / "notes").mkdir()
    with pytest.raises(SourceError, match=r"has train, which look like parts of a split, and bus"):
        open_folder(tmp_path)
    shutil.rmtree(tmp_path / "bus")
    assert open_folder(tmp_path).classes == ("disc", "square")
    (tmp_path / "train").rename(tmp_path / "val")
    shutil.rmtree(tmp_path / "notes")
    with pytest.raises(SourceError, match=r"a part of a split \(val\), and none called train"):
        open_folder(tmp_path)


def test_parts_of_other_classes_are_a_question(tmp_path: Path) -> None:
    write_shapes(tmp_path / "Training", count=2)
    write_shapes(tmp_path / "Testing", kinds=("disc", "cross"), count=2)
    with pytest.raises(SourceError, match="has cross in another part, but none to train"):
        opsin.load(tmp_path)
    assert "cross" in str(opsin.look_at(tmp_path).problem)
    shutil.rmtree(tmp_path / "Testing" / "cross")  # a class without test images is no question
    assert open_folder(tmp_path).classes == ("disc", "square")


def test_classes_are_compared_in_one_form_of_unicode(tmp_path: Path) -> None:
    composed, taken_apart = (
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        "cafe\N{COMBINING ACUTE ACCENT}",
    )
    for part, name in (("train", taken_apart), ("test", composed)):
        write_shapes(tmp_path / part, kinds=("disc", "square"), count=12)
        (tmp_path / part / "disc").rename(tmp_path / part / name)
    for file in (tmp_path / "test").rglob("*.png"):  # others than those that are trained on
        Image.open(file).rotate(90 if "square" in str(file) else 180).crop((0, 0, 20, 20)).save(
            file
        )
    data = opsin.load(tmp_path, near_duplicates="apart")
    assert len(data.classes) == 2
    assert data.classes[0] in (composed, taken_apart)
    for asked in (composed, taken_apart):
        assert len(opsin.look_at(tmp_path, classes=["square", asked])) == len(data)
    joined = opsin.load(tmp_path / "train", test=tmp_path / "test", near_duplicates="apart")
    assert joined.classes == (taken_apart, "square")
    classifier = opsin.train(joined, model="logistic", runs=tmp_path / "runs").classifier()
    assert opsin.evaluate(classifier, tmp_path / "test").images == 24
    table = tmp_path / "labels.csv"
    table.write_text(f"name,label\nsquare/0.png,{composed}\n", encoding="utf-8")
    assert opsin.load(tmp_path / "train", labels=table, near_duplicates="apart").corrected
    rows = [
        f"train/{taken_apart}/{row}.png,{(composed, taken_apart)[row % 2]}" for row in range(12)
    ]
    rows += [f"train/square/{row}.png,square" for row in range(12)]
    (tmp_path / "set.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    assert opsin.load(tmp_path / "set.csv", near_duplicates="apart").classes == (composed, "square")


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    contents = open_folder(put(tmp_path, "test/1.png", "rest/1.png"))
    assert contents.classes == ("rest", "test")
    assert set(contents.source_parts.tolist()) == {UNASSIGNED}


def test_images_may_lie_at_any_depth(tmp_path: Path) -> None:
    cats, dog = ["cat/2.png", "cat/10.png", "cat/b/9/1.png", "cat/b/10/1.png"], "dog/deep/er/1.png"
    put(tmp_path, *reversed(cats), dog, "dog/__MACOSX/1.png", "dog/.cache/1.png")
    contents = open_folder(tmp_path)
    assert contents.classes == ("cat", "dog")
    assert contents.names == [*cats, dog]
    assert contents.labels.tolist() == [0, 0, 0, 0, 1]
    assert contents.images[2] == str(tmp_path / "cat" / "b" / "9" / "1.png")


@given(st.text(), st.integers(0, 5000))
def test_any_name_has_its_place(name: str, digits: int) -> None:
    assert sorted([f"{name}{'9' * digits}", name + "٣٤"], key=natural)


def test_links_that_lead_out_are_followed_only_when_asked(tmp_path: Path) -> None:
    root = put(tmp_path / "root", "cat/1.png", "dog/1.png")
    store = put(tmp_path / "root store", "a.png", "b/c.png")  # a name that begins alike
    (root / "cat" / "2.png").symlink_to(store / "a.png")
    (root / "dog" / "more").symlink_to(store)
    (root / "owl").symlink_to(store)
    (root / "cat" / "notes.txt").symlink_to(store / "notes.txt")
    watcher = Notes()
    within = sources.find_all(DataRecipe.of(str(root)), watcher=watcher)
    assert within.open().names == ["cat/1.png", "dog/1.png"]
    assert "--follow-links follows" in watcher.notes[0]
    out = sources.find_all(DataRecipe.of(str(root), follow_links=True), watcher=watcher)
    assert out.open().names == ["cat/1.png", "cat/2.png", "dog/1.png", "owl/a.png", "owl/b/c.png"]
    assert out.key != within.key
    assert len(watcher.notes) == 1


def test_a_class_of_nothing_but_links_out_of_the_root_is_explained(tmp_path: Path) -> None:
    root, store = put(tmp_path / "root", "cat/1.png"), put(tmp_path / "store", "a.png")
    (root / "dog").mkdir()
    (root / "dog" / "1.png").symlink_to(store / "a.png")
    with pytest.raises(SourceError, match=r"dog of \S* holds only links.*--follow-links"):
        open_folder(root)
    only = tmp_path / "only"
    only.mkdir()
    (only / "dog").symlink_to(store)
    with pytest.raises(SourceError, match=r"1 link out of the folder.*--follow-links"):
        open_folder(only)


def test_loose_images_beside_empty_classes_are_explained(tmp_path: Path) -> None:
    write_shapes(tmp_path, 2, ("disc",))
    for file in (tmp_path / "disc").iterdir():
        file.rename(tmp_path / file.name)
    with pytest.raises(SourceError, match=r"no images, but .*2 loose images"):
        open_folder(tmp_path)
    (tmp_path / "disc").rmdir()
    with pytest.raises(SourceError, match="2 images but no folders"):
        open_folder(tmp_path)


def test_a_changed_image_changes_the_key(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/1.png")
    recipe = DataRecipe.of(str(tmp_path))
    before = sources.find_all(recipe).key
    assert sources.find_all(recipe).key == before
    os.utime(tmp_path / "dog" / "1.png", (1, 1))
    assert sources.find_all(recipe).key != before


def made_run(place: Path) -> Path:
    """Write what makes a folder a run, with figures in it."""
    write_shapes(place)
    for name in ("recipe.json", "status.json"):
        (place / name).write_text("{}")
    return place


def test_a_run_is_no_source(tmp_path: Path) -> None:
    run = made_run(tmp_path / "runs" / "2026-11-21-x")
    made_run(tmp_path / "runs" / "2026-11-22-y")
    with pytest.raises(
        SourceError, match=r"is a run of Opsin.*opsin resume.*opsin predict.*opsin evaluate"
    ):
        opsin.load(str(run))
    for read in (opsin.load, lambda source: list(open_stream(source))):
        with pytest.raises(SourceError, match="has no images, but 2 runs of Opsin"):
            read(str(tmp_path / "runs"))


def test_runs_within_a_folder_are_passed_over_and_told(tmp_path: Path) -> None:
    """Training inside a folder of images leaves its runs there."""
    write_shapes(tmp_path)
    plain = open_folder(tmp_path)
    made_run(tmp_path / "runs" / "x")
    made_run(tmp_path / "disc" / "y")
    found = open_folder(tmp_path)
    assert found.classes == ("disc", "square")
    assert found.names == plain.names
    assert {each.kind: each.count for each in found.left_out}["run of Opsin"] == 2
    stream = Notes()
    assert len(list(open_stream(tmp_path, watcher=stream))) == 24
    assert "2 runs of Opsin" in stream.notes[0]
