"""Classes merged, renamed, removed and split in a table; images stay where they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.data.corrections import Correction, read_corrections, write_corrections
from opsin.data.run_images import load_run_images
from tests.conftest import Cli, Notes, only_json, write_shapes


def _counts(source: object, table: Path) -> dict[str, int]:
    data = opsin.look_at(source, labels=table)
    return dict(zip(data.classes, np.bincount(data.labels).tolist(), strict=True))


def test_changes_follow_one_another_and_are_taken_back(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    done = opsin.change_classes("digits", labels=table, call={"3": "πέντε", "4": None})
    assert done.classes == ("0", "1", "2", "πέντε", "5", "6", "7", "8", "9")
    assert done.command == f"opsin train digits --labels {table}"
    opsin.change_classes("digits", labels=table, call={"8": "round", "9": "round", "0": "round"})
    opsin.change_classes("digits", labels=table, call={"round": "Rund", "πέντε": "five"})
    merged = {"Rund": 178 + 174 + 180, "1": 182, "2": 177, "five": 183}
    assert _counts("digits", table) == merged | {"5": 182, "6": 181, "7": 179}
    assert opsin.undo_classes(table) == 2
    assert set(_counts("digits", table)) >= {"round", "πέντε"}
    assert [opsin.undo_classes(table), opsin.undo_classes(table)] == [3, 2]
    with pytest.raises(opsin.RecipeError, match="no change of classes"):
        opsin.undo_classes(table)


def test_labels_of_images_keep_their_meaning(tmp_path: Path) -> None:
    """A correction by hand, written before or after, goes with its class's name."""
    table, data = tmp_path / "labels.csv", opsin.load("digits")
    two = [data.digests[row].tobytes().hex()[:32] for row in np.flatnonzero(data.labels == 2)[:2]]
    write_corrections(table, [Correction(two[0], "", "3", "5", 0.93)])
    opsin.change_classes("digits", labels=table, call={"3": "three"})
    assert read_corrections(table)[0][2:5] == ("3", "5", 0.93), "the other columns stay"
    rows = read_corrections(table)
    write_corrections(table, [*rows, Correction(two[1], "", "three")])
    assert _counts("digits", table)["three"] == 183 + 2
    corrected = opsin.load("digits", labels=table).corrected
    assert corrected is not None
    assert corrected.relabelled == 2, "a new name is no correction of a label"
    opsin.change_classes("digits", labels=table, call={"three": None})
    assert "three" not in _counts("digits", table)
    free = [Correction("", "", "3", class_="3", edit=9), Correction(two[0], "", "3", edit=9)]
    write_corrections(table, [*read_corrections(table), *free])
    assert _counts("digits", table)["3"] == 1, "no class has this name any more"


def test_training_takes_them_and_a_run_can_be_changed(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    opsin.change_classes("digits", labels=table, call=dict.fromkeys("13579", "odd"))
    run = opsin.train("digits", labels=table, model="logistic", quiet=True, runs=tmp_path)
    assert run.classifier().classes == ("0", "odd", "2", "4", "6", "8")
    assert load_run_images(run.directory).classes == run.classifier().classes
    assert run.report.judged.corrected is None, "a new class is no correction of a label"
    other = tmp_path / "other.csv"
    done = opsin.change_classes(run, labels=other, call={"ODD": "uneven"})
    assert done.classes == ("0", "uneven", "2", "4", "6", "8")
    with pytest.raises(opsin.RecipeError, match="record of what a run learnt from"):
        opsin.change_classes(run, labels=run.directory.corrections, call={"odd": "x"})
    with pytest.raises(opsin.RecipeError, match="record of what a run learnt from"):
        opsin.undo_classes(run.directory.corrections)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"ten": "x"}, "no class 'ten'"),
        ({"1": "2"}, "There is a class '2' already"),
        ({"1": "2", "2": None}, "There is a class '2' already"),
        ({"1": "-"}, "cannot be a class's name"),
        ({"1": "a", " 1": None}, "each once"),
        ({"1": " "}, "cannot be a class's name"),
        ({"1": "a\nb"}, "cannot be a class's name"),
    ],
)
def test_what_is_refused_changes_nothing(
    call: dict[str, str | None], words: str, tmp_path: Path
) -> None:
    with pytest.raises(opsin.RecipeError, match=words):
        opsin.change_classes("digits", labels=tmp_path / "labels.csv", call=call)
    assert not list(tmp_path.iterdir())


def test_a_damaged_table_is_said(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    for text, words in (
        ("digest,name,label,class,edit\n,,x,nothing,1\n", "changes the class 'nothing'"),
        ("digest,name,label,class,edit\n,a,x,b,1\n", "an image and a class"),
        ("digest,name,label,class,edit\n,,x,1,one\n", "has the edit 'one'"),
    ):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(opsin.SourceError, match=words):
            opsin.look_at("digits", labels=table)
        assert table.read_text(encoding="utf-8") == text


def test_a_class_is_split_by_what_is_in_it(cli: Cli, tmp_path: Path) -> None:
    """The groups are shown first, named then, and an image of each stays where it was."""
    write_shapes(tmp_path / "all", 12, ("disc", "square", "cross"))
    (tmp_path / "photos" / "shape").mkdir(parents=True)
    shutil.move(tmp_path / "all" / "cross", tmp_path / "photos")
    for kind in ("disc", "square"):
        for file in (tmp_path / "all" / kind).iterdir():
            colour = (255, 255, 255) if kind == "disc" else (0, 0, 0)
            image = Image.open(file)
            image.paste(colour, (0, 0, 24, 6))  # what tells them apart
            image.save(tmp_path / "photos" / "shape" / f"{kind}-{file.name}")
    notes = Notes()
    opsin.change_classes(tmp_path / "photos", split="shape", watcher=notes)
    assert set(notes.totals) == {24}, "others are not read"
    shown = only_json(cli("data", "photos", "--split", "shape", "--json"))
    assert shown["labels"] is None
    assert (tmp_path / shown["sheet"]).stat().st_size > 1000
    assert sum(map(len, shown["groups"])) == 24
    assert not (tmp_path / "labels.csv").exists()
    names = ["one", "two", "three", "four"][: len(shown["groups"])]
    split = f"--split=shape={','.join(names)}"
    named = only_json(cli("data", "photos", "--labels", "labels.csv", "--json", split))
    assert named["classes"] == ["cross", "shape", *names]
    counts = _counts(tmp_path / "photos", tmp_path / "labels.csv")
    sizes = list(map(len, shown["groups"]))
    assert counts == {"cross": 12, **dict(zip(names, sizes, strict=True))}
    few = cli("data", "photos", "--labels", "labels.csv", "--split", "cross=a")
    assert (few.returncode, "groups, and 1 names" in few.stderr) == (1, True)
    undone = only_json(cli("undo", "labels.csv", "--json"))
    assert undone["rows"] == 24 + len(names)
    assert _counts(tmp_path / "photos", tmp_path / "labels.csv") == {"cross": 12, "shape": 24}


def test_an_added_class_without_images_is_not_split(tmp_path: Path) -> None:
    write_shapes(tmp_path / "photos")
    row = Correction("", "", "star", class_="star", edit=1)
    table = write_corrections(tmp_path / "labels.csv", [row])
    with pytest.raises(opsin.RecipeError, match="star has 0 images"):
        opsin.change_classes(tmp_path / "photos", labels=table, split="star")


def test_the_command_line_merges_renames_and_removes(cli: Cli, tmp_path: Path) -> None:
    words = ("--labels=labels.csv", "--merge=1,3=odd", "--rename=0=zero", "--remove=8,9")
    done = cli("data", "digits", *words)
    assert "Classes   zero, odd, 2, 4, 5, 6, 7" in done.stdout
    assert "opsin undo labels.csv" in done.stdout
    assert set(_counts("digits", tmp_path / "labels.csv")) == {"zero", "odd", *"24567"}
    cli("data", "digits", "--merge", "1,3=odd", status=1)
    table = ("--labels", "x.csv")
    twice = cli("data", "digits", *table, "--remove", "1", "--rename", "1=a", status=2)
    assert "each class once" in twice.stderr
    cli("data", "digits", *table, "--rename", "1", status=2)
