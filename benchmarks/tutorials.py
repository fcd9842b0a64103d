"""The tutorials' networks: with the tutorials' settings and with Opsin's, over several seeds.

    python -m benchmarks.tutorials --cifar10 FOLDER --out tutorials.json

Each seed's test accuracy stands with its 95% interval; the test images are looked at once a
training. For the convolutional network, the tutorial stops its training on the test images. What
that is worth is measured by training twice with the same seed, images and order, which gives the
same weights: once the validation images are scored after each epoch, once the test images in their
place. docs/learn/figures.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

import opsin

_CONSTANT: Final = {"learning_rate": 1e-3, "schedule": "constant"}
_DENSE: Final = {"model": "mlp", "batch_size": 32, **_CONSTANT}
_THREE: Final = ("airplane", "automobile", "bird")


@dataclass(frozen=True)
class Case:
    """A training that is repeated with several seeds.

    Args:
        data: ``fashion`` or ``cifar10``, of which three classes are used.
        options: Of `opsin.train`.
        printed: The accuracy that the tutorial prints, where it has these settings.
        peek: Whether to score the test images after each epoch as well.
    """

    data: str
    options: Mapping[str, Any] = field(default_factory=dict)
    printed: float | None = None
    peek: bool = False


CASES: Final = {
    "dense-5": Case("fashion", {**_DENSE, "epochs": 5, "patience": 5}),
    "dense-10": Case("fashion", {**_DENSE, "epochs": 10, "patience": 10}, printed=0.8848),
    "dense-15": Case("fashion", {**_DENSE, "epochs": 15, "patience": 15}),
    "dense-opsin": Case("fashion", {"model": "mlp", "epochs": 10}),
    "convolutional": Case(
        "cifar10",
        {"model": "cnn", "batch_size": 128, "epochs": 10, "patience": 10, "flip": False,
         **_CONSTANT},
        printed=0.883,
        peek=True,
    ),
    # A network that trains in a minute shows with more seeds what choosing by the test is worth.
    "stopping": Case(
        "cifar10",
        {"model": "mlp", "batch_size": 128, "epochs": 30, "patience": 30, "flip": False,
         **_CONSTANT},
        peek=True,
    ),
    "convolutional-opsin": Case("cifar10", {"model": "cnn", "epochs": 10}),
}  # fmt: skip


def main() -> None:
    """Run the cases that were asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--fashion", default="fashion-mnist", help="source with Fashion-MNIST")
    parser.add_argument("--cifar10", default="cifar10", help="source with CIFAR-10")
    parser.add_argument("--classes", default=",".join(_THREE), help="three classes of CIFAR-10")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each case")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first of them")
    parser.add_argument("--epochs", type=int, help="of each training, whatever the case has")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    loaded = {
        "fashion": lambda: opsin.load(options.fashion),
        "cifar10": lambda: opsin.load(
            options.cifar10, classes=options.classes.split(","), size=(32, 32), channels=3
        ),
    }
    results: dict[str, Any] = {}
    print(f"{'case':<20}{'printed':>8}{'mean':>8}{'spread':>8}   each, with its 95% interval")
    for name in options.cases or CASES:
        case = CASES[name]
        given = {**case.options, **({"epochs": options.epochs} if options.epochs else {})}
        data = loaded[case.data]()
        runs = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            runs.append(_trained(data, {**given, "seed": seed}, peek=case.peek))
            results[name] = {"options": given, "printed": case.printed, "runs": runs}
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        _tell(name, case, runs)


def _trained(data: opsin.Dataset, options: Mapping[str, Any], *, peek: bool) -> dict[str, Any]:
    """Train once, or twice where the test images are scored after each epoch, too."""
    with tempfile.TemporaryDirectory() as folder:
        run = opsin.train(data, runs=folder, quiet=True, **options)
        figures = run.figures
        result: dict[str, Any] = {
            "accuracy": figures.accuracy,
            "low": figures.low,
            "high": figures.high,
            "seconds": run.report.seconds["train"],
            "epochs": len(run.history),
            "parameters": run.report.training.parameters,
            "validation": [epoch.val_accuracy for epoch in run.history],
            "loss": [epoch.train_loss for epoch in run.history],
        }
        if peek:
            parts = {"train": "train", "val": "test", "test": "val"}
            frames = [_frame(data, of, part, Path(folder)) for part, of in parts.items()]
            again = opsin.train(pd.concat(frames), runs=folder, quiet=True, **options)
            result["test"] = [epoch.val_accuracy for epoch in again.history]
            result["same"] = result["loss"] == [epoch.train_loss for epoch in again.history]
    return result


def _frame(data: opsin.Dataset, rows_of: str, part: str, folder: Path) -> pd.DataFrame:
    """Write the images of a part of the split, and return them as rows of another part."""
    rows = []
    for row in data.split.rows(rows_of):
        file = folder / f"{row}.png"
        Image.fromarray(np.squeeze(np.asarray(data.images[row]))).save(file)
        rows.append((str(file), data.classes[data.labels[row]], part))
    return pd.DataFrame(rows, columns=["path", "label", "split"])


def _tell(name: str, case: Case, runs: list[dict[str, Any]]) -> None:
    """Print a case's row, and what a look at the test images after each epoch is worth."""
    found = [run["accuracy"] for run in runs]
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    each = " ".join(f"{run['accuracy']:.4f} ({run['low']:.4f}–{run['high']:.4f})" for run in runs)
    printed = "" if case.printed is None else f"{case.printed:.4f}"
    print(
        f"{name:<20}{printed:>8}{statistics.mean(found):>8.4f}{spread:>8.4f}   {each}", flush=True
    )
    for run in runs:
        if "test" in run:
            honest = run["test"][run["validation"].index(max(run["validation"]))]
            best = max(run["test"])
            print(
                f"{'':<20}chosen by validation {honest:.4f}, by the test {best:.4f}: "
                f"{best - honest:+.4f}{'' if run['same'] else ' (of other weights)'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
