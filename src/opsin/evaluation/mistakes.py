"""Answers to look at: mistakes, and labels that are probably wrong."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from opsin.core.arrays import Bools, Floats, Ints
from opsin.core.artifacts.run_report import ExpectedSuspects, LabelEvidence
from opsin.core.errors import MissingExtraError, RecipeError
from opsin.core.format import counted
from opsin.evaluation.intervals import share

#: How cleanlab chooses and ranks: chosen by measurement (benchmarks/label_errors.py).
FILTER: Final = "low_self_confidence"
RANK: Final = "self_confidence"
#: Above this share of contradicted labels, the classifier is to be doubted, not the labels.
MOST: Final = 0.2
# How many times as probable as a suspected label the answer is: less is often the classifier's own
# mistake (benchmarks/out_of_fold.py).
_CLEARLY: Final = 7
#: Share of the labels that a trial flips.
FLIPPED: Final = 0.05
#: Share of a trial's first suspects that must be flipped labels, or the list tells nothing. Where
#: three times as many labels are really wrong as are flipped, about so many are.
BAR: Final = 0.25
# Trials, of which the mean is taken; answers (images times classes) that all of them look at, so
# that many classes cost seconds; and images of one.
_TRIALS, _ANSWERS, _IMAGES = 10, 10_000_000, 5_000
# Images of all cells of a confusion matrix together, and of one.
_IN_ALL, _FEWEST, _MOST = 600, 2, 24
#: Cells whose images are shown; of more, those with the most mistakes.
_CELLS: Final = 120
# Most suspects that a sentence names.
_SPOKEN: Final = 20


@dataclass(frozen=True)
class SuspectedLabels:
    """Images whose label is probably wrong, the most doubtful first."""

    rows: Ints  # their places among the images, ``int64[M]``
    suggested: Ints  # the class that the answers suggest instead, never the label, ``int64[M]``
    # Doubt in the label, ``float32[M]``: 1 less its probability by the answer.
    scores: Floats

    def of(self, which: Bools) -> SuspectedLabels:
        """Return some of them."""
        return SuspectedLabels(self.rows[which], self.suggested[which], self.scores[which])

    def __len__(self) -> int:
        return len(self.rows)


_NONE: Final = SuspectedLabels(
    np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
)


def doubt_labels(
    probabilities: Floats, labels: Ints, classes: Sequence[str], groups: Ints | None = None
) -> tuple[SuspectedLabels, LabelEvidence]:
    """Find suspected label errors, unless the classifier is too weak to tell, and why."""
    reason = too_weak(probabilities.argmax(axis=1) == labels, labels, classes, groups)
    if reason:
        return _NONE, LabelEvidence(too_weak=reason, expected=None)
    chosen = suspects(probabilities, labels)
    if len(chosen) > MOST * len(labels):
        reason = (
            f"it would suspect {len(chosen):,} of {len(labels):,} labels, more than one in five; "
            "most of these are more likely its own mistakes"
        )
        return _NONE, LabelEvidence(too_weak=reason, expected=None)
    chosen = chosen.of(probabilities[chosen.rows].max(axis=1) >= _CLEARLY * (1 - chosen.scores))
    if not len(chosen):
        return _NONE, LabelEvidence(too_weak="", expected=None)
    expected = expect(probabilities, labels, len(chosen))
    if expected.precision < BAR:
        reason = (
            f"in trials with {counted(expected.flipped, 'label')} flipped at random, "
            f"{expected.hits:.1f} of the first {counted(expected.first, 'suspect')} were such on "
            "average, fewer than a quarter"
        )
        return _NONE, LabelEvidence(too_weak=reason, expected=expected)
    return chosen, LabelEvidence(too_weak="", expected=expected)


def too_weak(right: Bools, labels: Ints, classes: Sequence[str], groups: Ints | None = None) -> str:
    """Return why a classifier is too weak as evidence, or ``""``."""
    low, high = share(right, groups)
    counts = np.bincount(labels, minlength=len(classes))
    if low > counts.max() / len(labels):
        return ""
    return (
        f"it is right for {right.mean():.1%} of {len(labels):,} images "
        f"({low:.1%} to {high:.1%}); "
        f"always answering {classes[int(counts.argmax())]} would be right for "
        f"{counts.max() / len(labels):.1%}"
    )


def expect(probabilities: Floats, labels: Ints, count: int, *, seed: int = 0) -> ExpectedSuspects:
    """Estimate the precision of suspects on flipped labels."""
    chance = np.random.default_rng(seed)
    images, classes = probabilities.shape
    part = np.sort(chance.permutation(images)[:_IMAGES])
    answers, part_labels = probabilities[part], labels[part]
    flipped = max(1, round(FLIPPED * len(part)))
    first = min(flipped, max(1, round(count * len(part) / images)))
    hits = []
    for _ in range(max(2, min(_TRIALS, _ANSWERS // answers.size))):
        rows = chance.permutation(len(part))[:flipped]
        tried = part_labels.copy()
        tried[rows] = (part_labels[rows] + chance.integers(1, classes, flipped)) % classes
        hits.append(np.isin(suspects(answers, tried).rows[:first], rows).sum())
    mean = float(np.mean(hits))
    spoken = min(first, _SPOKEN)
    words = (
        f"Of {spoken} like these about {spoken * (mean / first):.0f} were wrong in a trial "
        f"with {counted(flipped, 'label')} flipped at random; the others were suspected "
        "without it. Real errors are harder to tell than random ones, and may be fewer."
    )
    return ExpectedSuspects(
        flipped=flipped, first=first, hits=mean, share=FLIPPED, precision=mean / first, words=words
    )


def suspects(
    probabilities: Floats, labels: Ints, *, filter_by: str = FILTER, rank_by: str = RANK
) -> SuspectedLabels:
    """Find labels that answers contradict more surely than the classifier's own mistakes explain.

    Confident learning: the mean probability of a class over the images that bear its label is
    the threshold above which an answer counts as sure; sure answers against the label estimate how
    many labels are wrong, and so many are returned. C. G. Northcutt, L. Jiang, I. Chuang,
    "Confident learning: estimating uncertainty in dataset labels", JAIR 2021; by cleanlab.
    """
    exact = probabilities.astype(np.float64)
    usable = np.isfinite(exact).all(axis=1)
    exact, kept = exact[usable], labels[usable]
    if len(np.unique(kept)) < 2:
        return _NONE
    exact /= exact.sum(axis=1, keepdims=True)
    try:
        with warnings.catch_warnings():
            # In a notebook, what it imports complains that a package of progress bars is missing.
            warnings.simplefilter("ignore")
            from cleanlab.filter import find_label_issues  # noqa: PLC0415  takes a second to load
            from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415  likewise
    except ImportError as error:
        raise MissingExtraError("suspected label errors", "evaluate") from error
    # One process: the work takes a second, and forks beside ONNX Runtime's threads can hang.
    marked = find_label_issues(kept, exact, filter_by=filter_by, n_jobs=1)
    rows = np.flatnonzero(marked & (exact.argmax(axis=1) != kept))
    if not rows.size:
        return _NONE
    quality = get_label_quality_scores(kept[rows], exact[rows], method=rank_by)
    rows = rows[np.argsort(quality, kind="stable")]
    return SuspectedLabels(
        rows=np.flatnonzero(usable)[rows],
        suggested=exact.argmax(axis=1)[rows],
        scores=(1 - exact[rows, kept[rows]]).astype(np.float32),
    )


def clear_examples(probabilities: Floats, labels: Ints, label: int, count: int = 3) -> Ints:
    """Return rows to show beside a suspect: typical images of a class, for comparison."""
    rows = np.flatnonzero((labels == label) & (probabilities.argmax(axis=1) == label))
    order = np.argsort(-probabilities[rows, label], kind="stable")
    return rows[order][:count]


def confident_mistakes(probabilities: Floats, labels: Ints, count: int = 24) -> Ints:
    """Return the rows of wrong answers, the most confident first."""
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    order = np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")
    return wrong[order][:count]


def least_confident_correct(probabilities: Floats, labels: Ints, count: int = 12) -> Ints:
    """Return the rows of right answers, the least certain first."""
    answers = probabilities.argmax(axis=1)
    hits = np.flatnonzero(answers == labels)
    return hits[np.argsort(probabilities[hits, answers[hits]], kind="stable")][:count]


@dataclass(frozen=True, eq=False)
class ConfusionCell:
    """A cell of the confusion matrix; its classes are indices."""

    actual: int
    predicted: int
    count: int
    rows: Ints


def cells_of(probabilities: Floats, labels: Ints) -> list[ConfusionCell]:
    """Return the cells of the confusion matrix with rows to show, the fullest mistakes first."""
    answers = probabilities.argmax(axis=1)
    pairs, inverse, counts = np.unique(
        np.stack([labels, answers], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    right = pairs[:, 0] == pairs[:, 1]
    order = np.lexsort((-counts, right))
    per_cell = int(np.clip(_IN_ALL // max(len(pairs), 1), _FEWEST, _MOST))
    cells = []
    for number, cell in enumerate(order):
        rows = np.flatnonzero(inverse.reshape(-1) == cell) if number < _CELLS else labels[:0]
        if right[cell]:
            rows = rows[typical_rows(len(rows), min(per_cell, 6))]
        else:
            sure = probabilities[rows, answers[rows]]
            rows = rows[np.argsort(-sure, kind="stable")][:per_cell]
        actual, predicted = (int(value) for value in pairs[cell])
        cells.append(ConfusionCell(actual, predicted, int(counts[cell]), rows))
    return cells


def check_seed(seed: int) -> None:
    """Refuse a seed that draws nothing, before anything is done."""
    if seed < 0:
        raise RecipeError(f"--seed must be 0 or more, not {seed}")


def drawn_rows(total: int, count: int = 15, *, seed: int = 0) -> Ints:
    """Return rows drawn at random, right and wrong alike."""
    chosen = np.random.default_rng(seed).permutation(total)[:count]
    return np.sort(chosen).astype(np.int64)


def typical_rows(total: int, count: int = 15) -> Ints:
    """Return evenly spaced rows."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(np.int64)
