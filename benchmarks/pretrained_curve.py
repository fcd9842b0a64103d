"""How accuracy grows with images a class: pretrained, from scratch, and by what auto chooses.

    python -m benchmarks.pretrained_curve trashnet hands cifar10 fashion-mnist \
        --out curve.json --picture docs/images/pretrained-curves.png

For each seed, collection and number of images a class, so many are drawn to learn from; all
others, or at most ``--test`` of them, are the test. Each kind trains in a process of its own, one
after the other: a head on ``--network``, ``--from-scratch`` (a model's name), and ``opsin train``
with no option. A class is left out that would keep fewer than five images for the test.

All of it takes hours. ``--out`` is written after each training, and what it holds already is not
measured again: give some sources, ``--images``, ``--seeds`` or ``--kinds``, or ``--most`` trainings
at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

import opsin
from benchmarks.pretrained import few_of_each
from benchmarks.training_process import train
from opsin.report.figures.style import MUTED, RIGHT, WRONG

#: Figures of one training, and what was chosen.
Figures = dict[str, Any]
#: Collection, kind of training, images a class, seed: figures.
Curve = dict[str, dict[str, dict[str, dict[str, Figures]]]]

# Test images that a class must have beside those to learn from.
_LEFT: Final = 5


def main() -> None:
    """Measure, print a table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", nargs="+", help="images with labels")
    parser.add_argument("--network", default="efficientnet-lite2", help="as for --from")
    parser.add_argument("--images", type=int, nargs="+", default=[5, 10, 25, 50, 100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="which draws")
    parser.add_argument("--test", type=int, default=500, help="most test images")
    parser.add_argument("--from-scratch", default="resnet", help="the model without a network")
    parser.add_argument("--kinds", nargs="+", help="pretrained, from scratch, auto (default: all)")
    parser.add_argument("--most", type=int, default=10_000, help="trainings this time")
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    parser.add_argument("--picture", type=Path, help="draw them into this file")
    given = parser.parse_args()
    known = given.out is not None and given.out.exists()
    found: Curve = json.loads(given.out.read_text(encoding="utf-8")) if known else {}
    left = given.most
    for seed in given.seeds:
        for source in given.source:
            for count in given.images:
                left -= _measure(found, source, count, seed, given, most=left)
    _print(found)
    if given.picture:
        _draw(found, given.picture)


def _measure(
    found: Curve, source: str, count: int, seed: int, given: argparse.Namespace, *, most: int
) -> int:
    """Train each kind on one draw, unless it is known or too few images are left for the test.

    Returns:
        How many were trained, ``most`` at most.
    """
    kinds = {
        "pretrained": ["--from", given.network],
        "from scratch": ["--model", given.from_scratch],
        "auto": [],
    }
    curves = found.get(Path(source).name, {})
    missing = [
        kind
        for kind in given.kinds or kinds
        if str(seed) not in curves.get(kind, {}).get(str(count), {})
    ]
    if not missing[:most]:
        return 0
    data = opsin.load(source)
    classes = np.flatnonzero(np.bincount(data.labels) >= count + _LEFT).tolist()
    if len(classes) < 2:
        return 0
    found[Path(source).name] = curves
    with tempfile.TemporaryDirectory() as folder:
        table = few_of_each(
            data, source, count, seed, Path(folder), most=given.test, classes=classes
        )
        for kind in missing[:most]:
            figures = _trained(table, kinds[kind], seed, Path(folder) / kind)
            figures["classes"] = len(classes)
            curves.setdefault(kind, {}).setdefault(str(count), {})[str(seed)] = figures
            print(
                f"{Path(source).name}, {count} a class, seed {seed}, {kind}: "
                f"{figures['accuracy']:.3f} by {figures['chosen']}, {figures['seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            if given.out:
                given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return len(missing[:most])


def _trained(table: Path, words: list[str], seed: int, runs: Path) -> Figures:
    """Train in a process of its own; return its accuracy on the test images, and its seconds."""
    at = time.perf_counter()
    report = train(table, *words, "--seed", seed, "--outside", runs=runs)
    return {
        "accuracy": report["figures"]["test"]["accuracy"],
        "seconds": time.perf_counter() - at,
        "chosen": report["model"],
        "trial": report["reasons"].get("Trial"),
    }


def _print(found: Curve) -> None:
    for collection, kinds in found.items():
        for kind, counts in kinds.items():
            for count, draws in counts.items():
                mean, spread = _mean(draws)
                seconds = np.mean([each["seconds"] for each in draws.values()])
                classes = int(max(each["classes"] for each in draws.values()))
                score = f"{mean:.3f} ± {spread:.3f}" if len(draws) > 1 else f"{mean:.3f}, one draw"
                chosen = ", ".join(sorted({each["chosen"] for each in draws.values()}))
                print(
                    f"{collection:20} {kind:12} {int(count):5} of each of {classes:2}  "
                    f"{score}  {seconds:4.0f} s  {chosen}"
                )


def _mean(draws: dict[str, Figures]) -> tuple[float, float]:
    """Return the mean accuracy and its deviation between draws (0 of one)."""
    right = [each["accuracy"] for each in draws.values()]
    return float(np.mean(right)), float(np.std(right, ddof=len(right) > 1))


def _draw(found: Curve, path: Path) -> None:
    """Draw a small picture for each collection, side by side, on the same axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415  only where it is asked for

    figure = Figure(figsize=(max(4.8, 2.3 * len(found)), 3.2), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (collection, kinds) in zip(panels, found.items(), strict=True):
        for kind, colour, line in (
            ("pretrained", RIGHT, "-"),
            ("from scratch", MUTED, "-"),
            ("auto", WRONG, ":"),
        ):
            if not (draws := kinds.get(kind)):
                continue
            counts = sorted(draws, key=int)
            points = [_mean(draws[count]) for count in counts]
            axes.errorbar(
                [int(count) for count in counts],
                [100 * mean for mean, _ in points],
                [100 * spread for _, spread in points],
                color=colour,
                ls=line,
                marker="o",
                markersize=4,
                capsize=2,
                label=kind,
            )
        ticks = sorted({int(count) for counts in kinds.values() for count in counts})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(count) for count in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(collection, fontsize=10)
        axes.set_ylim(0, 100)
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("test images right (%)")
    panels[0].legend(frameon=False, loc="lower right", fontsize=8)
    figure.supxlabel("training images of each class", fontsize=10)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
