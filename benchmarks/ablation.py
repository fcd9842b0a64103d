"""What each part of the default recipe is worth, on validation images only.

    python -m benchmarks.ablation SOURCE --epochs 5 [--only muon,batch] --out ablation.json

Each row changes one thing of the default and is trained through `opsin.train`; rows that change the
work of an epoch get as many epochs as take about the same time. The test set is never looked at
here: the figures are those of the validation split.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

import opsin
from opsin.data.split import Split

#: What each row changes, and its epochs as a share of those asked for.
ROWS: Final[dict[str, tuple[dict[str, Any], float]]] = {
    "default": ({}, 1),
    "adamw": ({"optimizer": "adamw", "batch_size": 128}, 1),
    "sgd": ({"optimizer": "sgd", "batch_size": 128}, 1),
    "muon-256": ({"batch_size": 256, "learning_rate": 0.07}, 1),
    "muon-slower": ({"learning_rate": 0.05}, 1),
    "muon-faster": ({"learning_rate": 0.2}, 1),
    "narrow-long": ({"hidden": (32, 64, 128)}, 2),
    "wide-short": ({"hidden": (64, 128, 256)}, 0.6),
    "erase": ({"erase": 0.25}, 1),
    "no-smoothing": ({"label_smoothing": 0.0}, 1),
    "no-variation": ({"augment": "none"}, 1),
    "relu": ({"activation": "relu"}, 1),
    "float32": ({"precision": "float32"}, 1),
}


def main() -> None:
    """Train the rows that were asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--only", default=",".join(ROWS), help="rows, with commas between")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    data = _without_test(opsin.load(options.source))
    found: dict[str, Any] = {}
    print(f"{'row':<14}{'epochs':>7}{'val accuracy':>14}{'log loss':>10}{'seconds':>9}  changes")
    for name in options.only.split(","):
        changes, share = ROWS[name]
        epochs = max(1, round(share * options.epochs))
        with tempfile.TemporaryDirectory() as runs:
            run = opsin.train(
                data,
                model="resnet",
                epochs=epochs,
                seed=options.seed,
                runs=runs,
                quiet=True,
                **changes,
            )
            figures, seconds = run.figures, run.report.seconds["train"]
        found[name] = {
            "changes": changes,
            "epochs": epochs,
            "seconds": seconds,
            "accuracy": figures.accuracy,
            "log_loss": figures.log_loss,
        }
        print(
            f"{name:<14}{epochs:>7}{figures.accuracy:>14.4f}{figures.log_loss:>10.4f}"
            f"{seconds:>9.0f}  {changes or ''}",
            flush=True,
        )
        if options.out:
            options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _without_test(data: opsin.Dataset) -> opsin.Dataset:
    """Return the dataset with no test part, so that nothing can be tuned on it."""
    split = Split(data.split.train, data.split.val, np.empty(0, np.int64))
    return dataclasses.replace(data, split=split)


if __name__ == "__main__":
    main()
