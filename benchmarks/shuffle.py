"""How well a shuffle buffer mixes, beside shuffling all images and none, where it matters most.

    python -m benchmarks.shuffle [--source fashion-mnist] [--seeds 3] --out shuffle.json

The images are sorted by class, which is the worst order. The same network is trained on them with
several seeds: all images shuffled, in shards with buffers of several sizes, and unshuffled. The
classical buffer, which reads one shard after the other and not 48 lanes side by side, is there to
compare. Told is the accuracy on the validation images after the last epoch, as mean ± standard
deviation over the seeds, and how unlike the classes of a batch are to those of all images: half
the sum of the differences of their shares, averaged over the first epoch's batches (chance: what a
full shuffle has).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

import opsin
from opsin.core.recipe import Recipe, TrainingRecipe
from opsin.data.dataset import Dataset
from opsin.models import build_network
from opsin.models.resolve import resolve
from opsin.models.statistics import statistics_of
from opsin.training.batches import TrainingBatches
from opsin.training.device import isolated_rng
from opsin.training.optimizers import rate_at
from opsin.training.sampling import epoch_order, order_in_shards
from opsin.training.step import TrainStep
from opsin.training.trainer import validate

#: An epoch's order of N images, by the recipe and the epoch's number.
Order = Callable[[int, TrainingRecipe, int], NDArray[np.int64]]
_CPU: Final = torch.device("cpu")


def main() -> None:
    """Train in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", default="fashion-mnist")
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--buffers", type=int, nargs="+", default=[480, 4_800, 24_000])
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    data = opsin.load(options.source)
    recipe = resolve(data.recipe, model=options.model, epochs=options.epochs, balance="none")
    orders: dict[str, Order] = {"all images": _full}
    orders |= {f"48 lanes, buffer {size:,}": _in_shards(size, 48) for size in options.buffers}
    orders |= {f"1 lane, buffer {size:,}": _in_shards(size, 1) for size in options.buffers}
    orders["none"] = lambda count, *_: np.arange(count)
    found = {}
    for name, order in orders.items():
        scores = [_accuracy(data, recipe, order, seed) for seed in range(options.seeds)]
        apart = _unlike(data, recipe.training, order)
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        found[name] = {"accuracies": scores, "unlike": apart}
        print(f"{name:<26}{statistics.mean(scores):>8.4f} ± {spread:.4f}{apart:>10.3f}", flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        content = {**vars(options), "out": str(options.out), "found": found}
        options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _full(count: int, recipe: TrainingRecipe, epoch: int) -> NDArray[np.int64]:
    return epoch_order(np.zeros(count, np.int64), recipe, epoch, 1)


def _in_shards(buffer: int, lanes: int) -> Order:
    def order(count: int, recipe: TrainingRecipe, epoch: int) -> NDArray[np.int64]:
        random = np.random.default_rng((recipe.seed, epoch))
        return order_in_shards(count, buffer, random, lanes)

    return order


def _sorted_rows(data: Dataset) -> NDArray[np.int64]:
    """Return the training images' rows, sorted by class."""
    rows = data.split.train
    return rows[np.argsort(data.labels[rows], kind="stable")]


def _accuracy(data: Dataset, recipe: Recipe, order: Order, seed: int) -> float:
    """Train on images sorted by class, and return the last epoch's validation accuracy."""
    training = recipe.training.model_copy(update={"seed": seed, "precision": "float32"})
    rows, shape = _sorted_rows(data), data.images.shape[1:]
    with isolated_rng(_CPU, seed):
        network = build_network.build(
            recipe.model, (shape[0], shape[1], shape[2]), len(data.classes),
            statistics=statistics_of(data.images, rows),
        )  # fmt: skip
        train = TrainingBatches(data.images, data.labels, rows, _CPU)
        val = TrainingBatches(data.images, data.labels, data.split.val, _CPU)
        stepper = TrainStep(network, training, device=_CPU)
        for epoch in range(training.epochs):
            network.train()
            places, seen = order(len(train), training, epoch + 1), epoch * len(train)
            for images, labels in train.batches(places, training.batch_size):
                share = seen / (training.epochs * len(train))
                stepper.step(images, labels, rate_at(training, share))
                seen += len(labels)
        return validate(stepper, val)[1]


def _unlike(data: Dataset, recipe: TrainingRecipe, order: Order) -> float:
    """Return how far the classes of the first epoch's batches are from those of all images."""
    labels = data.labels[_sorted_rows(data)]
    shares = np.bincount(labels, minlength=len(data.classes)) / len(labels)
    shown = labels[order(len(labels), recipe, 1)]
    apart = [
        np.abs(np.bincount(batch, minlength=len(shares)) / len(batch) - shares).sum() / 2
        for batch in np.split(shown, range(recipe.batch_size, len(shown), recipe.batch_size))
    ]
    return float(np.mean(apart))


if __name__ == "__main__":
    main()
