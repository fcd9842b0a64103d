"""How accuracy grows with images a class, from nothing and from a pretrained network.

    python -m benchmarks.pretrained_curve trashnet mobilenet.onnx --prepare=-1..1 --out curve.json \
        --picture docs/images/pretrained-curve.png

For each number of images a class, and each seed, so many are drawn to learn from; all others, or at
most ``--test`` of them, are the test. Both train with everything left at its default, from nothing
with ``--from-nothing`` (a model's name), each as a process of its own, one after the other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import opsin
from benchmarks.pretrained import few_of_each
from opsin.report.figures.style import MUTED, RIGHT

Curve = dict[str, dict[int, list[dict[str, float]]]]


def main() -> None:
    """Measure, print a table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="images with labels")
    parser.add_argument("network", help="an ONNX file or a run")
    parser.add_argument("--prepare", help="as for opsin train")
    parser.add_argument("--images", type=int, nargs="+", default=[5, 10, 25, 50, 100, 300])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", type=int, default=2_000, help="most test images")
    parser.add_argument("--from-nothing", default="cnn", help="the model without a network")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--picture", type=Path, help="draw them into this file")
    given = parser.parse_args()
    data = opsin.load(given.source, size=(32, 32), channels=3)
    pixels = [f"--prepare={given.prepare}"] if given.prepare else []
    kinds = {
        "pretrained": ["--from", given.network, *pixels],
        "from nothing": ["--model", given.from_nothing],
    }
    smallest = int(np.bincount(data.labels).min())
    found: Curve = {kind: {} for kind in kinds}
    for count in (count for count in given.images if count < smallest):
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                table = few_of_each(data, given.source, count, seed, Path(folder), most=given.test)
                for kind, words in kinds.items():
                    figures = _trained(table, words, seed, Path(folder) / kind)
                    found[kind].setdefault(count, []).append(figures)
                    print(f"{count} a class, seed {seed}, {kind}: {figures['accuracy']:.3f}, "
                          f"{figures['seconds']:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
    for kind, counts in found.items():
        for count, runs in counts.items():
            right = [run["accuracy"] for run in runs]
            seconds = np.mean([run["seconds"] for run in runs])
            spread = np.std(right, ddof=len(right) > 1)
            score = f"{np.mean(right):.3f} ± {spread:.3f}"
            print(f"{kind:14} {count:4} a class  {score}  {seconds:4.0f} s")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if given.picture:
        _draw(found, given.picture)


def _trained(table: Path, words: list[str], seed: int, runs: Path) -> dict[str, float]:
    """Train in a process of its own, and return its accuracy on the test images and its seconds."""
    command = [sys.executable, "-m", "opsin", "train", str(table), *words, "--seed", str(seed),
               "--runs", str(runs), "--outside", "--quiet", "--json"]  # fmt: skip
    at = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    accuracy = json.loads(done.stdout)["figures"]["test"]["accuracy"]
    return {"accuracy": accuracy, "seconds": time.perf_counter() - at}


def _draw(found: Curve, path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415  only where it is asked for

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for (kind, counts), colour in zip(found.items(), (RIGHT, MUTED), strict=True):
        means = [100 * np.mean([run["accuracy"] for run in runs]) for runs in counts.values()]
        spreads = [100 * np.std([run["accuracy"] for run in runs]) for runs in counts.values()]
        axes.errorbar(list(counts), means, spreads, color=colour, marker="o", capsize=3)
        axes.annotate(kind, (list(counts)[-1], means[-1]), (8, 0), textcoords="offset points",
                      color=colour, va="center")  # fmt: skip
    axes.set_xscale("log")
    ticks = list(next(iter(found.values())))
    axes.set_xticks(ticks, [str(count) for count in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training images of each class")
    axes.set_ylabel("test images right (%)")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(right=2.2 * ticks[-1])
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
