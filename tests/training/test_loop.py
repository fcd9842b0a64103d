"""The loop keeps the best epoch, stops when it should, and repeats itself exactly."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from opsin.data.dataset import Dataset
from opsin.errors import RecipeError
from opsin.events import Watcher
from opsin.models import zoo
from opsin.recipe import DataRecipe, resolve
from opsin.training import loop
from opsin.training.device import choose_device, describe_device
from opsin.training.interrupt import ctrl_c_stops
from opsin.training.loop import Examples, Outcome, fit
from tests.conftest import Notes


def train(
    digits: Dataset, folder: Path, watcher: Watcher | None = None, **options: Any
) -> tuple[nn.Sequential, Outcome]:
    recipe = resolve(digits.recipe, **{"model": "mlp", "epochs": 3, **options})
    torch.manual_seed(recipe.training.seed)
    network = zoo.build(recipe.model, (8, 8, 1), 10, statistics=([80.0], [90.0]))
    with ctrl_c_stops() as stop:
        outcome = fit(
            network,
            Examples(digits.images, digits.labels, digits.split.train),
            Examples(digits.images, digits.labels, digits.split.val),
            recipe.training,
            device=torch.device("cpu"),
            classes=10,
            checkpoints=folder,
            watcher=watcher or Watcher(),
            stop=stop,
        )
    return network, outcome


@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_same_seed_same_weights(digits: Dataset, tmp_path: Path, model: str) -> None:
    runs = [train(digits, tmp_path / str(i), model=model, epochs=2, flip=True, shift=1)
            for i in range(2)]  # fmt: skip
    first, second = (network.state_dict() for network, _ in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)
    other, _ = train(digits, tmp_path / "other", model=model, epochs=2, seed=1)
    assert not torch.equal(first["head.weight"], other.state_dict()["head.weight"])


@pytest.mark.parametrize("options", [
    {"optimizer": "sgd", "rate": 0.1, "schedule": "cosine"},
    {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "step"},
    {"label_smoothing": 0.1, "class_weights": "balanced", "dropout": 0.1, "schedule": "constant"},
])  # fmt: skip
def test_every_way_of_training_learns(
    digits: Dataset, tmp_path: Path, options: dict[str, Any]
) -> None:
    _, outcome = train(digits, tmp_path, epochs=6, **options)
    assert outcome.best.val_accuracy > 0.85


def test_the_best_epoch_is_kept_not_the_last(digits: Dataset, tmp_path: Path) -> None:
    notes = Notes()
    # So large a constant rate that epochs go up and down.
    network, outcome = train(digits, tmp_path, notes, rate=0.2, schedule="constant", epochs=6,
                             patience=6)  # fmt: skip
    best = max(notes.epochs, key=lambda e: (e.val_accuracy, -e.val_loss))
    assert outcome.best == best
    val = Examples(digits.images, digits.labels, digits.split.val)
    assert loop.validate(network, val, torch.device("cpu"))[1] == best.val_accuracy


def test_patience_ends_a_training_that_gets_no_better(digits: Dataset, tmp_path: Path) -> None:
    notes = Notes()
    # A rate too small to change any answer: the first epoch stays the best by accuracy, and by
    # loss each later one would win, so let the loss rise by going the wrong way.
    train(digits, tmp_path, notes, rate=3.0, schedule="constant", optimizer="sgd", momentum=0.0,
          epochs=40, patience=2)  # fmt: skip
    assert len(notes.epochs) < 40
    assert not any(epoch.best for epoch in notes.epochs[-2:])


def test_ctrl_c_ends_the_epoch_and_keeps_the_work(digits: Dataset, tmp_path: Path) -> None:
    notes = Notes(interrupt_at=5)
    before = signal.getsignal(signal.SIGINT)
    _, outcome = train(digits, tmp_path, notes, epochs=50, batch_size=8)
    assert outcome.stopped
    assert outcome.last.epoch < 50
    assert not outcome.last.complete
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_blows_up_says_what_to_do(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="smaller --rate"):
        train(digits, tmp_path, rate=100.0, weight_decay=10.0, optimizer="sgd", epochs=9)


@given(count=st.integers(2, 500), size=st.integers(2, 64))
def test_batches_cover_everything_and_none_is_single(count: int, size: int) -> None:
    batches = list(loop._batches(count, size))
    assert batches[0][0] == 0
    assert batches[-1][1] == count
    assert all(one[1] == two[0] for one, two in itertools.pairwise(batches))
    assert all(2 <= end - start <= size + 1 for start, end in batches)


def test_rare_classes_weigh_more() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    examples = Examples(np.zeros((100, 8, 8, 1), np.uint8), labels, np.arange(100))
    recipe = resolve(DataRecipe.of("x"), class_weights="balanced").training
    weights = loop._class_weights(examples, 2, recipe)
    assert weights[1] / weights[0] == pytest.approx(9)


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu").type == "cpu"
    assert "CPU" in describe_device(torch.device("cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="cuda"):
            choose_device("cuda")
