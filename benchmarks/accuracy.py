"""Test accuracy of the recipes that the README promises, over several seeds.

    python -m benchmarks.accuracy fashion small --seeds 1 --out accuracy.json
    python -m benchmarks.accuracy --cifar10 FOLDER --hands FOLDER --out accuracy.json

The first FOLDER holds CIFAR-10 as ``train/<class>/*`` and ``test/<class>/*``, the second the 2,062
photographs of hands as ``<digit>/IMG_<number>.JPG``: their numbers tell one student from the next,
since each showed the digits in order, and a student is kept on one side of the split. Each
training is a process of its own and looks at the test set once, at its end; beside its figure
stands that of the mean answer to the image and its mirror image. Nothing here was used to tune
anything: rates and schedules were chosen on validation data (docs/understand/measured.md).
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import opsin
from benchmarks.training_process import train


@dataclass(frozen=True)
class Case:
    """A training, how often it is repeated, and the mean test accuracy it should reach.

    Args:
        options: Of ``opsin train``.
        target: Mean test accuracy.
        minutes: Time that the training may take.
        data: ``fashion-mnist``, ``cifar10`` or ``hands``.
    """

    options: tuple[str, ...]
    target: float
    minutes: float
    data: str = "fashion-mnist"


_THREE: Final = ("--classes", "airplane,automobile,bird", "--model", "cnn", "--epochs", "10")
CASES: Final = {
    "digits": Case(("--model", "mlp"), 0.93, 1, "digits"),
    "mlp": Case(("--model", "mlp", "--epochs", "10"), 0.880, 1),
    # The tutorial's own settings, but for its early stopping on the test set.
    "cnn-tutorial": Case(
        (*_THREE, "--schedule", "constant", "--learning-rate", "1e-3", "--batch-size", "128",
         "--no-flip"),
        0.85, 10, "cifar10",
    ),
    "cnn": Case(_THREE, 0.88, 10, "cifar10"),
    "fashion": Case((), 0.94, 10),
    "fashion-long": Case(("--budget", "40m"), 0.95, 40),
    "small": Case(("--hidden", "32,64,128", "--epochs", "30"), 0.94, 40),
    "cifar10": Case((), 0.90, 20, "cifar10"),
    "hands": Case((), 0.97, 5, "hands"),
}  # fmt: skip


def main() -> None:
    """Run the cases that were asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--cifar10", type=Path, help="folder with CIFAR-10 as images")
    parser.add_argument("--hands", type=Path, help="folder with the photographs of hands")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each case")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first of them")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    print(
        f"{'case':<14}{'target':>7}{'mean':>9}{'±':>8}{'mirrored':>10}{'each':>24}"
        f"{'minutes':>9}{'limit':>7}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases or CASES:
            case = CASES[name]
            source = _source(case, options.cifar10, options.hands, Path(folder))
            if source is None:
                print(f"{name:<14}  needs --{case.data} FOLDER")
                continue
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            runs = [_train(source, case, seed) for seed in seeds]
            results[name] = _told(name, case, runs)
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _told(name: str, case: Case, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Print a case's row, and return its figures."""
    plain = [run["accuracy"] for run in runs]
    mirrored = [run["mirrored"] for run in runs]
    minutes = statistics.mean(run["seconds"] for run in runs) / 60
    spread = statistics.stdev(plain) if len(plain) > 1 else 0.0
    print(
        f"{name:<14}{case.target:>7.3f}{statistics.mean(plain):>9.4f}{spread:>8.4f}"
        f"{statistics.mean(mirrored):>10.4f}{' '.join(f'{one:.4f}' for one in plain):>24}"
        f"{minutes:>9.1f}{case.minutes:>7.0f}",
        flush=True,
    )
    return {"target": case.target, "minutes": minutes, "limit": case.minutes, "runs": runs}


def _source(case: Case, cifar10: Path | None, hands: Path | None, folder: Path) -> str | None:
    if case.data in ("digits", "fashion-mnist"):
        return case.data
    if case.data == "cifar10":
        return None if cifar10 is None else str(cifar10.resolve())
    return None if hands is None else str(_table_of(hands.resolve(), folder / "hands.csv"))


def _table_of(hands: Path, table: Path) -> Path:
    """Write a table of the photographs in which a group is a student."""
    numbered = sorted(_numbered(hands))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group"])
        student, before = 0, -1
        for _, digit, path in numbered:
            student += digit < before
            before = digit
            writer.writerow([path, digit, f"student {student}"])
    return table


def _numbered(hands: Path) -> Iterator[tuple[int, int, Path]]:
    for path in hands.glob("[0-9]/*"):
        found = re.fullmatch(r"IMG_(\d+)\.JPG", path.name)
        if found:
            yield int(found[1]), int(path.parent.name), path


def _train(source: str, case: Case, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        report = train(source, *case.options, "--seed", seed, runs=folder)
        run = opsin.Run(report["run"])
        return {
            "accuracy": report["figures"]["test"]["accuracy"],
            "mirrored": _mirrored(run),
            "seconds": report["seconds"]["train"],
            "parameters": report["training"]["parameters"],
            "reasons": report["reasons"],
            "validation": report["figures"]["val"]["accuracy"],
        }


def _mirrored(run: opsin.Run) -> float:
    """Return the accuracy of the mean answer to each test image and its mirror image."""
    kept = run.directory.load_arrays(run.directory.predictions)
    recipe = run.recipe.data
    data = opsin.load(*recipe.sources, **recipe.model_dump(exclude={"sources"}, exclude_none=True))
    images = np.asarray(data.images[kept["test_rows"]])[:, :, ::-1]
    both = kept["test_probabilities"] + run.classifier().probabilities(images)
    return float(np.mean(both.argmax(axis=1) == kept["test_labels"]))


if __name__ == "__main__":
    main()
