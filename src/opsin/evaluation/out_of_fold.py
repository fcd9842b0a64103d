"""Cross-validated answers: each image by a model that has not seen it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from opsin.core.arrays import Ints
from opsin.core.errors import MissingExtraError
from opsin.data.split import labels_of_several
from opsin.runtime.prediction import Answers

#: Rows to learn from, and rows to answer.
Fold = tuple[Ints, Ints]
#: Usual folds, and those that a few images are judged in, so that each model has seen nearly all.
USUAL, MANY = 5, 10
# Images up to which there are more of them: a tenth fewer to learn from costs less than a fifth,
# and choosing a head for each fold takes seconds.
_FEW: Final = 500


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold answers."""

    rows: Ints  # the images that are in a fold, ascending, ``int64[M]``
    fold: Ints  # the number of each one's fold, from 0, ``int64[M]``
    answers: Answers


def most_folds(images: int) -> int:
    """Return the number of folds for so many images."""
    return MANY if images <= _FEW else USUAL


def folds_of(labels: Ints, units: Ints, seed: int, most: int = USUAL) -> list[Fold]:
    """Return stratified folds that keep groups together; a class of one group is in none."""
    try:
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("evaluation", "evaluate") from error
    names, counts = np.unique(labels, return_counts=True)
    several = np.isin(labels, labels_of_several(labels, units))
    single, rows = np.flatnonzero(~several), np.flatnonzero(several)
    if not len(rows):
        return []
    groups = len(np.unique(units[rows]))
    count = int(min(most, counts[np.isin(names, labels[rows])].min(), groups))
    if count < 2:
        return []
    splitter = (StratifiedGroupKFold if groups < len(rows) else StratifiedKFold)(
        count, shuffle=True, random_state=seed
    )
    folds = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have few groups
        for train, test in splitter.split(rows, labels[rows], units[rows]):
            apart = single[~np.isin(units[single], units[rows[test]])]
            learnt = np.union1d(rows[train], apart)
            if len(np.unique(labels[learnt])) == len(names) and len(test):
                folds.append((learnt, rows[test]))
    return folds


def joined_folds(fold: Ints, labels: Ints, units: Ints, seed: int) -> list[Fold]:
    """Return recorded folds, with the images that are in none yet (-1) spread over them by class.

    A new image goes where its unit is. A class of one unit is in no fold, as in `folds_of`.
    """
    _, unit = np.unique(units, return_inverse=True)
    place = np.full(int(unit.max()) + 1, -1)
    np.maximum.at(place, unit, fold)
    count, rows = int(fold.max()) + 1, np.flatnonzero(place[unit] < 0)
    several = np.isin(labels, labels_of_several(labels, unit))
    rows = rows[several[rows]]
    for at, (_, test) in enumerate(folds_of(labels[rows], units[rows], seed, count)):
        place[unit[rows[test]]] = at
    number, whole = place[unit], len(np.unique(labels))
    folds = [
        (np.flatnonzero(number != n), np.flatnonzero(several & (number == n))) for n in range(count)
    ]
    return [
        (train, test)
        for train, test in folds
        if len(test) and len(np.unique(labels[train])) == whole
    ]


def out_of_fold(folds: Sequence[Fold], answer: Callable[[Ints, Ints], Answers]) -> OutOfFold:
    """Answer each fold by a model trained on the others.

    Everything that looks at labels has to be chosen by ``answer`` anew, or the figures would be
    those of models that were chosen by the very images that judge them (S. Varma and R. Simon,
    "Bias in error estimation when using cross-validation for model selection", BMC Bioinformatics
    2006).
    """
    parts = [answer(train, test) for train, test in folds]
    rows = np.concatenate([test for _, test in folds])
    numbers = np.repeat(np.arange(len(folds)), [len(test) for _, test in folds])
    order = np.argsort(rows)
    scores = [part.ood_score for part in parts if part.ood_score is not None]
    every = Answers(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate(scores) if scores else None,
    )
    return OutOfFold(rows[order], numbers[order], every.of(order))
