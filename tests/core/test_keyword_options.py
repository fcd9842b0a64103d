"""A type checker knows the options of `opsin.train` and `opsin.load`, with their types."""

from __future__ import annotations

import subprocess
import sys
import typing
from pathlib import Path

import pytest

from opsin.classical.classical_recipe import TRAIN_OPTIONS
from opsin.core.keyword_options import LoadOptions, TrainOptions
from opsin.core.recipe import DATA_OPTIONS, DataRecipe

SOURCE = Path(__file__).parents[2] / "src" / "opsin"
# The checker reads these whole; everything else stands for anything, or it would take a minute.
READ = ("__init__", "core/arguments", "core/keyword_options", "commands/train/train",
        "commands/train/plan", "data/dataset", "sklearn")  # fmt: skip
SNIPPET = """
from pathlib import Path

import opsin
from opsin.sklearn import ImageClassifier

options: opsin.TrainOptions = {"epochs": 3, "labels": Path("labels.csv")}
opsin.train("digits", model="cnn", size=28, hidden=[64, 32], **options)
opsin.load("photos", size=(28, 32), classes=["cat", "dog"], columns={"path": "file"})
ImageClassifier("logistic", c=0.1, size=None)
"""
WRONG = {
    'opsin.train("digits", epochs="3")': 'Argument "epochs" to "train" has incompatible type "str"',
    'opsin.train("digits", optimizer="adamm")': 'expected "Literal[\'adam\'',
    'opsin.train("digits", epoch=3)': 'Unexpected keyword argument "epoch" for "train"',
    'opsin.plan("digits", rate="fast")': 'Argument "rate" to "plan"',
    'opsin.load("digits", size=(1, 2, 3))': 'Argument "size" to "load"',
    'opsin.load("digits", epochs=3)': 'Unexpected keyword argument "epochs" for "load"',
    'ImageClassifier(test_fraction=0.1)': 'Unexpected keyword argument "test_fraction"',
}  # fmt: skip


@pytest.mark.slow
def test_a_type_checker_refuses_wrong_options(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    snippet = tmp_path / "snippet.py"
    snippet.write_text("\n".join([SNIPPET, *WRONG]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=skip",
         "--cache-dir", str(tmp_path / "cache"), "--disable-error-code=misc",
         str(snippet), *(str(SOURCE / f"{name}.py") for name in READ)],
        capture_output=True, text=True, check=False, cwd=SOURCE.parent,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if "snippet.py" in line and "error" in line]
    assert len(said) == len(WRONG), done.stdout + done.stderr
    for line, words in zip(said, WRONG.values(), strict=True):
        assert words in line


def test_the_types_name_every_option_and_are_public() -> None:
    assert set(typing.get_type_hints(LoadOptions)) == set(DATA_OPTIONS)
    assert set(typing.get_type_hints(TrainOptions)) == set(TRAIN_OPTIONS)


def test_what_the_types_allow_is_accepted() -> None:
    recipe = DataRecipe.of("digits", size=28, labels=Path("labels.csv"), classes=["3", "8"])
    assert (recipe.size, recipe.labels, recipe.classes) == ((28, 28), "labels.csv", ("3", "8"))
    assert DataRecipe.model_validate(recipe.model_dump(mode="json")) == recipe
