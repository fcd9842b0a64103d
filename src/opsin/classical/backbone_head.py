"""A head for a pretrained network's features, chosen by cross-validation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import View
from opsin.classical.backbone_features import BackboneFeatures
from opsin.classical.classical_recipe import Logistic, Svm
from opsin.classical.fit import KEPT, Fitted
from opsin.classical.interruptible import FitProgress
from opsin.classical.kernel_ridge import KernelRidge, solved, squared_distances
from opsin.classical.pixels import drawn
from opsin.classical.projection import Projection
from opsin.core.errors import MissingExtraError
from opsin.core.format import counted
from opsin.evaluation.calibration import fit_temperature

try:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    from sklearn.svm import SVC
    from threadpoolctl import threadpool_limits
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

Kind = Literal["logistic", "kernel-ridge", "svm", "nearest-mean"]
#: Fewer images than this of a class, and the nearest class mean is tried as well.
_FEW: Final = 5
_FOLDS: Final = 5
# Images that heads are compared on: more would tell the same, later.
_COMPARED: Final = 3_000
# Ratio of the largest class to the smallest from which on classes count as unbalanced.
_UNBALANCED: Final = 1.5
_FIRST_C: Final[dict[Kind, float]] = {
    "logistic": 3.0, "kernel-ridge": 30.0, "svm": 10.0, "nearest-mean": 1.0
}  # fmt: skip
_STRENGTHS: Final[dict[Kind, tuple[float, ...]]] = {
    "logistic": (0.3, 3.0, 30.0),
    "kernel-ridge": (10.0, 30.0, 100.0),
    "svm": (3.0, 10.0, 30.0),
}
# Training images up to which the size of a head does not matter.
_SMALL: Final = 1_000
# With fewer images of a class depths do not help, and chance decides which head seems best: the
# last features alone are taken, and the usual head where no other is clearly better.
_FOR_CHOICE: Final = 15
# Training images up to which a regression over all of them is quick, and the file small.
_ALL: Final = 6_000
# Images that kernels are fitted to at most, each class at its share: time grows by their cube, and
# memory by their square.
_MOST: Final[dict[Kind, int]] = {"kernel-ridge": 10_000, "svm": 20_000}
_WIDTHS: Final = (0.25, 0.5, 1.0)
# The smaller of two heads is taken where they differ by at most this share of a standard error.
_EQUAL: Final = 0.5
_ITERATIONS: Final = 100
# Folds that features are compared on; heads are compared on all of them.
_FIRST: Final = 3


@dataclass(frozen=True)
class Head:
    """A head and its settings.

    Args:
        kind: Which.
        c: Inverse strength of its regularisation.
        width: Of the kernel, relative to the usual one.
        weighted: Whether rare classes count as much as common ones.
    """

    kind: Kind
    c: float = 1.0
    width: float = 0.5
    weighted: bool = False

    @property
    def balanced(self) -> bool:
        """Whether each class counts the same: class means know nothing of how common it is."""
        return self.weighted or self.kind == "nearest-mean"

    @property
    def words(self) -> str:
        """What it is, in a few words."""
        kind = {
            "logistic": f"logistic regression (C {self.c:g})",
            "kernel-ridge": f"kernel ridge (C {self.c:g}, kernel width {self.width:g})",
            "svm": f"support vector machine (C {self.c:g}, kernel width {self.width:g})",
            "nearest-mean": "nearest class mean",
        }[self.kind]
        return f"{kind}, each class counts the same" if self.weighted else kind


# Best of few images, on the average of many draws of them.
_USUAL: Final = Head("kernel-ridge", 30.0, 1.0)


@dataclass(frozen=True)
class HeadChoice:
    """The head that was chosen, on which features.

    Args:
        head: Which, with its settings.
        at: The values of the network.
        views: How an image is looked at.
        score: Its mean accuracy in cross-validation; unbalanced classes count half by images and
            half by classes. ``None`` where there were too few images to tell heads apart.
        compared: How many heads and features were compared.
        also: Validation images that the chosen head was then fitted to as well.
    """

    head: Head
    at: tuple[str, ...]
    views: tuple[View, ...]
    score: float | None
    compared: int
    also: int

    @property
    def words(self) -> str:
        """What was chosen, and why."""
        if self.score is None:
            why = "the usual one: there are too few images, or groups, to tell heads apart"
        else:
            why = (
                f"the best of {self.compared} by cross-validation on the training images "
                f"({self.score:.1%} right)"
            )
        more = f"; then fitted to the {counted(self.also, 'validation image')} as well"
        return f"{self.head.words}: {why}{more if self.also else ''}"


@dataclass(frozen=True)
class _Scores:
    """Scores of one head, one for each fold, ``float64[F]``."""

    folds: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Over the folds."""
        return float(self.folds.mean())

    def equals(self, other: _Scores) -> bool:
        """Tell whether the difference from another head on the same folds may be chance.

        A single fold says nothing about chance: all are equal.
        """
        apart = self.folds - other.folds
        if len(apart) < 2:
            return True
        error = float(apart.std(ddof=1)) / math.sqrt(len(apart))
        return abs(float(apart.mean())) <= _EQUAL * error


@dataclass(frozen=True)
class ChosenHead:
    """The best head for some features, as it is before and after it learns from all images.

    Args:
        choice: What was chosen, and why.
        held_out: Fitted to the training images alone: what validation images measure.
        final: Fitted to the validation images as well, with the same settings.
    """

    choice: HeadChoice
    held_out: Fitted
    final: Fitted


def choose_head(
    backbone: Backbone,
    shape: tuple[int, int, int],
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    units: NDArray[np.int64],
    *,
    train: NDArray[np.int64],
    val: NDArray[np.int64],
    views: tuple[View, ...],
    assumed: NDArray[np.float64],
    wanted: Kind | None,
    named: bool,
    seed: int,
    threads: int,
    progress: FitProgress,
) -> ChosenHead:
    """Choose features and head by cross-validation on training images alone, and fit it.

    Args:
        backbone: Whose features they are.
        shape: Height, width and channels of the prepared images.
        features: Of all images, ``float32[N, V, D]``.
        labels: ``int64[N]``
        units: Images with the same number stay on one side of each fold, ``int64[N]``.
        train: Rows of the training images.
        val: Rows of the validation images that the final head also learns from.
        views: What V stands for; the whole image first.
        assumed: Share of each class that the answers are to assume, ``float64[K]``.
        wanted: The kind of head, if it was given.
        named: Whether the backbone's values were named, so that all of them are taken.
        seed: Decides the folds.
        threads: How many fits run at once.
        progress: Gets how far it is.
    """
    own, classes = labels[train], len(assumed)
    folds = _folds(own, units[train], seed)
    few = len(train) < _FOR_CHOICE * classes
    kernels = wanted in (None, "kernel-ridge", "svm")

    def folds_of(
        design: _Design, rows: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
    ) -> list[_Fold]:
        numbers = design.of(features[train])
        return [_Fold.of(design, numbers, own, each, seed, kernels=kernels) for each in rows]

    def scored(design: _Design) -> tuple[_Design, _Trial, _Scores]:
        progress.go_on()
        kind = wanted or _quick(train)
        trial = _Trial(folds_of(design, folds[:_FIRST]), own, assumed)
        scores = trial.scores(Head(kind, _FIRST_C[kind]))
        progress.add()
        return design, trial, scores

    # With enough images depths usually help, and cost nothing: they are left out for a reason only.
    counts = [len(backbone.at)] if named else sorted({1} if few else {1, len(backbone.at)})[::-1]
    designs = [_Design(backbone, shape, count, views[:1]) for count in counts]
    if len(views) > 1:  # beside the others, on the first of them, which mostly is the best
        designs.append(_Design(backbone, shape, counts[0], views))
    score, compared = None, 0
    # Each fit has a core of its own: threads of several would wait for one another.
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        if folds:
            tried = list(pool.map(scored, designs))
            best = _best(tried[: len(counts)])
            if len(views) > 1:
                if best[0].count != counts[0]:
                    tried.append(scored(_Design(backbone, shape, best[0].count, views)))
                best = _best([best, tried[-1]])
            design, trial, _ = best
            compared = len(tried)
            del tried, best
            more = pool.map(lambda rows: folds_of(design, [rows]), folds[_FIRST:])
            trial.folds += [fold for each in more for fold in each]
            head, score, count = _best_head(trial, wanted, own, pool, progress, few=few)
            compared += count
        else:
            design = designs[0]
            kind = wanted or ("nearest-mean" if few else _quick(train))
            head = Head(kind, _FIRST_C[kind])
        choice = HeadChoice(head, design.at, design.views, score, compared, len(val))
        points = _Points.of(design, features, train, seed)
        return _fitted_twice(choice, points, labels, train=train, val=val, classes=classes)


def _quick(train: NDArray[np.int64]) -> Kind:
    """Return which head is quick to fit to so many images, and mostly good."""
    return "kernel-ridge" if len(train) <= _ALL else "svm"


def fit_as(
    choice: HeadChoice,
    backbone: Backbone,
    shape: tuple[int, int, int],
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    train: NDArray[np.int64],
    val: NDArray[np.int64],
    classes: int,
    seed: int,
) -> ChosenHead:
    """Fit a head that was chosen to a network's features as they are once it is fine-tuned.

    To choose anew could only mislead: a network has its own training images nearly all right,
    whatever the head.

    Args:
        choice: What was chosen.
        backbone: The network that was fine-tuned, with the same values and views.
        shape: Height, width and channels of the prepared images.
        features: Of all images, ``float32[N, V, D]``.
        labels: ``int64[N]``
        train: Rows of the training images.
        val: Rows of the validation images that the final head also learns from.
        classes: K.
        seed: Decides the components, as for `choose_head`.
    """
    design = _Design(backbone, shape, len(choice.at), choice.views)
    points = _Points.of(design, features, train, seed)
    return _fitted_twice(choice, points, labels, train=train, val=val, classes=classes)


def _fitted_twice(
    choice: HeadChoice,
    points: _Points,
    labels: NDArray[np.int64],
    *,
    train: NDArray[np.int64],
    val: NDArray[np.int64],
    classes: int,
) -> ChosenHead:
    """Fit a head to the training images, and to the validation images as well."""
    held_out = final = points.fitted(choice.head, train, labels, classes)
    if len(val):
        every = np.sort(np.concatenate([train, val]))
        final = points.fitted(choice.head, every, labels, classes)
    return ChosenHead(choice, held_out, final)


@dataclass(frozen=True)
class _Points:
    """All images as a head sees them, ``float32[N, K]``."""

    design: _Design
    projection: Projection
    values: NDArray[np.float32]

    @classmethod
    def of(
        cls, design: _Design, features: NDArray[np.float32], rows: NDArray[np.int64], seed: int
    ) -> _Points:
        """Find the components of the training images, and return those of all."""
        numbers = design.of(features)
        projection = Projection.fit(numbers[rows], seed, design.sizes)
        return cls(design, projection, projection.transform(numbers))

    def fitted(
        self, head: Head, rows: NDArray[np.int64], labels: NDArray[np.int64], classes: int
    ) -> Fitted:
        """Fit a head to some of the images."""
        if (most := _MOST.get(head.kind)) is not None:
            rows = drawn(rows, labels[rows], most, seed=0)
        design = self.design
        numbers = BackboneFeatures(design.backbone, design.shape, design.at, design.views)
        recipe = Svm(c=head.c) if head.kind == "svm" else Logistic(c=max(head.c, 1e-6))
        estimator = _fitted(head, self.values[rows], labels[rows])
        return Fitted(recipe, numbers, self.projection, estimator, labels[rows], classes)


def _best(
    tried: Sequence[tuple[_Design, _Trial, _Scores]],
) -> tuple[_Design, _Trial, _Scores]:
    """Return the best of some features, the first of equals."""
    best = tried[0]
    for other in tried[1:]:
        if not best[2].equals(other[2]) and other[2].mean > best[2].mean:
            best = other
    return best


@dataclass(frozen=True)
class _Design:
    """Which of the features are used: the values of so many depths, in some views."""

    backbone: Backbone
    shape: tuple[int, int, int]
    count: int
    views: tuple[View, ...]

    @property
    def at(self) -> tuple[str, ...]:
        """The values' names."""
        return self.backbone.at[: self.count]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each of them has."""
        return self.backbone.units[: self.count]

    def of(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return them, the mean over views, ``float32[N, D]``."""
        part = features[:, : len(self.views), : sum(self.sizes)]
        mean: NDArray[np.float32] = part.mean(axis=1, dtype=np.float32)
        return mean


def _folds(
    labels: NDArray[np.int64], units: NDArray[np.int64], seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return folds that keep groups together; none where there are too few images or groups.

    The only image of a class is learnt from in each fold, and tested in none.
    """
    rows = drawn(np.arange(len(labels)), labels, _COMPARED, seed)
    names, counts = np.unique(labels[rows], return_counts=True)
    alone = np.isin(labels[rows], names[counts < 2])
    single, rows = rows[alone], rows[~alone]
    if not len(rows):
        return []
    groups = len(np.unique(units[rows]))
    count = int(min(_FOLDS, counts[counts > 1].min(), groups))
    if count < 2:
        return []
    grouped = groups < len(rows)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(
        count, shuffle=True, random_state=seed
    )
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have few groups
        for train, test in splitter.split(rows, labels[rows], units[rows]):
            learnt = np.union1d(rows[train], single)
            if len(np.unique(labels[learnt])) == len(counts) and len(test):
                found.append((learnt, rows[test]))
    return found


@dataclass(frozen=True)
class _Fold:
    """What heads are fitted to, and what they then answer, by the components of the former.

    Args:
        known: ``float32[N, D]``
        known_labels: ``int64[N]``
        asked: ``float32[M, D]``
        labels: Of the latter, ``int64[M]``.
        gamma: The kernel's usual width.
        distances: Squared, among the former and from the latter to these, where they are needed.
    """

    known: NDArray[np.float32]
    known_labels: NDArray[np.int64]
    asked: NDArray[np.float32]
    labels: NDArray[np.int64]
    gamma: float
    distances: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(
        cls,
        design: _Design,
        numbers: NDArray[np.float32],
        labels: NDArray[np.int64],
        rows: tuple[NDArray[np.int64], NDArray[np.int64]],
        seed: int,
        *,
        kernels: bool,
    ) -> _Fold:
        """Find the components of what is known, and whatever all heads share."""
        train, test = rows
        projection = Projection.fit(numbers[train], seed, design.sizes)
        known, asked = (projection.transform(numbers[each]) for each in rows)
        distances: tuple[NDArray[np.float32], ...] = ()
        if kernels:  # single precision tells heads apart as well, in half the time
            distances = tuple(
                squared_distances(each, known).astype(np.float32) for each in (known, asked)
            )
        return cls(known, labels[train], asked, labels[test], gamma_of(known), distances)

    def logits(self, head: Head) -> NDArray[np.float64]:
        """Return what a head says of images that it was not fitted to, ``float64[M, K]``."""
        labels = self.known_labels
        if head.kind == "logistic":
            return _scores_of(_fitted(head, self.known, labels), self.asked)
        if head.kind == "nearest-mean":
            return NearestMean.fit(self.known, labels).decision_function(self.asked)
        own, across = (np.exp(-self.gamma * head.width * each) for each in self.distances)
        if head.kind == "kernel-ridge":
            coefficients, bias = solved(own, labels, c=head.c, weighted=head.weighted)
            return np.asarray(across @ coefficients + bias, np.float64)
        weights = "balanced" if head.weighted else None
        machine = SVC(
            C=head.c, kernel="precomputed", class_weight=weights, cache_size=KEPT, break_ties=True
        )
        return _scores_of(machine.fit(own, labels), across)


def _scores_of(estimator: Any, points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a score for each class, also where scikit-learn has one for two of them."""
    scores = np.asarray(estimator.decision_function(points), np.float64)
    return np.stack([-scores / 2, scores / 2], axis=1) if scores.ndim == 1 else scores


class _Trial:
    """Heads are tried on the same folds, by the answers that their files would give.

    Args:
        folds: On which.
        labels: Of all training images, ``int64[N]``.
        assumed: Share of each class that the answers are to assume, ``float64[K]``.
    """

    def __init__(
        self, folds: list[_Fold], labels: NDArray[np.int64], assumed: NDArray[np.float64]
    ) -> None:
        self.folds = folds
        counts = np.bincount(labels, minlength=len(assumed))
        self.unbalanced = bool(counts.max() > _UNBALANCED * counts.min())
        self._shares, self._assumed = counts / counts.sum(), assumed

    def scores(self, head: Head) -> _Scores:
        """Return how well a head does on images that it was not fitted to."""
        logits = [fold.logits(head) for fold in self.folds]
        learnt = 1 / len(self._shares) if head.balanced else self._shares
        mix = np.log(self._assumed) - np.log(learnt)
        if np.ptp(mix) > 1e-9:
            labels = np.concatenate([fold.labels for fold in self.folds])
            own = np.log(self._shares) - np.log(learnt)
            temperature = fit_temperature(np.concatenate(logits), labels, own)
            logits = [each / temperature + mix for each in logits]
        answers = [each.argmax(axis=1) for each in logits]
        return _Scores(np.array(list(map(self._score, answers, self.folds))))

    def _score(self, answers: NDArray[np.int64], fold: _Fold) -> float:
        right = float((answers == fold.labels).mean())
        if not self.unbalanced:
            return right
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class may be missing from a fold
            return (right + float(balanced_accuracy_score(fold.labels, answers))) / 2


def _best_head(
    trial: _Trial,
    wanted: Kind | None,
    labels: NDArray[np.int64],
    pool: ThreadPoolExecutor,
    progress: FitProgress,
    *,
    few: bool,
) -> tuple[Head, float | None, int]:
    """Return the best head, the smaller of equals, with its score and how many were tried.

    Of few images it is the usual one, without a score, but where another is clearly better.
    """
    tried: dict[Head, _Scores] = {}

    def scored(head: Head) -> _Scores:
        progress.go_on()
        return trial.scores(head)

    def try_all(heads: Sequence[Head]) -> None:
        fresh = [head for head in dict.fromkeys(heads) if head not in tried]
        for head, scores in zip(fresh, pool.map(scored, fresh), strict=True):
            tried[head] = scores
            progress.add()

    rare = np.unique(labels, return_counts=True)[1].min() < _FEW
    if wanted == "nearest-mean" or (wanted is None and rare):
        try_all([Head("nearest-mean")])
    plain = replace(_USUAL, weighted=trial.unbalanced)
    if wanted is None and few:
        try_all([plain])
    usual = {"logistic", "kernel-ridge" if len(labels) <= _ALL else "svm"}
    for kind, strengths in _STRENGTHS.items():
        if kind in (usual if wanted is None else {wanted}):
            try_all([Head(kind, c) for c in strengths])
            best = max((head for head in tried if head.kind == kind), key=lambda h: tried[h].mean)
            if kind != "logistic":
                variants = [Head(kind, best.c, width) for width in _WIDTHS]
                try_all(variants)
                best = max(variants, key=lambda h: tried[h].mean)
            if trial.unbalanced:
                try_all([Head(best.kind, best.c, best.width, weighted=True)])
    ranked = sorted(tried, key=lambda head: -tried[head].mean)
    top = tried[ranked[0]]
    if wanted is None and few:
        # Folds of a handful of images say nothing about their own error.
        mean = tried[plain].mean
        if top.mean <= mean + math.sqrt(mean * (1 - mean) / len(labels)):
            return plain, None, len(tried)
    # Of few images even a head that keeps them all is small: the best one is taken.
    kept = 1 if len(labels) > _SMALL else 0
    size = {"logistic": 0, "nearest-mean": 0, "kernel-ridge": kept, "svm": kept}
    equal = [h for h in ranked if tried[h].equals(top)]
    smallest = min(size[head.kind] for head in equal)
    head = next(head for head in equal if size[head.kind] == smallest)
    return head, tried[head].mean, len(tried)


def gamma_of(points: NDArray[np.float32]) -> float:
    """Return the kernel's usual width for some points: scikit-learn's "scale"."""
    variance = float(points.var(dtype=np.float64))
    return 1 / (points.shape[1] * variance) if variance else 1.0


def _fitted(head: Head, points: NDArray[np.float32], labels: NDArray[np.int64]) -> Any:
    weights = "balanced" if head.weighted else None
    if head.kind == "nearest-mean":
        return NearestMean.fit(points, labels)
    gamma = head.width * gamma_of(points)
    if head.kind == "kernel-ridge":
        return KernelRidge.fit(points, labels, c=head.c, gamma=gamma, weighted=head.weighted)
    if head.kind == "svm":
        machine = SVC(C=head.c, gamma=gamma, class_weight=weights, cache_size=KEPT, break_ties=True)
        return machine.fit(points, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=head.c, class_weight=weights, max_iter=_ITERATIONS, tol=1e-3)
        return model.fit(points, labels)


@dataclass(frozen=True)
class NearestMean:
    """The nearest class mean, as a linear classifier: its logits are half squared distances.

    Args:
        coef_: ``float64[K, D]``
        intercept_: ``float64[K]``
    """

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    @classmethod
    def fit(cls, points: NDArray[np.float32], labels: NDArray[np.int64]) -> NearestMean:
        """Take the mean of each class, distances in units of the points' own spread."""
        means = np.stack([
            points[labels == label].mean(axis=0, dtype=np.float64) for label in np.unique(labels)
        ])  # fmt: skip
        scale = float(points.var(dtype=np.float64) * points.shape[1]) or 1.0
        return cls(means / scale, -(means**2).sum(axis=1) / (2 * scale))

    def predict(self, points: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the class of each point, ``int64[N]``."""
        return np.asarray(self.predict_proba(points).argmax(axis=1), np.int64)

    def predict_proba(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the softmax of the logits, ``float64[N, K]``."""
        answers: NDArray[np.float64] = softmax(self.decision_function(points), axis=1)
        return answers

    def decision_function(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits, ``float64[N, K]``."""
        logits: NDArray[np.float64] = points @ self.coef_.T + self.intercept_
        return logits


def work_of(backbone: Backbone, views: tuple[View, ...]) -> int:
    """Return about how many fits a choice takes."""
    return len({1, len(backbone.at)}) + (len(views) > 1) + 9
