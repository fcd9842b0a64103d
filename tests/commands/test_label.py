"""`opsin label`: questions, answers from a table, folders and tables written, and taken back."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from PIL import Image

import opsin
from tests.conftest import Cli, only_json
from tests.labelling.conftest import KINDS, pictures  # noqa: F401  a fixture

NETWORK = "efficientnet-lite0"


@pytest.fixture
def heap(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    monkeypatch.setenv("OPSIN_STATE", str(tmp_path / "state"))
    return Path(shutil.copytree(pictures, tmp_path / "a heap ☂"))


def kind_of(image: str) -> str:
    name = image.rpartition("/")[2].partition("-")[0]
    return name if name in KINDS else KINDS[0]


def write_answers(path: Path, answers: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *answers.items()])
    return path


def test_from_a_heap_to_folders_and_back(heap: Path, tmp_path: Path) -> None:
    first = opsin.label(heap, classes=["dots"], next=12, backbone=NETWORK)
    assert len(first.next) == 12
    assert [name for name, _ in first.unreadable] == ["broken.png"]
    answers = {question.image: kind_of(question.image) for question in first.next}
    table = write_answers(tmp_path / "answers.csv", answers)
    second = opsin.label(heap, labels=table, next=40, backbone=NETWORK)
    assert second.taken >= 12
    assert second.progress.labelled == 12
    assert set(second.progress.counts) == set(KINDS)
    assert len(second.next) == 18  # copies are one
    assert all(question.guess in KINDS for question in second.next)
    before = sorted(path.name for path in heap.rglob("*.png"))
    folder = tmp_path / "by kind"
    moved = opsin.label(heap, write="folders", out=folder, by="move", backbone=NETWORK)
    assert moved.written == second.taken
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == {*KINDS}
    assert opsin.undo(folder).left == ()
    assert sorted(path.name for path in heap.rglob("*.png")) == before
    written = opsin.label(heap, write="csv", out=tmp_path / "labels.csv", backbone=NETWORK)
    assert written.written == len(opsin.load(tmp_path / "labels.csv"))
    undone = opsin.label(heap, undo=True, backbone=NETWORK)
    assert (undone.undone, undone.progress.labelled) == (12, 0)


def test_the_command_line_says_one_json_object(cli: Cli, heap: Path) -> None:
    for name in ("dots", "lines"):
        shutil.copytree(heap / "sub", heap.parent / "sorted" / name)
    for number, classes in enumerate(["dots, lines", "./sorted"]):
        words = f"--file={number}", "--classes", classes, "--next=2", "--json", "--from", NETWORK
        said = only_json(cli("label", heap, *words))
        assert said["progress"]["counts"] == {"dots": 0, "lines": 0}
        assert {"image", "guess", "probability", "why"} == set(said["next"][0])


def test_a_photograph_vanishes_or_changes_while_it_is_asked(heap: Path, tmp_path: Path) -> None:
    asked = opsin.label(heap, next=30, backbone=NETWORK).next
    table = {question.image: kind_of(question.image) for question in asked}
    opsin.label(heap, labels=write_answers(tmp_path / "1.csv", table), backbone=NETWORK)
    (heap / "lines-1.png").unlink()
    shutil.copy(heap / "broken.png", heap / "lines-4.png")
    Image.new("RGB", (48, 48), "red").save(heap / "plain-2.png")
    done = opsin.label(heap, write="folders", out=tmp_path / "out", next=5, backbone=NETWORK)
    assert (done.progress.labelled, done.progress.images) == (27, 28)
    assert {path.name for path in (tmp_path / "out").glob("*/*.png")} >= {"lines-7.png"}
    assert not list((tmp_path / "out").glob("*/plain-2.png"))
    assert [question.image for question in done.next] == ["plain-2.png"]  # another photograph
    with pytest.raises(opsin.SourceError, match="no photograph 'lines-"):
        opsin.label(heap, labels=tmp_path / "1.csv", backbone=NETWORK)


def test_two_people_agree(cli: Cli, heap: Path, tmp_path: Path) -> None:
    for who in ("ada", "bob"):
        for _ in range(3):
            asked = opsin.label(heap, next=30, who=who, overlap=1.0, backbone=NETWORK).next
            table = {question.image: kind_of(question.image) for question in asked}
            write_answers(tmp_path / "answers.csv", table)
            labels = tmp_path / "answers.csv"
            done = opsin.label(heap, labels=labels, who=who, overlap=1.0, backbone=NETWORK)
    (found,) = done.progress.agreements
    assert (found.who, found.photographs, found.same) == (("ada", "bob"), 30, 30)
    assert found.kappa == 1
    said = cli("label", heap, "--who", "ada", "--overlap", "1", "--from", NETWORK)
    assert "ada and bob on 30 of 30: Cohen's kappa 1.00" in said.stdout
    assert (said.stdout + said.stderr).count("broken.png") == 1


def test_bad_answers_change_nothing(heap: Path, tmp_path: Path) -> None:
    for content, error, words in [
        ("path,label\ngone.png,dots\n", opsin.SourceError, "no photograph 'gone.png'"),
        ("image,class\ndots-0.png,dots\n", opsin.RecipeError, "no columns path and label"),
    ]:
        (tmp_path / "bad.csv").write_text(content)
        with pytest.raises(error, match=words):
            opsin.label(heap, labels=tmp_path / "bad.csv", backbone=NETWORK)
    with pytest.raises(opsin.RecipeError, match="belong together"):
        opsin.label(heap, write="csv", backbone=NETWORK)
    with pytest.raises(opsin.RecipeError, match="there already"):
        opsin.label(heap, write="folders", out=tmp_path, backbone=NETWORK)
    (tmp_path / "labels.csv").write_text("mine")
    with pytest.raises(opsin.StorageError):
        opsin.label(heap, write="csv", out=tmp_path / "labels.csv", backbone=NETWORK)
    assert (tmp_path / "labels.csv").read_text() == "mine"
    assert opsin.label(heap, backbone=NETWORK).progress.labelled == 0
