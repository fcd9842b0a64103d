"""How good models without layers are on Fashion-MNIST, and how quick.

    python -m benchmarks.classical
    python -m benchmarks.classical forest svm --out classical.json

Each model is trained by ``opsin train`` with its defaults, in a process of its own, and looks at
the test set once, at its end. ``fit`` is the time of the fitting alone, ``all`` the processor's
time for the whole run with its report; ``answers`` is how many images a second the file
answers on this machine, in batches of 256. The defaults were chosen on validation images. The
published figures, where we know any, are those of the data set's authors
(H. Xiao et al., arXiv:1708.07747, and their page side by side with MNIST).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

import opsin
from benchmarks.training_process import train
from opsin.classical.classical_recipe import PIXEL_MODELS

#: About what scikit-learn's classifiers reach there.
PUBLISHED: Final = {"logistic": "0.84", "forest": "0.88", "svm": "0.90"}
# Seconds of answering that are measured.
_ENOUGH: Final = 3.0


def main() -> None:
    """Train the models that were asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(PIXEL_MODELS))
    parser.add_argument("--source", default="fashion-mnist")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    unknown = set(options.models) - set(PIXEL_MODELS)
    if unknown:
        parser.error(f"models are {', '.join(PIXEL_MODELS)}")
    results: dict[str, Any] = {}
    print(
        f"{'model':<24}{'test':>8}{'±':>8}{'published':>11}{'val':>8}{'ECE':>8}"
        f"{'fit':>8}{'all':>8}{'file':>10}{'answers':>10}"
    )
    for name in options.models or PIXEL_MODELS:
        found = results[name] = _train(name, options.source, options.seed)
        published = PUBLISHED.get(name, "–") if options.source == "fashion-mnist" else "–"
        print(
            f"{name:<24}{found['accuracy']:>8.4f}{found['half']:>8.4f}{published:>11}"
            f"{found['validation']:>8.4f}{found['calibration_error']:>8.3f}"
            f"{found['fit']:>6.0f} s{found['processor']:>6.0f} s"
            f"{found['bytes'] / 1e6:>7.2f} MB{found['answers']:>8,.0f}/s",
            flush=True,
        )
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _train(name: str, source: str, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        before = os.times()
        report = train(source, "--model", name, "--seed", seed, runs=folder)
        after = os.times()
        figures = report["figures"]
        return {
            "accuracy": figures["test"]["accuracy"],
            "half": (figures["test"]["high"] - figures["test"]["low"]) / 2,
            "validation": figures["val"]["accuracy"],
            "log_loss": figures["test"]["log_loss"],
            "calibration_error": figures["test"]["calibration_error"],
            "fit": report["seconds"]["train"],
            "seconds": report["seconds"],
            "processor": after.children_user - before.children_user,
            "bytes": report["file"]["bytes"],
            "parameters": report["training"]["parameters"],
            "difference": report["file"]["difference"],
            "answers": _rate(opsin.Run(report["run"]), source),
        }


def _rate(run: opsin.Run, source: str) -> float:
    """Return how many test images a second the run's file answers."""
    data = opsin.load(source)
    batch = np.asarray(data.images[data.split.test[:256]])
    classifier = run.classifier()
    classifier.probabilities(batch)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < _ENOUGH:
        count += len(classifier.probabilities(batch))
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
