"""How far figures can be trusted where all images judge: intervals, and planted wrong labels.

    python -m benchmarks.out_of_fold trashnet --images 20 --draws 50 --out out-of-fold.json

For each draw a head is trained on so many images of each class, as the command does it where
nothing is asked for, and judged by these images (out of fold). The file then answers all other
images: is the accuracy on them in the interval that was stated? Each class counts the same, as it
does among those that were learnt from. *Narrow* is the interval as of independent answers.

Then labels are made wrong, uniformly, and `report.json` is asked which it suspects. Features of
all images are computed once.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import opsin
from opsin.backbones.backbone import open_backbone
from opsin.backbones.feature_graph import View, usual_preparation
from opsin.backbones.features import compute
from opsin.commands.report import without_page
from opsin.core.events import SILENT
from opsin.data.dataset import Dataset
from opsin.evaluation.intervals import share
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import FEATURES, PROBABILITIES


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="a folder of images, a folder for each class")
    parser.add_argument("--network", default="efficientnet-lite2", help="as for opsin train --from")
    parser.add_argument("--classes", help="the classes that are told apart (default: all)")
    parser.add_argument("--images", type=int, default=20, help="of each class, to learn from")
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--planted", type=int, default=12, help="wrong labels")
    parser.add_argument("--of", type=int, default=52, help="images of each class they are among")
    parser.add_argument("--plantings", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    backbone = open_backbone(given.network)
    like = usual_preparation(backbone)
    data = opsin.load(
        given.source,
        size=(like.height, like.width),
        channels=like.channels,
        resize=like.resize,
        classes=given.classes.split(",") if given.classes else None,
    )
    views: tuple[View, ...] = ("whole", "mirrored") if data.mirrored else ("whole",)
    features = compute(backbone, data.images, data.digests, views, watcher=SILENT)
    draws = []
    for seed in range(given.draws):
        draws.append(_draw(data, features, given, seed))
        print(f"draw {seed}: {_line(draws[-1])}", file=sys.stderr, flush=True)
    plantings = []
    for seed in range(given.plantings):
        plantings.append(_plant(data, given, seed))
        print(f"planting {seed}: {_line(plantings[-1])}", file=sys.stderr, flush=True)
    for figures in (draws, plantings):
        for key in figures[0] if figures else ():
            values = [each[key] for each in figures]
            print(f"{key:32} {np.mean(values):8.4f} ± {np.std(values):.4f} ({len(values)})")
    if given.out:
        found = {"draws": draws, "plantings": plantings}
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _line(figures: dict[str, float]) -> str:
    return " · ".join(f"{key} {value:.4g}" for key, value in figures.items())


def _drawn(data: Dataset, count: int, seed: int) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    rows = [
        random.choice(np.flatnonzero(data.labels == label), count, replace=False)
        for label in range(len(data.classes))
    ]
    return np.sort(np.concatenate(rows))


def _trained(
    data: Dataset, rows: NDArray[np.int64], labels: NDArray[np.int64], given: Any, folder: Path
) -> opsin.Run:
    """Train as the command does on some images with these labels."""
    table = folder / "drawn.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for row, label in zip(rows, labels, strict=True):
            path = Path(given.source, data.names[row]).absolute()
            writer.writerow([path, data.classes[label]])
    with without_page():
        return opsin.train(
            table, backbone=given.network, outside=True, runs=folder / "runs", quiet=True
        )


def _draw(
    data: Dataset, features: NDArray[np.float32], given: argparse.Namespace, seed: int
) -> dict[str, float]:
    rows = _drawn(data, given.images, seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = _trained(data, rows, data.labels[rows], given, Path(folder))
        judged, content = run.report.figures["out_of_fold"], run.classifier().content
        kept = run.directory.load_arrays(run.directory.predictions)
    right = kept["out_of_fold_probabilities"].argmax(axis=1) == kept["out_of_fold_labels"]
    narrow = share(right, kept["out_of_fold_groups"])
    session = onnxruntime.InferenceSession(OnnxGraph(content).between(FEATURES, [PROBABILITIES]))
    others = np.setdiff1d(np.arange(len(data)), rows)
    (answers,) = session.run([PROBABILITIES], {FEATURES: features[others]})
    hits = answers.argmax(axis=1) == data.labels[others]
    truth = float(
        np.mean([hits[data.labels[others] == label].mean() for label in range(len(data.classes))])
    )
    return {
        "stated": judged.accuracy,
        "on the others": truth,
        "in the interval": float(judged.low <= truth <= judged.high),
        "in the narrow interval": float(narrow[0] <= truth <= narrow[1]),
        "width": judged.high - judged.low,
        "width of the narrow": narrow[1] - narrow[0],
    }


def _plant(data: Dataset, given: argparse.Namespace, seed: int) -> dict[str, float]:
    rows, random = _drawn(data, given.of, seed), np.random.default_rng(seed)
    labels = data.labels[rows].copy()
    wrong = random.choice(len(rows), given.planted, replace=False)
    labels[wrong] += random.integers(1, len(data.classes), len(wrong))
    labels %= len(data.classes)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = _trained(data, rows, labels, given, Path(folder))
        suspects = run.report.failures.suspects if run.report.failures else []
    planted = {Path(data.names[rows[place]]).name for place in wrong}
    found = sum(Path(each.name).name in planted for each in suspects)
    return {"planted found": float(found), "false ones": float(len(suspects) - found)}


if __name__ == "__main__":
    main()
