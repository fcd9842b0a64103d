"""Trackers by their names, and those that are not there: said before anything is read."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.core.errors import MissingExtraError, RecipeError
from opsin.trackers import chosen_trackers, is_installed, trackers
from tests.conftest import Cli

NAMES = ["mlflow", "tensorboard", "wandb"]


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setitem(sys.modules, name, None)


def test_each_is_named_once_in_the_order_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsin.trackers.is_installed", lambda kind: True)
    for names in ("wandb, mlflow,wandb,", ["wandb", "mlflow"]):
        assert [kind.name for kind in chosen_trackers(names)] == ["wandb", "mlflow"]


@pytest.mark.parametrize("verb", [opsin.train, opsin.train_repeats, opsin.train_folds])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_package_is_said_before_anything_is_read(
    verb: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    with pytest.raises(MissingExtraError, match=rf"pip install 'opsin\[{name}\]'"):
        verb("there is no such source", track=name, runs=tmp_path)
    with pytest.raises(RecipeError, match="got neptune"):
        verb("there is no such source", track=["neptune"], runs=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is not None, reason="MLflow is installed here"
)
def test_where_no_package_is_installed_the_command_says_which(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()  # a mere folder is no package
    done = cli("train", "digits", "--model", "logistic", "--track", "mlflow")
    assert done.returncode == 1
    assert "the optional part for tracking with MLflow" in done.stderr
    assert "pip install 'opsin[mlflow]'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_its_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()  # as W&B makes in the working directory
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    sys.path_importer_cache.clear()
    assert not is_installed(trackers()["wandb"])
