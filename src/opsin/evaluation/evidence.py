"""Whether a classifier knows enough for its doubts to mean something, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_report import ExpectedSuspects, LabelEvidence
from opsin.core.format import counted
from opsin.evaluation.intervals import share
from opsin.evaluation.label_errors import SuspectedLabels, suspects

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
#: Most suspects that a sentence names.
_SPOKEN: Final = 20


def too_weak(
    right: NDArray[np.bool_],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    groups: NDArray[np.int64] | None = None,
) -> str:
    """Reason why answers are no evidence against anything, or ``""``."""
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


def expect(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    found: int,
    *,
    seed: int = 0,
) -> ExpectedSuspects:
    """Try on flipped labels what suspects are worth."""
    chance = np.random.default_rng(seed)
    images, classes = probabilities.shape
    part = np.sort(chance.permutation(images)[:_IMAGES])
    answers, own = probabilities[part], labels[part]
    flipped = max(1, round(FLIPPED * len(part)))
    first = min(flipped, max(1, round(found * len(part) / images)))
    hits = []
    for _ in range(max(2, min(_TRIALS, _ANSWERS // answers.size))):
        rows = chance.permutation(len(part))[:flipped]
        tried = own.copy()
        tried[rows] = (own[rows] + chance.integers(1, classes, flipped)) % classes
        hits.append(np.isin(suspects(answers, tried).rows[:first], rows).sum())
    mean = float(np.mean(hits))
    return ExpectedSuspects(
        flipped=flipped,
        first=first,
        hits=mean,
        share=FLIPPED,
        precision=mean / first,
        words=_in_words(flipped, first, mean / first),
    )


def _in_words(flipped: int, first: int, precision: float) -> str:
    """Say what to expect; never that the real suspects are so often wrong."""
    spoken = min(first, _SPOKEN)
    return (
        f"Of {spoken} like these about {spoken * precision:.0f} were wrong in a trial "
        f"with {counted(flipped, 'label')} flipped at random; the others were suspected "
        "without it. Real errors are harder to tell than random ones, and may be fewer."
    )


@dataclass(frozen=True)
class Doubts:
    """Labels that are doubted, or why nothing can be said of them.

    Args:
        suspects: Those whose label is probably wrong; none where the classifier is too weak.
        too_weak: Why it is too weak to tell, or ``""``.
        expected: What the suspects are worth; ``None`` where there are none to be judged.
    """

    suspects: SuspectedLabels
    too_weak: str
    expected: ExpectedSuspects | None

    @property
    def evidence(self) -> LabelEvidence:
        """What they rest on, as a report keeps it."""
        return LabelEvidence(too_weak=self.too_weak, expected=self.expected)


def doubt_labels(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    groups: NDArray[np.int64] | None = None,
) -> Doubts:
    """Find suspected label errors, unless the classifier is too weak to tell."""
    nothing = SuspectedLabels.none(len(labels))
    reason = too_weak(probabilities.argmax(axis=1) == labels, labels, classes, groups)
    if reason:
        return Doubts(nothing, reason, None)
    found = suspects(probabilities, labels)
    if len(found) > MOST * len(labels):
        reason = (
            f"it would suspect {len(found):,} of {len(labels):,} labels, more than one in five; "
            "most of these are more likely its own mistakes"
        )
        return Doubts(nothing, reason, None)
    clear = probabilities[found.rows].max(axis=1) >= _CLEARLY * (1 - found.scores)
    found = SuspectedLabels(
        found.rows[clear], found.suggested[clear], found.scores[clear], found.looked_at
    )
    if not len(found):
        return Doubts(found, "", None)
    expected = expect(probabilities, labels, len(found))
    if expected.precision < BAR:
        reason = (
            f"in trials with {counted(expected.flipped, 'label')} flipped at random, "
            f"{expected.hits:.1f} of the first {counted(expected.first, 'suspect')} were such on "
            "average, fewer than a quarter"
        )
        return Doubts(nothing, reason, expected)
    return Doubts(found, "", expected)
