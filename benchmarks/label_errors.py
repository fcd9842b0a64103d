"""How many planted label errors are found, and how many of the suspects are planted.

    python -m benchmarks.label_errors --seeds 3 --out label-errors.json

Of Fashion-MNIST's 60,000 training images 5% get another label: any other (uniform), or the class
that theirs is most often taken for (confused), which is how people err. Answers to all of them come
from a cross-validation with the `mlp` on the wrong labels, as `opsin train --folds` does it. Then
suspects are ranked. Precision at k: of the first k suspects, k being the number planted, the share
that was planted. Recall: the share of the planted ones among all suspects. Fashion-MNIST has wrong
labels of its own, which count as false alarms here. The last column is precision at k where all
images are ranked by the answer's confidence in their label alone, without confident learning.
With `--methods` each of cleanlab's ways to choose and to rank is set beside the one that is used.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import opsin
from opsin.evaluation.mistakes import FILTER, RANK, suspects

_SHARE: Final = 0.05
_FILTERS: Final = (
    "prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given",
    "low_normalized_margin", "low_self_confidence",
)  # fmt: skip
_RANKS: Final = ("normalized_margin", "self_confidence", "confidence_weighted_entropy")


def main() -> None:
    """Plant errors, look for them, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", default="fashion-mnist")
    parser.add_argument("--seeds", type=int, default=3, help="plantings of each kind")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--images", type=int, default=60_000, help="use the first so many")
    parser.add_argument("--methods", action="store_true", help="compare cleanlab's methods")
    parser.add_argument("--keep", type=Path, help="folder for the answers, used if there")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    source = opsin.load(options.source)
    rows = np.sort(np.concatenate([source.split.train, source.split.val]))[: options.images]
    clean = opsin.from_arrays(
        source.images[rows], source.labels[rows], source.classes, name=options.source
    )
    partner = _partners(clean, options)
    for label, other in enumerate(partner):
        print(f"{clean.classes[label]} is most often taken for {clean.classes[other]}")
    print(
        f"\n{'planted':<12}{'seed':>5}{'errors':>8}{'suspects':>10}{'precision at k':>16}"
        f"{'recall':>8}{'by answer':>11}{'seconds':>9}"
    )
    found: dict[str, Any] = {
        "model": options.model,
        "folds": options.folds,
        "epochs": options.epochs,
        "images": len(clean),
    }
    for kind in ("uniform", "confused"):
        figures = [
            _measure(clean, kind, seed, None if kind == "uniform" else partner, options)
            for seed in range(options.seeds)
        ]
        found[kind] = figures
        mean = {
            key: statistics.fmean(each[key] for each in figures)
            for key in ("precision", "recall", "by_answer")
        }
        print(
            f"{kind:<12}{'mean':>5}{'':>18}{mean['precision']:>16.3f}{mean['recall']:>8.3f}"
            f"{mean['by_answer']:>11.3f}",
            flush=True,
        )
    if options.methods:
        _print_methods(found)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _partners(clean: opsin.Dataset, options: argparse.Namespace) -> NDArray[np.int64]:
    """Return the class that each class is most often taken for, by answers out of fold."""
    probabilities, labels = _answers(clean, "clean", 0, options)
    answers = probabilities.argmax(axis=1)
    count = len(clean.classes)
    confusion = np.bincount(count * labels + answers, minlength=count**2).reshape(count, count)
    np.fill_diagonal(confusion, 0)
    partners: NDArray[np.int64] = confusion.argmax(axis=1)
    return partners


def _plant(
    labels: NDArray[np.int64], classes: int, seed: int, partner: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return wrong labels, and where they are wrong."""
    random = np.random.default_rng(seed)
    rows = random.permutation(len(labels))[: round(_SHARE * len(labels))]
    wrong = labels.copy()
    if partner is None:
        wrong[rows] = (labels[rows] + random.integers(1, classes, len(rows))) % classes
    else:
        wrong[rows] = partner[labels[rows]]
    return wrong, wrong != labels


def _answers(
    data: opsin.Dataset, kind: str, seed: int, options: argparse.Namespace
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return answers out of fold, in the order of the images, and the labels trained on."""
    kept = options.keep / f"{kind}-{seed}.npz" if options.keep else None
    if kept and kept.exists():
        with np.load(kept, allow_pickle=False) as arrays:
            return arrays["probabilities"], arrays["labels"]
    with tempfile.TemporaryDirectory() as runs:
        series = opsin.train_folds(
            data,
            folds=options.folds,
            model=options.model,
            epochs=options.epochs,
            seed=seed,
            runs=runs,
            quiet=True,
        )
        parts = [run.directory.load_arrays(run.directory.predictions) for run in series.runs]
    order = np.argsort(np.concatenate([part["test_rows"] for part in parts]))
    probabilities = np.concatenate([part["test_probabilities"] for part in parts])[order]
    labels = np.concatenate([part["test_labels"] for part in parts])[order]
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, probabilities=probabilities, labels=labels)
    return probabilities, labels


def _measure(
    clean: opsin.Dataset,
    kind: str,
    seed: int,
    partner: NDArray[np.int64] | None,
    options: argparse.Namespace,
) -> dict[str, Any]:
    labels, planted = _plant(clean.labels, len(clean.classes), seed, partner)
    began = time.perf_counter()
    probabilities, answered = _answers(
        dataclasses.replace(clean, labels=labels), kind, seed, options
    )
    if not np.array_equal(answered, labels):
        raise SystemExit("the answers kept are to other labels; empty the folder of --keep")
    seconds = time.perf_counter() - began
    figures = {
        "seed": seed,
        "planted": int(planted.sum()),
        "seconds": seconds,
        "accuracy_out_of_fold": float(np.mean(probabilities.argmax(axis=1) == clean.labels)),
        **_score(probabilities, labels, planted, FILTER, RANK),
        "by_answer": _by_answer(probabilities, labels, planted),
    }
    if options.methods:
        figures["methods"] = {
            f"{chosen}, {rank}": _score(probabilities, labels, planted, chosen, rank)
            for chosen in _FILTERS
            for rank in _RANKS
        }
    print(
        f"{kind:<12}{seed:>5}{figures['planted']:>8,}{figures['suspects']:>10,}"
        f"{figures['precision']:>16.3f}{figures['recall']:>8.3f}"
        f"{figures['by_answer']:>11.3f}{seconds:>9.0f}",
        flush=True,
    )
    return figures


def _score(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    planted: NDArray[np.bool_],
    chosen: str,
    rank: str,
) -> dict[str, Any]:
    found = suspects(probabilities, labels, filter_by=chosen, rank_by=rank)
    first = found.rows[: int(planted.sum())]
    return {
        "suspects": len(found),
        "precision": float(planted[first].mean()) if len(first) else 0.0,
        "recall": float(planted[found.rows].sum() / planted.sum()),
    }


def _by_answer(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], planted: NDArray[np.bool_]
) -> float:
    own = probabilities[np.arange(len(labels)), labels]
    first = np.argsort(own, kind="stable")[: int(planted.sum())]
    return float(planted[first].mean())


def _print_methods(found: dict[str, Any]) -> None:
    print(
        f"\n{'choice, order':<52}{'planted':<12}{'suspects':>9}{'precision at k':>16}{'recall':>8}"
    )
    for kind in ("uniform", "confused"):
        for name in found[kind][0]["methods"]:
            each = [figures["methods"][name] for figures in found[kind]]
            mean = {key: statistics.fmean(one[key] for one in each) for key in each[0]}
            print(
                f"{name:<52}{kind:<12}{mean['suspects']:>9,.0f}{mean['precision']:>16.3f}"
                f"{mean['recall']:>8.3f}"
            )


if __name__ == "__main__":
    main()
