"""Views are tried on validation images alone, and used only where they help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.commands.choose_views import try_views
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import SILENT
from opsin.core.metadata import Views
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from tests.conftest import Cli, only_json
from tests.made_runs import write_run


def run_of(root: Path, dataset: Dataset, classifier: Path) -> RunDirectory:
    known = Classifier(classifier)
    answers = {
        part: known.probabilities(dataset.images[dataset.split.rows(part)])
        for part in ("val", "test")
    }
    return RunDirectory(write_run(root, "run", dataset, answers, classifier=classifier))


def test_views_that_put_more_wrong_are_not_used(
    nearest_mean: Path, digits: Dataset, tmp_path: Path
) -> None:
    run = run_of(tmp_path, digits, nearest_mean)
    found = try_views(run, digits, {"flip": True, "shift": 1}, SILENT)
    assert (found.images, found.helped) == (len(digits.split.val), False)
    assert found.lost > found.gained
    kept = run.load_arrays(run.predictions)
    images = digits.images[digits.split.val]
    mean = kept["val_probabilities"] + Classifier(nearest_mean).probabilities(images[:, :, ::-1])
    right = (mean.argmax(axis=1) == kept["val_labels"]).sum()
    alone = (kept["val_probabilities"].argmax(axis=1) == kept["val_labels"]).sum()
    assert found.gained - found.lost == right - alone


def test_views_that_put_more_right_beyond_chance_are_used(
    nearest_mean: Path, digits: Dataset, tmp_path: Path
) -> None:
    run = run_of(tmp_path, digits, nearest_mean)
    kept = run.load_arrays(run.predictions)
    # As if each image alone were told by a coin: anything is better.
    unsure = np.roll(kept["val_probabilities"], 1, axis=1)
    run.save_arrays(run.predictions, **{**kept, "val_probabilities": unsure})
    found = try_views(run, digits, {"flip": True, "shift": 0}, SILENT)
    assert found.gained > found.lost
    assert found.helped
    assert "help this classifier on its" in found.words


@pytest.mark.parametrize("training", [{}, {"flip": False, "shift": 0}, {"shift": 2}])
def test_what_was_not_varied_is_not_tried(
    nearest_mean: Path, digits: Dataset, tmp_path: Path, training: dict[str, int]
) -> None:
    run = run_of(tmp_path, digits, nearest_mean)
    found = try_views(run, digits, training, SILENT)
    assert (found.images, found.helped) == (0, False)


@pytest.mark.torch
def test_a_training_writes_into_its_file_what_it_found(run: opsin.Run, cli: Cli) -> None:
    views = run.classifier().metadata.views
    assert views == Views(flip=False, shift=0)
    assert run.report["views"]["words"] == views.words
    plain, asked = (
        only_json(cli("evaluate", run.path, "digits", "--json", *more)) for more in ((), ("--tta",))
    )
    assert asked["confusion"] == plain["confusion"]
    done = cli("evaluate", run.path, "digits", "--tta")
    assert "test-time views do not suit this classifier" in done.stderr
    assert "not used" in done.stderr
