"""Tables and archives of strangers are opened in processes that may die."""

from pathlib import Path

import pytest

from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.studio.datasets.dataset_search import key_of, unpack_archive
from tests.conftest import write_zip


def test_the_key_is_the_one_that_training_finds(shapes: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(
        "path,label\n"
        + "".join(f"{file},{file.parent.name}\n" for file in sorted(shapes.rglob("*.png")))
    )
    for source in (str(shapes), "digits"):
        recipe = DataRecipe.of(source, size=(9, 9))
        assert key_of(recipe) == sources.find_all(recipe).key


def test_what_is_refused_is_refused_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("nothing\n1\n")
    for source in (tmp_path / "gone", tmp_path / "labels.csv"):
        recipe = DataRecipe.of(str(source))
        with pytest.raises(SourceError) as here:
            sources.find_all(recipe)
        with pytest.raises(SourceError) as apart:
            key_of(recipe)
        assert str(apart.value) == str(here.value)


@pytest.mark.parametrize("kind", ["outside", "cut short"])
def test_a_hostile_archive_costs_one_answer(tmp_path: Path, kind: str) -> None:
    member = ("../../a.png", b"x") if kind == "outside" else ("a/1.png", bytes(20 << 20))
    packed = write_zip(tmp_path / "hostile.zip", dict([member]))
    if kind == "cut short":
        packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(SourceError, match=r"hostile\.zip"):
        unpack_archive(packed)
