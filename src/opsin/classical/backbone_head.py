"""A head for a pretrained network's features, chosen by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import View
from opsin.classical.backbone_features import BackboneFeatures
from opsin.classical.classical_recipe import Logistic
from opsin.classical.fit import Fitted
from opsin.classical.interruptible import FitProgress
from opsin.classical.kernel_ridge import KernelRidge, solved
from opsin.classical.nearest_mean import NearestMean
from opsin.classical.pixels import drawn
from opsin.classical.projection import Projection, rooted
from opsin.core.errors import MissingExtraError
from opsin.core.format import counted
from opsin.core.metadata import Calibration
from opsin.evaluation.calibration import fit_temperature, log_loss_of
from opsin.evaluation.out_of_fold import Fold, folds_of
from opsin.evaluation.reject import ClassPrototypes
from opsin.runtime.classifier import Answers

try:
    from scipy.special import log_softmax, softmax
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

Kind = Literal["logistic", "kernel-ridge", "nearest-mean"]
# Images that heads are compared on, each class at its share: more would tell the same, later.
_COMPARED: Final = 1_500
# Images that a kernel is fitted to at most: time grows by their cube, and memory by their square.
_MOST: Final = 10_000
# Training images up to which all depths are taken.
_DEEP: Final = 20_000
# Ratio of the largest class to the smallest from which on classes count as uneven.
_UNEVEN: Final = 1.5
# Classes up to which logistic regression is compared: of hundreds, a fit takes minutes.
_REGRESSED: Final = 100
# Fewer images of a class, and the nearest class mean is tried as well.
_FEW: Final = 5
#: Inverse strengths; and widths of the kernel, relative to the mean squared distance of images.
_LOGISTIC: Final = (10.0, 100.0, 1000.0)
_RIDGE: Final = ((30.0, 1.0), (100.0, 1.0), (100.0, 0.5))
# The simpler head is taken where another is better by at most so many standard errors.
_TIE: Final = 0.5
_ITERATIONS: Final = 200
# What a probability counts as at least.
_TINY: Final = 1e-30
# Makes the products of images with copies among them invertible.
_JITTER: Final = 1e-6


@dataclass(frozen=True)
class Head:
    """A head and its settings.

    Args:
        kind: Which.
        c: Inverse strength of its regularisation.
        width: Inverse width of its kernel, relative to the images' mean squared distance.
        weighted: Whether rare classes count as much as common ones.
    """

    kind: Kind
    c: float = 1.0
    width: float = 1.0
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
            "nearest-mean": "nearest class mean",
        }[self.kind]
        return f"{kind}, each class counts the same" if self.weighted else kind


#: What fine-tuning begins with.
START: Final = Head("logistic", 100.0)


@dataclass(frozen=True)
class HeadChoice:
    """The head that was chosen, on which features.

    Args:
        head: Which, with its settings.
        at: The values of the network.
        views: How an image is looked at.
        score: Its accuracy in cross-validation; ``None`` where there were too few images or groups
            to tell heads apart.
        compared: How many heads were compared.
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
class ChosenHead:
    """The best head for some features, as it is before and after it learns from all images.

    Args:
        choice: What was chosen, and why.
        held_out: Fitted to the training images alone: what validation images measure.
        final: Fitted to the validation images as well, with the same settings.
        calibration: How sure it may be, by the images that it had not seen in cross-validation.
    """

    choice: HeadChoice
    held_out: Fitted
    final: Fitted
    calibration: Calibration | None = None


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
    """Choose a head by cross-validation on training images alone, and fit it.

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
    at = backbone.at if named or len(train) <= _DEEP else backbone.at[:1]
    blocks = backbone.units[: len(at)]
    own = labels[train]
    heads = _candidates(own, len(assumed), wanted)
    chosen, score, compared, calibration = heads[0], None, 0, None
    shown = drawn(np.arange(len(train)), own, _COMPARED, seed)
    folds = folds_of(own[shown], units[train[shown]], seed)
    if folds:
        roots = rooted(_mean(features[train[shown]], blocks), blocks)
        trial = _Trial(roots, own[shown], folds, assumed)
        # Each fit has a core of its own: threads of several would wait for one another.
        with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
            results = []
            for result in pool.map(lambda head: trial.judged(head, progress), heads):
                results.append(result)
                progress.add()
        best = _best(results)
        chosen, score, compared = heads[best], results[best].accuracy, len(heads)
        calibration = results[best].calibration
    choice = HeadChoice(chosen, at, views, score, compared, len(val))
    fitted = fit_as(
        choice, backbone, shape, features, labels, train=train, val=val, classes=len(assumed)
    )
    return replace(fitted, calibration=calibration)


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
) -> ChosenHead:
    """Fit a head that was chosen; to a network as it is once it is fine-tuned, too.

    To choose anew could only mislead: a fine-tuned network has its own training images nearly all
    right, whatever the head.

    Args:
        choice: What was chosen.
        backbone: The network, with the same values and views.
        shape: Height, width and channels of the prepared images.
        features: Of all images, ``float32[N, V, D]``.
        labels: ``int64[N]``
        train: Rows of the training images.
        val: Rows of the validation images that the final head also learns from.
        classes: K.
    """
    blocks = backbone.units[: len(choice.at)]
    every = np.sort(np.concatenate([train, val]))
    roots = rooted(_mean(features[every], blocks), blocks)
    numbers = BackboneFeatures(backbone, shape, choice.at, choice.views)
    # Of few images all components are kept: these then say no more than the images themselves.
    projection = Projection.fit(roots[np.isin(every, train)], blocks)
    points = projection.of_roots(roots)

    def fitted(rows: NDArray[np.int64]) -> Fitted:
        if choice.head.kind == "kernel-ridge":
            rows = drawn(rows, labels[rows], _MOST, seed=0)
        estimator = _fitted(choice.head, points[np.searchsorted(every, rows)], labels[rows])
        recipe = Logistic(c=choice.head.c)
        return Fitted(recipe, numbers, projection, estimator, labels[rows], classes)

    held_out = fitted(train)
    return ChosenHead(choice, held_out, fitted(every) if len(val) else held_out)


def answers_of(
    chosen: ChosenHead,
    features: NDArray[np.float32],
    train: NDArray[np.int64],
    rows: NDArray[np.int64],
    assumed: NDArray[np.float64],
) -> Answers:
    """Return what a head answers, as its file would.

    Args:
        chosen: The head.
        features: Of all images, ``float32[N, V, D]``.
        train: Rows that it was fitted to.
        rows: Rows to answer.
        assumed: Share of each class that the answers are to assume, ``float64[K]``.
    """
    fitted = chosen.final
    blocks = fitted.projection.blocks
    points = fitted.projection.transform(_mean(features[rows], blocks))
    known = ClassPrototypes.of_images(fitted.projection.transform(_mean(features[train], blocks)))
    shares = np.bincount(fitted.labels, minlength=len(assumed)) / len(fitted.labels)
    learnt = np.full_like(shares, 1 / len(shares)) if chosen.choice.head.balanced else shares
    temperature = chosen.calibration.temperature if chosen.calibration else 1.0
    logits = np.log(np.maximum(fitted.probabilities(points), _TINY)) / temperature
    probabilities = softmax(logits + np.log(assumed / learnt), axis=1)
    return Answers(probabilities.astype(np.float32), known.ood_score(points))


def work_of(labels: NDArray[np.int64], classes: int, wanted: Kind | None) -> int:
    """Return how many heads a choice compares."""
    return len(_candidates(labels, classes, wanted))


def _mean(features: NDArray[np.float32], blocks: Sequence[int]) -> NDArray[np.float32]:
    """Return the mean over views of the first features, ``float32[N, D]``."""
    mean: NDArray[np.float32] = features[:, :, : sum(blocks)].mean(axis=1, dtype=np.float32)
    return mean


def _candidates(labels: NDArray[np.int64], classes: int, wanted: Kind | None) -> list[Head]:
    """Return the heads to compare, the simplest first."""
    counts = np.bincount(labels, minlength=classes)
    counts = counts[counts > 0]
    uneven = counts.max() > _UNEVEN * counts.min()
    quick = classes <= _REGRESSED or wanted == "logistic"
    heads = []
    for weighted in (False, True) if uneven else (False,):
        heads += [Head("logistic", c, weighted=weighted) for c in _LOGISTIC if quick]
        heads += [Head("kernel-ridge", c, width, weighted) for c, width in _RIDGE]
    if counts.min() < _FEW or wanted == "nearest-mean":
        heads.insert(0, Head("nearest-mean"))
    return [head for head in heads if wanted in (None, head.kind)]


@dataclass(frozen=True)
class _Judged:
    """How good a head is on images that it was not fitted to.

    Args:
        accuracy: Share of right answers.
        losses: Of each fold, the lower the better: log loss, and the mean error of the classes.
        calibration: How sure it may be.
    """

    accuracy: float
    losses: NDArray[np.float64]
    calibration: Calibration


def _best(results: Sequence[_Judged]) -> int:
    """Return the place of the best, or of the first that is not clearly worse."""
    means = [result.losses.mean() for result in results]
    best = int(np.argmin(means))
    for place, result in enumerate(results[:best]):
        apart = result.losses - results[best].losses
        error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
        if apart.mean() <= _TIE * error:
            return place
    return best


class _Trial:
    """Heads are tried on the same folds, and need nothing but the products of images.

    So no components are fitted that one fold could see of another.
    """

    def __init__(
        self,
        roots: NDArray[np.float32],
        labels: NDArray[np.int64],
        folds: Sequence[Fold],
        assumed: NDArray[np.float64],
    ) -> None:
        exact = roots.astype(np.float64)
        self._products = exact @ exact.T
        self._labels, self._folds, self._assumed = labels, folds, assumed
        counts = np.bincount(labels, minlength=len(assumed))
        self._own = np.maximum(counts, 1) / np.maximum(counts, 1).sum()

    def judged(self, head: Head, progress: FitProgress) -> _Judged:
        """Return how good a head is on the images that it was not fitted to."""
        logits = np.zeros((len(self._labels), len(self._assumed)))
        for train, test in self._folds:
            progress.go_on()
            logits[test] = self._scores(head, train, test)
        tested = np.concatenate([test for _, test in self._folds])
        learnt = np.full(len(self._own), 1 / len(self._own)) if head.balanced else self._own
        shift = np.log(self._own / learnt)
        known, labels = logits[tested].astype(np.float32), self._labels[tested]
        temperature = fit_temperature(known, labels, shift)
        losses = (
            log_loss_of(known, labels, 1.0, shift), log_loss_of(known, labels, temperature, shift)
        )  # fmt: skip
        calibration = Calibration(temperature=temperature, images=len(labels), log_loss=losses)
        answers = log_softmax(logits / temperature + np.log(self._assumed / learnt), axis=1)
        right = answers.argmax(axis=1) == self._labels
        likelihood = answers[np.arange(len(answers)), self._labels]
        # As often as they would come.
        weights = (self._assumed / self._own)[self._labels]
        of_folds = []
        for _, test in self._folds:
            loss = -np.average(likelihood[test], weights=weights[test])
            recalls = [
                right[test][self._labels[test] == label].mean()
                for label in np.unique(self._labels[test])
            ]
            of_folds.append(loss + 1 - np.mean(recalls))
        accuracy = np.average(right[tested], weights=weights[tested])
        return _Judged(float(accuracy), np.array(of_folds), calibration)

    def _scores(
        self, head: Head, train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        known, asked = self._products[np.ix_(train, train)], self._products[np.ix_(test, train)]
        labels = self._labels[train]
        if head.kind == "kernel-ridge":
            # Of rows of length 1 the squared distance is 2 less twice the product.
            gamma = head.width / max(2 - 2 * float(known.mean()), _JITTER)
            known, asked = (np.exp(-gamma * (2 - 2 * each)) for each in (known, asked))
            coefficients, bias = solved(known, labels, c=head.c, weighted=head.weighted)
            return np.asarray(asked @ coefficients + bias)
        # Coordinates whose products these are.
        factor = cholesky(known + _JITTER * np.eye(len(known)), lower=True)
        points = solve_triangular(factor, asked.T, lower=True).T
        answers = _fitted(head, factor, labels).predict_proba(points)
        return np.asarray(np.log(np.maximum(answers, _TINY)))


def _fitted(head: Head, points: NDArray[Any], labels: NDArray[np.int64]) -> Any:
    if head.kind == "nearest-mean":
        return NearestMean.fit(points, labels)
    if head.kind == "kernel-ridge":
        # The mean squared distance of any two is twice the variance.
        gamma = head.width / max(2 * float(points.var(axis=0).sum()), _JITTER)
        return KernelRidge.fit(points, labels, c=head.c, gamma=gamma, weighted=head.weighted)
    weights = "balanced" if head.weighted else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=head.c, class_weight=weights, max_iter=_ITERATIONS, tol=1e-3)
        return model.fit(points, labels)
