"""Epochs of a history without a training."""

from typing import Any

from opsin.core.artifacts.records import Epoch


def made_epoch(epoch: int, **changes: Any) -> Epoch:
    figures = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    speed = {"learning_rate": 0.1, "seconds": 1.0, "images_per_second": 10.0}
    usual = {"epoch": epoch, "epochs": 9, "step": epoch, "best": True}
    return Epoch.model_validate({**usual, **figures, **speed, **changes})
