"""Finished run directories without a training: real files, answers of any kind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.storage import write_json
from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset
from opsin.data.run_images import write_images
from opsin.evaluation.metrics import measure
from opsin.models.resolve import resolve
from tests.made_epochs import made_epoch

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
    root: Path, name: str, dataset: Dataset, probabilities: dict[str, NDArray[np.float32]], *,
    classifier: Path | None = None, epochs: int = 3,
) -> Path:  # fmt: skip
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


def copies(root: Path, run: Path, count: int, *, seed: int = 0) -> list[Path]:
    """Fill a folder with runs that resemble one that is finished, each with figures of its own.

    What is large is linked, not copied; what a run is listed by is written anew. Of twenty, one
    failed and one was stopped.
    """
    root.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    source = RunDirectory(run)
    recipe, report, status = (
        json.loads(file.read_text(encoding="utf-8"))
        for file in (source.recipe, source.report, source.status)
    )
    part = report["split"]
    made = []
    for number in range(count):
        directory = RunDirectory(root / f"2026-11-{1 + number % 28:02d}-{run.name}-{number:03d}")
        anew = shutil.ignore_patterns(
            "recipe.json", "report.json", "status.json", "history.jsonl", "notes.json", ".lock"
        )
        shutil.copytree(run, directory.path, ignore=anew, copy_function=os.link)
        accuracy = float(random.uniform(0.6, 0.99))
        figures = report["figures"][part] | {
            "accuracy": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01,
        }  # fmt: skip
        seconds = {"train": float(random.uniform(5, 4000))}
        _plain(directory.report, report | {
            "figures": report["figures"] | {part: figures},
            "seconds": report["seconds"] | seconds,
        })  # fmt: skip
        _plain(directory.recipe, recipe)
        epochs = int(random.integers(3, 40))
        curve = accuracy * (1 - 0.6 * np.exp(-np.arange(1, epochs + 1) / 4))
        event = {"epochs": epochs, "step": 1, "best": True, "learning_rate": 0.01}
        event |= {"images_per_second": 9000.0, "seconds": seconds["train"] / epochs}
        lines = [
            event | {"epoch": epoch, "val_accuracy": each, "val_loss": 1 - each,
                     "train_accuracy": each, "train_loss": 1 - each}
            for epoch, each in enumerate(curve.tolist(), 1)
        ]  # fmt: skip
        text = "".join(json.dumps(line) + "\n" for line in lines)
        directory.history.write_text(text, encoding="utf-8")
        state = {7: "failed", 13: "stopped"}.get(number % 20, "done")
        cause = {"failed": "the disk is full", "stopped": "Ctrl-C"}.get(state)
        started = status["started"] - 3600.0 * number
        _plain(directory.status, status | {"state": state, "cause": cause, "started": started})
        if number % 3 == 0:
            note = {"name": f"Trial {number}", "note": f"With rate {random.uniform(0, 1):.3f}"}
            _plain(directory.notes, note)
        made.append(directory.path)
    return made


def _plain(file: Path, content: Any) -> None:
    """Write JSON without waiting for the disk, which thousands of times takes minutes."""
    file.write_text(json.dumps(content), encoding="utf-8")
