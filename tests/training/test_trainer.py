"""The loop keeps the best epoch, stops when it should, and repeats itself exactly."""

import hashlib
import math
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from opsin.commands.train.recorder import graceful_interrupt
from opsin.core.artifacts.records import Epoch
from opsin.core.events import Watcher
from opsin.data.dataset import Dataset
from opsin.models import build_network
from opsin.models.build_network import Statistics
from opsin.models.resolve import resolve
from opsin.training import trainer
from opsin.training.batches import TrainingBatches
from opsin.training.checkpoint import Checkpoints
from opsin.training.step import TrainStep
from opsin.training.trainer import Outcome, fit
from tests.conftest import Notes, a_few

CPU = torch.device("cpu")
#: At a rate of 2 or more the loss rises.
PLAIN: dict[str, Any] = {"optimizer": "sgd", "schedule": "constant"}


def train(
    digits: Dataset,
    folder: Path,
    watcher: Watcher | None = None,
    deadline: float = math.inf,
    **options: Any,
) -> tuple[nn.Sequential, Outcome]:
    """Train on the digits, going on from what ``folder`` holds."""
    recipe = resolve(digits.recipe, **{"model": "mlp", "epochs": 3, "balance": "none", **options})
    with torch.random.fork_rng(devices=[]), graceful_interrupt() as stop:
        torch.manual_seed(recipe.training.seed)
        network = build_network.build(
            recipe.model, (8, 8, 1), 10, statistics=Statistics([80.0], [90.0])
        )
        checkpoints = Checkpoints(folder)
        outcome = fit(
            network,
            TrainingBatches(digits.images, digits.labels, digits.split.train, CPU),
            TrainingBatches(digits.images, digits.labels, digits.split.val, CPU),
            recipe.training,
            classes=10,
            checkpoints=checkpoints,
            watcher=watcher or Watcher(),
            stop=stop,
            start=checkpoints.newest(),
            deadline=deadline,
        )
    return network, outcome


def digest(network: nn.Module) -> str:
    whole = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
    return hashlib.sha256(whole).hexdigest()


class Killed(Notes):
    """Ends the training without ceremony at one of its steps."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def doing(self, what: str) -> None:
        if what == "a training step":
            self.left -= 1
            if not self.left:
                raise SystemExit

    def rewind(self, epochs: int) -> None:
        del self.epochs[epochs:]


def figures(epochs: list[Epoch]) -> list[dict[str, Any]]:
    """Return all of a history but its clock."""
    return [epoch.model_dump(exclude={"seconds", "images_per_second"}) for epoch in epochs]


@pytest.mark.parametrize("options", [
    {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine"},
    {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "step"},
    {"label_smoothing": 0.1, "balance": "weights", "dropout": 0.1, "schedule": "constant"},
    {"precision": "bfloat16"},
])  # fmt: skip
def test_every_way_learns(digits: Dataset, tmp_path: Path, options: dict[str, Any]) -> None:
    _, outcome = train(digits, tmp_path, epochs=6, **options)
    assert outcome.best.val_accuracy > 0.85


def test_the_best_epoch_is_kept_not_the_last(digits: Dataset, tmp_path: Path) -> None:
    notes = Notes()
    # So large a constant rate that epochs go up and down.
    network, outcome = train(
        digits, tmp_path, notes, learning_rate=0.2, schedule="constant", epochs=6, patience=6
    )
    best = max(notes.epochs, key=lambda e: (e.val_accuracy, -e.val_loss))
    assert outcome.best == best
    val = TrainingBatches(digits.images, digits.labels, digits.split.val, CPU)
    stepper = TrainStep(network, resolve(digits.recipe, model="mlp").training, device=CPU)
    assert trainer.validate(stepper, val, None)[1] == best.val_accuracy


def test_patience_ends_a_training_that_gets_no_better(digits: Dataset, tmp_path: Path) -> None:
    notes = Notes()
    options: dict[str, Any] = {"learning_rate": 3.0, "momentum": 0.0, "epochs": 40, "patience": 2}
    train(digits, tmp_path, notes, **PLAIN, **options)
    assert len(notes.epochs) < 40
    assert not any(epoch.best for epoch in notes.epochs[-2:])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_keeps_the_work(digits: Dataset, tmp_path: Path, number: signal.Signals) -> None:
    notes = Notes(interrupt_at=5, by=number)
    before = signal.getsignal(number)
    _, outcome = train(digits, tmp_path, notes, epochs=50, batch_size=8)
    assert outcome.stopped
    assert outcome.last.epoch < 50
    assert not outcome.last.complete
    assert Checkpoints(tmp_path).steps()[0] == outcome.last.step
    assert signal.getsignal(number) is before


def test_a_deadline_ends_a_training_that_nobody_stopped(digits: Dataset, tmp_path: Path) -> None:
    _, outcome = train(digits, tmp_path, deadline=time.perf_counter())
    assert (outcome.last.epoch, outcome.last.step, outcome.stopped) == (1, 1, False)


@pytest.mark.parametrize("options", a_few([
    {"model": "mlp", "dropout": 0.3},
    {"model": "cnn", "depth": 1, "hidden": [8], "augment": "photos", "balance": "weights"},
    {"model": "resnet", "hidden": [4, 8], "augment": "symbols", "label_smoothing": 0.1},
    {"model": "mlp", "optimizer": "sgd", "learning_rate": 0.1, "balance": "sampling"},
    {"model": "resnet", "hidden": [4, 8], "optimizer": "muon"},
    {"model": "resnet", "hidden": [4, 8], "optimizer": "muon", "precision": "bfloat16"},
    {"model": "resnet", "hidden": [4, 8], "micro_batch": 40},
], 4))  # fmt: skip
def test_killed_it_ends_the_same(digits: Dataset, tmp_path: Path, options: dict[str, Any]) -> None:
    options = {"epochs": 2, "batch_size": 96, "checkpoint_every": 0, **options}
    whole = Killed(at=-1)
    network, outcome = train(digits, tmp_path / "whole", whole, **options)
    chance = random.Random(1)
    for number in range(4):  # two dozen in all
        cut = Killed(at=chance.randrange(1, 32))
        with pytest.raises(SystemExit):
            train(digits, tmp_path / str(number), cut, **options)
        cut.left = -1
        again, resumed = train(digits, tmp_path / str(number), cut, **options)
        assert digest(again) == digest(network)
        assert figures(cut.epochs) == figures(whole.epochs)
        assert figures([resumed.best]) == figures([outcome.best])


def test_a_best_checkpoint_that_rots_is_replaced(digits: Dataset, tmp_path: Path) -> None:
    class Rot(Notes):
        def epoch(self, epoch: Epoch) -> None:
            super().epoch(epoch)
            if epoch.epoch == 3:  # its own checkpoint is written after this
                for path in tmp_path.glob("*.safetensors"):
                    path.write_bytes(b"rotten")

    notes = Rot()
    # The first epoch stays the best: later ones go the wrong way.
    options: dict[str, Any] = {"learning_rate": 2.0, "momentum": 0.0, "epochs": 3, "patience": 3}
    _, outcome = train(digits, tmp_path, notes, **PLAIN, **options)
    if notes.epochs[-1].best:
        pytest.fail("the last epoch was not to be the best")
    assert outcome.best.step == notes.epochs[-1].step
    assert any("are used" in note for note in notes.notes)


def test_a_loss_that_blows_up_steps_back_once(digits: Dataset, tmp_path: Path) -> None:
    notes = Notes()
    _, outcome = train(digits, tmp_path, notes, **PLAIN, learning_rate=3.0, epochs=4, batch_size=32)
    assert outcome.stepped_back
    assert outcome.diverged is None
    assert "a tenth of the rate" in notes.notes[0]
    assert outcome.best.val_accuracy > 0.8
    assert [epoch.epoch for epoch in notes.epochs] == [1, 2, 3, 4]


def test_where_it_steps_back_to_is_no_question_of_time(digits: Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"learning_rate": 3.0, "epochs": 3, "batch_size": 32, **PLAIN}
    ends = {
        digest(train(digits, tmp_path / str(every), checkpoint_every=every, **options)[0])
        for every in (0, 0.003, 30)
    }
    assert len(ends) == 1


def test_a_loss_that_blows_up_again_leaves_usable_weights(digits: Dataset, tmp_path: Path) -> None:
    notes = Notes()
    options: dict[str, Any] = {"learning_rate": 100.0, "weight_decay": 10.0, "epochs": 9, **PLAIN}
    network, outcome = train(digits, tmp_path, notes, **options)
    assert outcome.diverged
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    assert "again: stopping" in notes.notes[1]
    # Resumed, it comes to the same end: the file is no worse for it.
    again, resumed = train(digits, tmp_path, **options)
    assert resumed.diverged
    assert digest(again) == digest(network)
