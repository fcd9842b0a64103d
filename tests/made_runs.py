"""Finished run directories without a training: real files, answers of any kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset
from opsin.evaluation.metrics import measure
from opsin.recipe import resolve
from opsin.run import RunDirectory
from opsin.storage import write_json
from opsin.workflow.changes import write_pictures

PARTS = ("train", "val", "test")


def answers_right(dataset: Dataset, right: float, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return probabilities for validation and test pictures, about so many of them right."""
    random = np.random.default_rng(seed)
    count = len(dataset.classes)
    kept = {}
    for part in ("val", "test"):
        labels = dataset.labels[dataset.split.rows(part)]
        wrong = random.random(len(labels)) >= right
        answers = (labels + wrong * random.integers(1, count, len(labels))) % count
        probabilities = np.full((len(labels), count), 0.1 / count, np.float32)
        probabilities[np.arange(len(labels)), answers] += 0.9
        kept[part] = probabilities
    return kept


def write_run(
    root: Path,
    name: str,
    dataset: Dataset,
    probabilities: dict[str, NDArray[np.float32]],
    *,
    classifier: Path | None = None,
    epochs: int = 3,
) -> Path:
    """Write a finished run with these answers, as `opsin train` would have."""
    root.mkdir(parents=True, exist_ok=True)
    directory = RunDirectory(root / name)
    directory.path.mkdir()
    recipe = resolve(dataset.recipe, model="mlp")
    write_json(directory.recipe, recipe.model_dump(mode="json"))
    write_json(directory.dataset, dataset.describe())
    split = {part: dataset.split.rows(part) for part in PARTS}
    directory.save_arrays(directory.split, digests=short_digest(dataset.digests), **split)
    write_pictures(directory, dataset)
    kept: dict[str, NDArray[Any]] = {}
    figures = {}
    for part in ("val", "test"):
        rows = dataset.split.rows(part)
        if len(rows):
            labels = dataset.labels[rows]
            kept |= {f"{part}_rows": rows, f"{part}_labels": labels}
            kept[f"{part}_probabilities"] = probabilities[part]
            figures[part] = measure(probabilities[part], labels, dataset.classes)
    directory.save_arrays(directory.predictions, **kept)
    for epoch in range(1, epochs + 1):
        event = {"epoch": epoch, "val_accuracy": 1 - 0.5 / epoch, "val_loss": 1.0 / epoch}
        directory.append_history(json.dumps(event))
    report = {
        "source": dataset.recipe.source,
        "model": "mlp",
        "split": "test" if "test" in figures else "val",
        "figures": figures,
        "training": {"parameters": 1234},
        "file": {"bytes": 5000, "difference": 2e-6},
        "seconds": {"train": 12.0},
    }
    write_json(directory.report, report)
    directory.set_status("done")
    if classifier is not None:
        shutil.copy(classifier, directory.classifier)
    return directory.path
