"""Finished run directories without a training: real files, answers of any kind."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import Epoch
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.storage import write_json
from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset
from opsin.data.run_images import write_images
from opsin.evaluation.metrics import measure
from opsin.models.resolve import resolve

PARTS = ("train", "val", "test")


def answers_right(dataset: Dataset, right: float, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return probabilities for validation and test images, about so many of them right."""
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
    write_json(directory.dataset, dataset.describe().model_dump(mode="json", exclude_unset=True))
    split = {part: dataset.split.rows(part) for part in PARTS}
    directory.save_arrays(directory.split, digests=short_digest(dataset.digests), **split)
    write_images(directory, dataset)
    kept: dict[str, NDArray[Any]] = {}
    figures = {}
    for part in ("val", "test", "out_of_fold"):
        judged = part == "out_of_fold"
        rows = np.arange(len(dataset)) if judged else dataset.split.rows(part)
        if len(rows) and part in probabilities:
            labels = dataset.labels[rows]
            kept |= {f"{part}_rows": rows, f"{part}_labels": labels}
            kept[f"{part}_probabilities"] = probabilities[part]
            if (before := dataset.source_labels) is not None:
                kept[f"{part}_source_labels"] = before[rows]
            measured = measure(probabilities[part], labels, dataset.classes)
            figures[part] = measured.model_dump(mode="json", exclude_unset=True)
    directory.save_arrays(directory.predictions, **kept)
    for epoch in range(1, epochs + 1):
        directory.append(made_epoch(epoch, val_accuracy=1 - 0.5 / epoch, val_loss=1.0 / epoch))
    report: dict[str, Any] = {
        "source": dataset.recipe.source,
        "model": "mlp",
        "split": next(part for part in ("test", "out_of_fold", "val") if part in figures),
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


def copies(root: Path, run: Path, count: int) -> list[Path]:
    """Fill a folder with runs like one that is finished, which share what is large with it.

    Each has an accuracy of its own, some a name; of twenty, one failed and one was stopped.
    """
    report = json.loads(RunDirectory(run).report.read_text(encoding="utf-8"))
    made = []
    for number in range(count):
        directory = RunDirectory(root / f"2026-11-{1 + number % 28:02d}-{run.name}-{number:03d}")
        anew = shutil.ignore_patterns("report.json", "status.json", "notes.json", ".lock")
        shutil.copytree(run, directory.path, ignore=anew, copy_function=os.link)
        accuracy = 0.6 + 0.39 * number / count
        bounds = {"accuracy": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01}
        figures = report["figures"] | {report["split"]: report["figures"][report["split"]] | bounds}
        write_json(directory.report, report | {"figures": figures})
        state: Any = {7: "failed", 13: "stopped"}.get(number % 20, "done")
        directory.set_status(state, cause=None if state == "done" else "the disk is full")
        if number % 3 == 0:
            directory.write_notes(name=f"Trial {number}", note="With another rate")
        made.append(directory.path)
    return made


def made_epoch(epoch: int, **changes: Any) -> Epoch:
    figures = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    speed = {"learning_rate": 0.1, "seconds": 1.0, "images_per_second": 10.0}
    usual = {"epoch": epoch, "epochs": 9, "step": epoch, "best": True}
    return Epoch.model_validate({**usual, **figures, **speed, **changes})
