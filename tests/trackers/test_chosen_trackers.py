"""Trackers by their names, and those that are not there: said before anything is read."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import opsin

NAMES = ["mlflow", "tensorboard", "wandb"]


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("verb", [opsin.train, opsin.train_repeats, opsin.train_folds])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("nothing_installed")
def test_missing_packages_come_first(verb: Callable[..., Any], name: str, tmp_path: Path) -> None:
    with pytest.raises(opsin.MissingExtraError, match=rf"pip install 'opsin\[{name}\]'"):
        verb("there is no such source", track=name, runs=tmp_path)
    with pytest.raises(opsin.RecipeError, match="neptune is no tracker"):
        verb("there is no such source", track=["neptune"], runs=tmp_path)
    assert not list(tmp_path.iterdir())
