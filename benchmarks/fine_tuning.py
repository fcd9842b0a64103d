"""How good a fine-tuned network is, and how long it takes, beside a plain PyTorch loop.

    python -m benchmarks.fine_tuning trashnet mobilenet.onnx --prepare=-1..1 --budget 15m

For each seed a fifth of the images is the test. Opsin runs as a process of its own with an empty
cache: everything counts, from reading the images to the report. The loop is what one writes by
hand: the same network as a module, a logistic regression as its head, all weights by AdamW and one
cycle to 5e-4, images of 160 × 160 that are mirrored and moved, batches of 32, eight epochs. Its
time is that of features and epochs alone. Both get the machine's threads, one after the other;
seconds are of the clock, CPU seconds of all threads.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

import opsin
from benchmarks.training_process import train
from opsin.backbones.backbone import Backbone, open_backbone
from opsin.data.dataset import Dataset
from opsin.models.onnx_network import TorchNetwork

SIDE, EPOCHS, BATCH, RATE = 160, 8, 32, 5e-4


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="images with labels")
    parser.add_argument("network", help="an ONNX file")
    parser.add_argument("--prepare", help="as for opsin train")
    parser.add_argument("--budget", help="as for opsin train")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--no-loop", action="store_true", help="leave out the plain loop")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    backbone = open_backbone(given.network, prepare=given.prepare)
    data = opsin.load(given.source, size=(SIDE, SIDE), channels=3, resize="squash")
    found = []
    for seed in range(given.first, given.first + given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            figures, parts = _opsin(given, data, seed, Path(folder))
        if not given.no_loop:
            figures |= _plain_loop(backbone, data, parts["train"], parts["test"], seed)
        found.append(figures)
        line = " · ".join(f"{key} {value:.3f}" for key, value in figures.items())
        print(f"seed {seed}: {line}", file=sys.stderr, flush=True)
    for key in found[0]:
        values = [figures[key] for figures in found]
        print(f"{key:28} {np.mean(values):8.3f} ± {np.std(values, ddof=len(values) > 1):.3f}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _opsin(
    given: argparse.Namespace, data: Dataset, seed: int, folder: Path
) -> tuple[dict[str, float], dict[str, list[int]]]:
    """Train in a process of its own; return figures, and the rows of both parts."""
    words = ["--from", given.network, "--fine-tune", "--test-fraction", "0.2"]
    words += ["--split-seed", str(seed), "--seed", str(seed)]
    words += [f"--prepare={given.prepare}"] if given.prepare else []
    words += [f"--budget={given.budget}"] if given.budget else []
    before, at = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    report = train(given.source, *words, runs=folder / "runs", cache=folder / "cache")
    seconds, after = time.perf_counter() - at, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(report["reasons"].get("Fine-tune"), file=sys.stderr)
    (run,) = (folder / "runs").iterdir()
    place = {name: row for row, name in enumerate(data.names)}
    parts: dict[str, list[int]] = {"train": [], "test": []}
    with (run / "pictures.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            parts["test" if row["part"] == "test" else "train"].append(place[row["name"]])
    kept = report["reasons"].get("Fine-tune", "").startswith("kept")
    return {
        "opsin": report["figures"]["test"]["accuracy"],
        "opsin, kept": float(kept),
        "opsin, seconds": seconds,
        "opsin, CPU seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }, parts


def _plain_loop(
    backbone: Backbone, data: Dataset, train: list[int], test: list[int], seed: int
) -> dict[str, float]:
    torch.manual_seed(seed)
    at, cpu = time.perf_counter(), time.process_time()
    network = TorchNetwork(
        backbone.content, source=backbone.probed.input, target=backbone.at[0]
    ).requires_grad_(requires_grad=True)
    images = torch.from_numpy(np.ascontiguousarray(data.images)).permute(0, 3, 1, 2)
    labels = torch.from_numpy(data.labels)
    pixels = backbone.pixels
    mean, deviation = (
        torch.tensor(each).reshape(-1, 1, 1) for each in (pixels.mean, pixels.deviation)
    )

    def scaled(part: Tensor) -> Tensor:
        return (part.float() * pixels.scale - mean) / deviation

    def features(rows: list[int]) -> Tensor:
        with torch.inference_mode():
            return torch.cat(
                [network(scaled(images[rows[i : i + BATCH]])) for i in range(0, len(rows), BATCH)]
            )

    fitted = LogisticRegression(C=0.1, max_iter=300).fit(features(train), labels[train])
    head = nn.Linear(fitted.coef_.shape[1], len(data.classes))
    head.weight.data = torch.from_numpy(fitted.coef_).float()
    head.bias.data = torch.from_numpy(fitted.intercept_).float()
    learnt = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(learnt, RATE)
    loss_of = nn.CrossEntropyLoss()
    steps = EPOCHS * (len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.tensor(train)[torch.randperm(len(train))]
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            part = _varied(images[rows])
            loss = loss_of(head(network(scaled(part))), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    seconds, spent = time.perf_counter() - at, time.process_time() - cpu
    with torch.inference_mode():
        right = head(features(test)).argmax(dim=1) == labels[test]
    return {
        "plain loop": float(right.float().mean()),
        "plain loop, seconds": seconds,
        "plain loop, CPU seconds": spent,
    }


def _varied(images: Tensor) -> Tensor:
    """Mirror half of the images, and move all of them together."""
    turned = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
    down, right = torch.randint(-10, 11, (2,)).tolist()
    return torch.roll(turned, (down, right), (2, 3))


if __name__ == "__main__":
    main()
