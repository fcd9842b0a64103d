"""Folders: one class each, with or without given parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsin.data import sources
from opsin.data.sources.folder import open_folder
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL
from opsin.errors import SourceError
from opsin.recipe import DataRecipe
from tests.conftest import write_shapes


def test_classes_are_in_natural_order_and_any_script(tmp_path: Path) -> None:
    names = ("10", "2", "Ünicode mit Leerzeichen", "漢字", "it's [red] $x$", "½", "²")
    write_shapes(tmp_path, count=0, kinds=())
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a b.PNG").write_bytes(b"")
    classes = open_folder(tmp_path).classes
    assert set(classes) == set(names)
    assert classes.index("2") < classes.index("10")


def test_given_parts_are_kept(tmp_path: Path) -> None:
    for part in ("train", "Validation", "test"):
        write_shapes(tmp_path / part, count=2)
    contents = open_folder(tmp_path)
    assert contents.classes == ("disc", "square")
    assert sorted(set(contents.given.tolist())) == [TRAIN, VAL, TEST]
    assert "test/disc/0.png" in contents.names


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    for name in ("test", "rest"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    contents = open_folder(tmp_path)
    assert contents.classes == ("rest", "test")
    assert set(contents.given.tolist()) == {UNASSIGNED}


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    write_shapes(tmp_path, count=2)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.png").write_bytes(b"")
    (tmp_path / "disc" / "._0.png").write_bytes(b"")
    (tmp_path / "disc" / "notes.txt").write_bytes(b"")
    assert len(open_folder(tmp_path)) == 4


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "is empty"),
        (["1.jpg", "2.jpg"], "holds 2 pictures and no folders. Sort a few into sub-folders"),
        (["notes.txt"], "holds no pictures"),
        (["a/notes.txt"], "none of them holds pictures"),
    ],
)
def test_other_layouts_are_explained(tmp_path: Path, files: list[str], words: str) -> None:
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(SourceError, match="one sub-folder for each class") as caught:
        open_folder(tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "count", "words"),
    [(("disc",), 5, "two classes or more"), (("disc", "square"), 1, "at least two pictures")],
)
def test_what_nothing_can_be_learnt_from_is_refused(
    tmp_path: Path, kinds: tuple[str, ...], count: int, words: str
) -> None:
    write_shapes(tmp_path, count=count, kinds=kinds)
    with pytest.raises(SourceError, match=words):
        sources.find_all(DataRecipe.of(str(tmp_path))).open().check()


def test_no_such_source_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="digits, fashion-mnist"):
        sources.find_all(DataRecipe.of(str(tmp_path / "fashion-minst")))
    (tmp_path / "pictures.rar").write_bytes(b"")
    with pytest.raises(SourceError, match="another kind"):
        sources.find_all(DataRecipe.of(str(tmp_path / "pictures.rar")))
