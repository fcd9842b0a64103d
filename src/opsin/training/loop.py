"""The whole training, from fresh weights to the best epoch's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from opsin.data.lazy import Images
from opsin.errors import RecipeError
from opsin.events import Epoch, Watcher
from opsin.recipe import TrainingRecipe
from opsin.training.augment import augment
from opsin.training.checkpoint import load_checkpoint, save_checkpoint
from opsin.training.optimise import make_optimizer, rate_at

# Pixels of a validation batch, so that large pictures take no more memory than small ones.
_VAL_PIXELS = 1_000_000


@dataclass(frozen=True)
class Examples:
    """Pictures and labels of one part of the split, read a batch at a time.

    Args:
        images: Pictures of the whole collection, ``uint8[N, H, W, C]``: in memory, on disk, or
            read on the fly.
        labels: Their labels, ``int64[N]``.
        rows: Which of them are in this part, ``int64[M]``.
    """

    images: Images
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, places: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the pictures and labels at some places of this part."""
        rows = self.rows[places]
        images = torch.from_numpy(self.images[rows]).to(device)
        return images, torch.from_numpy(self.labels[rows]).to(device)


@dataclass(frozen=True)
class Outcome:
    """How a training ended: the best epoch, the last one, and whether Ctrl-C ended it."""

    best: Epoch
    last: Epoch
    stopped: bool


def fit(
    network: nn.Module,
    train: Examples,
    val: Examples,
    recipe: TrainingRecipe,
    *,
    device: torch.device,
    classes: int,
    checkpoints: Path,
    watcher: Watcher,
    stop: Event,
) -> Outcome:
    """Train a network; afterwards it holds the weights of the epoch that validated best.

    Validation decides by accuracy and, where that is equal, by loss. ``stop`` ends the epoch
    where it is, and that part counts as an epoch of its own.

    Args:
        network: Takes ``uint8[N, H, W, C]``, gives logits ``float32[N, K]``.
        train: What it learns from.
        val: What decides which epoch was the best.
        recipe: How.
        device: Where.
        classes: K, the number of classes.
        checkpoints: Folder for the best weights.
        watcher: Is told of batches and epochs.
        stop: Ends the training after the batch in hand when it is set, as Ctrl-C does.

    Raises:
        RecipeError: The loss became infinite or undefined.
    """
    network.to(device)
    optimizer = make_optimizer(network, recipe)
    loss_of = nn.CrossEntropyLoss(
        weight=_class_weights(train, classes, recipe).to(device),
        label_smoothing=recipe.label_smoothing,
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = len(list(_batches(len(train), recipe.batch_size)))
    step, best, best_path, waited = 0, None, None, 0
    started = time.perf_counter()

    for number in range(1, recipe.epochs + 1):
        began = time.perf_counter()
        watcher.begin(f"{number}/{recipe.epochs}", len(train), "pictures")
        network.train()
        order = torch.randperm(len(train), generator=generator).numpy()
        seen, total, right = 0, torch.zeros((), device=device), torch.zeros((), device=device)
        for start, end in _batches(len(train), recipe.batch_size):
            images, labels = train.batch(order[start:end], device)
            images = augment(images, flip=recipe.flip, shift=recipe.shift, generator=generator)
            rate = rate_at(recipe, step / (steps * recipe.epochs))
            for group in optimizer.param_groups:
                group["lr"] = rate
            logits = network(images)
            loss = loss_of(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            seen += len(labels)
            total += loss.detach() * len(labels)
            right += (logits.detach().argmax(dim=1) == labels).sum()
            if step % 8 == 0:
                left = (time.perf_counter() - started) * (steps * recipe.epochs / step - 1)
                shown = {"loss": float(total) / seen, "acc": float(right) / seen}
                watcher.advance(seen, **shown, left=left)
            if stop.is_set():
                watcher.note("stopping here: the best epoch so far is evaluated next")
                break
        trained = time.perf_counter() - began
        val_loss, val_accuracy = validate(network, val, device)
        watcher.end()
        better = best is None or (val_accuracy, -val_loss) > (best.val_accuracy, -best.val_loss)
        epoch = Epoch(
            epoch=number, epochs=recipe.epochs, step=step,
            train_loss=float(total) / seen, train_accuracy=float(right) / seen,
            val_loss=val_loss, val_accuracy=val_accuracy, rate=rate,
            seconds=time.perf_counter() - began, images_per_second=seen / trained,
            best=better, complete=seen == len(train),
        )  # fmt: skip
        watcher.epoch(epoch)
        _check_finite(epoch)
        if better:
            best, best_path = epoch, save_checkpoint(checkpoints, network, epoch)
        waited = 0 if better else waited + 1
        if stop.is_set() or waited == recipe.patience:
            break
    if best is None or best_path is None:
        raise RuntimeError("no epoch ran")
    network.to("cpu")
    load_checkpoint(best_path, network)
    return Outcome(best=best, last=epoch, stopped=stop.is_set() and step < steps * recipe.epochs)


def validate(network: nn.Module, val: Examples, device: torch.device) -> tuple[float, float]:
    """Return mean cross entropy in nats and accuracy, without dropout or augmentation."""
    network.eval()
    loss, right = 0.0, 0
    with torch.inference_mode():
        pixels = val.images.shape[1] * val.images.shape[2]
        for start, end in _batches(len(val), max(8, _VAL_PIXELS // pixels)):
            images, labels = val.batch(np.arange(start, end), device)
            logits = network(images)
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(dim=1) == labels).sum())
    return loss / len(val), right / len(val)


def _batches(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each batch, without a last one of a single picture.

    BatchNorm cannot learn from one picture; it joins the batch before it.
    """
    start = 0
    while start < count:
        end = min(start + size, count)
        if count - end == 1:
            end = count
        yield start, end
        start = end


def _class_weights(train: Examples, classes: int, recipe: TrainingRecipe) -> Tensor:
    """Return the weight of each class in the loss, 1 on average over the pictures."""
    if recipe.class_weights == "none":
        return torch.ones(classes)
    counts = np.bincount(train.labels[train.rows], minlength=classes)
    return torch.from_numpy(len(train) / (classes * np.maximum(counts, 1))).float()


def _check_finite(epoch: Epoch) -> None:
    if not math.isfinite(epoch.train_loss):
        raise RecipeError(
            "a loss that falls",
            f"it became {epoch.train_loss} in epoch {epoch.epoch}",
            "Give a smaller --rate.",
        )
