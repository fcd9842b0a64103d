"""How many labels a heap needs: asked as `opsin label` asks, at random, by margin, by entropy.

    python -m benchmarks.labelling TRASHNET HANDS --out labelling.json

Each source is a folder with a folder for each class; the classes are hidden and revealed on
request. A fifth of the photographs is the test, which no method asks about and from which none
learns. Printed are accuracies after so many labels a class, the labels with which the accuracy is
reached that random questions reach with 20 and with 40 a class; how often the running figure and
the promise of the curve hold; and the decisions with which a heap is labelled by groups.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from opsin.backbones.backbone import open_backbone
from opsin.core.arrays import Bools, Floats, Ints
from opsin.data.sources import open_stream
from opsin.labelling.estimate import estimate_of, judge
from opsin.labelling.groups import groups_of, usual_number
from opsin.labelling.heap import read_heap
from opsin.labelling.learner import FittedLearner, HeapLearner, margins
from opsin.labelling.questions import next_rows

_BATCH: Final = 10
# Labels a class: where accuracies are compared, and what they must take to match random ones.
_RANDOM, _SHARES = (20, 40), (0.6, 0.45)
# Whoever names groups stops when fewer than so many of the last ones were of one class.
_LOOKED_BACK, _PURE = 6, 0.5


class Session:
    """One simulated session: photographs of a heap, labelled on request."""

    def __init__(self, points: Floats, truth: Ints, seed: int, how: str) -> None:
        random = np.random.default_rng(seed)
        order = random.permutation(len(truth))
        self.truth, self.how, self.tests = truth, how, order[: len(truth) // 5]
        self.heap = order[len(truth) // 5 :]
        self.learner, self.rows, self.random = HeapLearner(points), np.zeros(0, np.int64), random
        self.slowest, self.spreads = 0.0, False

    def label(self, count: int) -> None:
        """Ask until there are so many labels."""
        count = min(count, len(self.heap))
        while len(self.rows) < count:
            wanted = min(_BATCH, count - len(self.rows))
            began = time.perf_counter()
            self.rows = np.concatenate([self.rows, self._next(wanted)])
            self.slowest = max(self.slowest, time.perf_counter() - began)

    def _next(self, count: int) -> Ints:
        left = np.setdiff1d(self.heap, self.rows)
        known = len(np.unique(self.truth[self.rows]))
        if self.how == "as asked":
            asked = next_rows(
                self.learner,
                self.fitted() if known > 1 else None,
                labelled=self.rows,
                open_rows=left,
                random_rows=self.heap,
                count=count,
            )
            return np.array([question.row for question in asked], np.int64)
        if self.how == "random" or known < 2 or len(self.rows) < 2 * known:
            return self.heap[~np.isin(self.heap, self.rows)][:count]
        answers = self.fitted().of(left)
        if self.how == "margin":
            return np.asarray(left[np.argsort(margins(answers))[:count]], np.int64)
        entropy = -(answers * np.log(answers + 1e-9)).sum(axis=1)
        return np.asarray(left[np.argsort(-entropy)[:count]], np.int64)

    def present(self) -> tuple[Ints, Ints]:
        """Classes with labels, and the labels among them."""
        present, labels = np.unique(self.truth[self.rows], return_inverse=True)
        return present, labels.ravel().astype(np.int64)

    def fitted(self) -> FittedLearner:
        """What the labels teach; with the heap's help where it asks as Opsin does."""
        present, labels = self.present()
        hidden = self.tests if self.how == "as asked" else np.arange(len(self.truth))
        return self.learner.fit(
            self.rows, labels, len(present), without=hidden, spread=self.spreads
        )

    def judge(self) -> Bools:
        """Which random photographs are right; this decides whether labels spread from now on."""
        answered = np.isin(self.heap, self.rows)
        first = len(answered) if answered.all() else int(np.argmin(answered))
        present, labels = self.present()
        judges = np.isin(self.rows, self.heap[:first])
        right, self.spreads = judge(self.learner, self.rows, labels, judges, len(present))
        return right

    def accuracy(self) -> float:
        """The share of test photographs answered rightly."""
        best = self.present()[0][self.fitted().of(self.tests).argmax(axis=1)]
        return float((best == self.truth[self.tests]).mean())


def labels_needed(points: Floats, truth: Ints, seeds: Sequence[int]) -> dict[str, Any]:
    """Accuracies of each way of asking, and the labels a class that reach random ones'."""
    classes, found = int(truth.max()) + 1, dict[str, dict[float, list[float]]]()
    steps = sorted({*_RANDOM, 5, 8, 10, *(n * s for n, s in zip(_RANDOM, _SHARES, strict=True))})
    slowest = 0.0
    for how in ("random", "margin", "entropy", "as asked"):
        for seed in seeds:
            session = Session(points, truth, seed, how)
            for step in steps:
                session.label(round(step * classes))
                if how == "as asked":
                    session.judge()
                found.setdefault(how, {}).setdefault(step, []).append(session.accuracy())
            slowest = max(slowest, session.slowest if how == "as asked" else 0.0)
    means = {how: {n: float(np.mean(a)) for n, a in of.items()} for how, of in found.items()}
    held = [
        means["as asked"][n * share] >= means["random"][n]
        for n, share in zip(_RANDOM, _SHARES, strict=True)
    ]
    return {"accuracies": means, "held": held, "slowest_question": slowest}


def honesty(points: Floats, truth: Ints, sessions: int) -> dict[str, float]:
    """How often the running figure covers the truth, and a promise holds."""
    covered, kept = list[bool](), list[bool]()
    for seed in range(sessions):
        session = Session(points, truth, 1_000 + seed, "as asked")
        session.label((80, 120, 160, 200)[seed % 4])
        estimate = estimate_of(session.judge(), len(session.rows))
        if estimate.interval is None:
            continue
        now = session.accuracy()
        covered.append(estimate.interval[0] <= now <= estimate.interval[1])
        if estimate.more and estimate.gain and estimate.gain_interval:
            session.label(len(session.rows) + estimate.more)
            # The test says how many more are right to within its own error.
            error = 1.64 * np.sqrt(estimate.gain / len(session.tests))
            low, high = estimate.gain_interval
            kept.append(low - error <= session.accuracy() - now <= high + error)
    return {
        "figures": len(covered),
        "covered": sum(covered) / max(1, len(covered)),
        "promises": len(kept),
        "kept": sum(kept) / max(1, len(kept)),
    }


def decisions(points: Floats, truth: Ints, purity: float = 0.95) -> dict[str, Any]:
    """The decisions with which all photographs have labels of this purity."""
    learner, count = HeapLearner(points), len(truth)
    labels, made = np.full(count, -1), 0
    pure = list[bool]()
    for group in groups_of(points, np.arange(count), usual_number(count)):
        names = np.unique(truth[group.rows])
        made += 1  # it is named, or passed over
        pure.append(len(names) == 1)
        labels[group.rows] = names[0] if pure[-1] else -1
        if len(pure) >= _LOOKED_BACK and sum(pure[-_LOOKED_BACK:]) < _PURE * _LOOKED_BACK:
            break  # the others are mixed: their photographs are asked about one by one
    if (labels < 0).all():
        labels[:_BATCH] = truth[:_BATCH]
        made += _BATCH
    while True:
        known = np.flatnonzero(labels >= 0)
        present, numbers = np.unique(labels[known], return_inverse=True)
        left = np.flatnonzero(labels < 0)
        answers = learner.fit(known, numbers.ravel(), len(present)).of(np.arange(count))
        guesses = present[answers.argmax(axis=1)]
        guesses[known] = labels[known]
        if (guesses == truth).mean() >= purity or not len(left):
            return {"photographs": count, "decisions": made, "purity": (guesses == truth).mean()}
        asked = left[np.argsort(margins(answers[left]))[:_BATCH]]
        labels[asked] = truth[asked]
        made += len(asked)


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", nargs="+", help="photographs in a folder for each class")
    parser.add_argument("--network", default="efficientnet-lite2")
    parser.add_argument("--seeds", type=int, default=5, help="sessions of each way of asking")
    parser.add_argument("--sessions", type=int, default=100, help="for the figure and the promise")
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    network = open_backbone(given.network, offline=True)
    for source in given.source:
        heap = read_heap(open_stream(source), network)
        names = [name.split("/")[-2] for name in heap.names]
        truth = np.unique(names, return_inverse=True)[1].ravel().astype(np.int64)
        one = found[Path(source).name] = {
            "labels": labels_needed(heap.points, truth, range(given.seeds)),
            "decisions": decisions(heap.points, truth),
            "honesty": honesty(heap.points, truth, given.sessions),
        }
        print(Path(source).name)
        for how, of in one["labels"]["accuracies"].items():
            print(f"  {how:9}", "  ".join(f"{n:g}: {a:.3f}" for n, a in of.items()))
        print("  with 60% of 20 and 45% of 40 a class as good as random:", one["labels"]["held"])
        print(f"  slowest question {one['labels']['slowest_question']:.2f} s")
        print("  groups:", one["decisions"], " running figure:", one["honesty"], flush=True)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1, default=float), encoding="utf-8")


if __name__ == "__main__":
    main()
