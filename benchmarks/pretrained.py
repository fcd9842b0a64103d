"""How good a head on a pretrained network is, and how long it takes, beside scikit-learn's.

    python -m benchmarks.pretrained trashnet --few 5 10 25 50
    python -m benchmarks.pretrained trashnet mobilenet.onnx --prepare=-1..1

For each seed a fifth of the images is the test; with ``--few`` there are so many training images
of each class, and all others are the test. Where no network is given, Opsin is not told of one
either, and scikit-learn gets the larger of those that come with it. Opsin runs as a process of its
own with an empty cache (``first``), then again with another seed (``again``: features are known).
scikit-learn gets the network's last features of the same images, each seen whole: logistic
regression (C = 0.1), and a support vector machine on standardised features (C = 10).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import opsin
from benchmarks.training_process import train
from opsin.backbones.backbone import Backbone, open_backbone
from opsin.backbones.feature_graph import FeatureGraph
from opsin.data.dataset import Dataset
from opsin.runtime.providers import cpu_session


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="images with labels")
    parser.add_argument("network", nargs="?", help="an ONNX file, a name or a run")
    parser.add_argument("--prepare", help="as for opsin train")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--few", type=int, nargs="*", default=[], help="training images a class")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    backbone = open_backbone(given.network or "efficientnet-lite2", prepare=given.prepare)
    height, width = backbone.side
    data = opsin.load(given.source, size=(height, width), channels=3, resize="squash")
    features = _features(backbone, data)
    found: dict[str, list[dict[str, float]]] = {}
    for count in (0, *given.few):
        name = f"{count} a class" if count else "80%"
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                figures = _opsin(given, data, count, seed, Path(folder))
                figures |= _sklearn(features, data, figures.pop("train"), figures.pop("test"))
            found.setdefault(name, []).append(figures)
            print(f"{name}, seed {seed}: {_line(figures)}", file=sys.stderr, flush=True)
    for name, runs in found.items():
        print(name)
        for key in runs[0]:
            values = [run[key] for run in runs]
            print(f"  {key:28} {np.mean(values):8.3f} ± {np.std(values, ddof=len(values) > 1):.3f}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _line(figures: dict[str, float]) -> str:
    return " · ".join(f"{key} {value:.3f}" for key, value in figures.items())


def _features(backbone: Backbone, data: Dataset) -> NDArray[np.float32]:
    height, width, channels = data.images.shape[1:]
    graph = FeatureGraph(backbone, (height, width, channels), ["whole"], backbone.at[:1])
    session = cpu_session(graph.content())
    parts = [
        session.run(graph.outputs, {"images": data.images[start : start + 16]})[0]
        for start in range(0, len(data.labels), 16)
    ]
    return np.concatenate(parts)


def _opsin(
    given: argparse.Namespace, data: Dataset, count: int, seed: int, folder: Path
) -> dict[str, Any]:
    """Train twice in processes of their own; return figures, and the rows of both parts."""
    source, split = given.source, ["--test-fraction", "0.2", "--split-seed", str(seed)]
    if count:
        source, split = str(few_of_each(data, given.source, count, seed, folder)), ["--outside"]
    words = [*split, *(["--from", given.network] if given.network else [])]
    if given.prepare:
        words.append(f"--prepare={given.prepare}")
    seconds, reports = [], []
    for more in ([], ["--seed", "1"]):
        at = time.perf_counter()
        report = train(source, *words, *more, runs=folder / "runs", cache=folder / "cache")
        seconds.append(time.perf_counter() - at)
        reports.append(report)
    run = min((folder / "runs").iterdir(), key=lambda path: len(path.name))
    with (run / "pictures.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    place = {name: row for row, name in enumerate(data.names)}
    parts: dict[str, list[int]] = {"train": [], "test": []}
    for row in rows:
        name = os.path.relpath(row["name"], given.source) if count else row["name"]
        parts["test" if row["part"] == "test" else "train"].append(place[name])
    return {
        "opsin": reports[0]["figures"]["test"]["accuracy"],
        "opsin, balanced": reports[0]["figures"]["test"]["balanced_accuracy"],
        "seconds, first": seconds[0],
        "seconds, again": seconds[1],
        "train": np.array(parts["train"]),
        "test": np.array(parts["test"]),
    }


def few_of_each(
    data: Dataset,
    source: str,
    count: int,
    seed: int,
    folder: Path,
    *,
    most: int | None = None,
    classes: Collection[int] | None = None,
) -> Path:
    """Write a table of so many training images of each class, others for the test.

    Args:
        data: The images.
        source: Their folder; the images of any other source are written as files.
        count: How many of each class are to be learnt from.
        seed: Decides which.
        folder: Where the table is written.
        most: Most test images (default: all others).
        classes: Which classes (default: all).
    """
    order = np.random.default_rng(seed).permutation(len(data.labels))
    taken: dict[int, int] = {}
    tested = 0
    table = folder / "few.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for row in order:
            label = int(data.labels[row])
            if classes is not None and label not in classes:
                continue
            taken[label] = taken.get(label, 0) + 1
            part = "train" if taken[label] <= count else "test"
            tested += part == "test"
            if part == "test" and most is not None and tested > most:
                continue
            writer.writerow([_file_of(data, source, row, folder), data.classes[label], part])
    return table


def _file_of(data: Dataset, source: str, row: int, folder: Path) -> str:
    """Return the path of an image, which is written if it is in no file."""
    if Path(source).is_dir():
        return os.path.abspath(os.path.join(source, data.names[row]))  # noqa: PTH100, PTH118
    path = folder / f"{row}.png"
    Image.fromarray(data.images[row].squeeze()).save(path)
    return str(path)


def _sklearn(
    features: NDArray[np.float32],
    data: Dataset,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> dict[str, float]:
    labels = data.labels
    heads = {
        "scikit-learn, logistic": LogisticRegression(C=0.1, max_iter=500),
        "scikit-learn, svm": make_pipeline(StandardScaler(), SVC(C=10, gamma="auto")),
    }
    return {
        name: float(head.fit(features[train], labels[train]).score(features[test], labels[test]))
        for name, head in heads.items()
    }


if __name__ == "__main__":
    main()
