"""The best weights are whole on the disk, and the older ones go only then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from opsin.errors import RunError
from opsin.events import Epoch
from opsin.training.checkpoint import load_checkpoint, save_checkpoint


def epoch(step: int) -> Epoch:
    return Epoch(epoch=1, epochs=2, step=step, train_loss=1, train_accuracy=0, val_loss=1,
                 val_accuracy=0, rate=0.1, seconds=1, images_per_second=1, best=True)  # fmt: skip


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    network = nn.Conv2d(3, 8, 3)
    network.weight.data = network.weight.data.contiguous(memory_format=torch.channels_last)
    path = save_checkpoint(tmp_path, network, epoch(7))
    other = nn.Conv2d(3, 8, 3)
    load_checkpoint(path, other)
    assert torch.equal(network.weight, other.weight)


def test_only_the_latest_best_stays(tmp_path: Path) -> None:
    for step in (10, 20):
        save_checkpoint(tmp_path, nn.Linear(2, 2), epoch(step))
    assert {path.name for path in tmp_path.iterdir()} == {
        "step-00000020.safetensors", "step-00000020.json",
    }  # fmt: skip


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, nn.Linear(2, 2), epoch(1))
    with pytest.raises(RunError, match="step-00000001"):
        load_checkpoint(path, nn.Linear(3, 2))
    path.write_bytes(b"rotten")
    with pytest.raises(RunError, match="step-00000001"):
        load_checkpoint(path, nn.Linear(2, 2))
