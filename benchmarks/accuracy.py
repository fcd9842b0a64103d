"""Test accuracy of the recipes that the README promises, over several seeds.

    python benchmarks/accuracy.py mlp cnn-tutorial cnn resnet --cifar10 FOLDER --out accuracy.json

FOLDER holds CIFAR-10 as ``train/<class>/*`` and ``test/<class>/*``; only the cnn needs it. Each
training is a process of its own and looks at the test set once, at its end. Nothing here was
used to tune anything: rates and schedules were chosen on validation data (docs/performance.md).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True)
class Case:
    """A training, how often it is repeated, and the mean test accuracy it should reach."""

    options: tuple[str, ...]
    seeds: int
    target: float
    cifar10: bool = False


_THREE: Final = ("--classes", "airplane,automobile,bird", "--model", "cnn", "--epochs", "10")
CASES: Final = {
    "mlp": Case(("--model", "mlp", "--epochs", "10"), 3, 0.880),
    # The tutorial's own settings, but for its early stopping on the test set.
    "cnn-tutorial": Case(
        (*_THREE, "--schedule", "constant", "--rate", "1e-3", "--batch-size", "128", "--no-flip"),
        3, 0.85, cifar10=True,
    ),
    "cnn": Case(_THREE, 3, 0.88, cifar10=True),
    "resnet": Case((), 3, 0.93),
}  # fmt: skip


def main() -> None:
    """Run the cases that were asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--cifar10", type=Path, help="folder with CIFAR-10 as pictures")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    print(f"{'case':<14}{'target':>8}{'mean':>9}{'each':>26}{'seconds':>10}")
    for name in options.cases or CASES:
        case = CASES[name]
        if case.cifar10 and not options.cifar10:
            print(f"{name:<14}  needs --cifar10 FOLDER")
            continue
        source = str(options.cifar10) if case.cifar10 else "fashion-mnist"
        runs = [_train(source, case, seed) for seed in range(case.seeds)]
        accuracies = [run["figures"]["test"]["accuracy"] for run in runs]
        seconds = [run["seconds"]["train"] for run in runs]
        mean = statistics.mean(accuracies)
        each = " ".join(f"{accuracy:.4f}" for accuracy in accuracies)
        print(
            f"{name:<14}{case.target:>8.3f}{mean:>9.4f}{each:>26}{statistics.mean(seconds):>10.0f}",
            flush=True,
        )
        results[name] = {"mean": mean, "target": case.target, "test": accuracies, "train": seconds}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _train(source: str, case: Case, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "opsin", "train", source, *case.options,
                   "--seed", str(seed), "--runs", folder, "--quiet", "--json"]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    main()
