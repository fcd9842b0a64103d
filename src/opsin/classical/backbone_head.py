"""A head for a pretrained network's features, chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import View
from opsin.classical.backbone_features import BackboneFeatures
from opsin.classical.classical_recipe import Logistic
from opsin.classical.fit import Fitted
from opsin.classical.interruptible import FitProgress
from opsin.classical.kernel_ridge import KernelRidge
from opsin.classical.linear_classifier import LinearClassifier
from opsin.classical.pixels import drawn
from opsin.classical.projection import Projection, rooted
from opsin.core.errors import MissingExtraError
from opsin.core.format import counted
from opsin.core.metadata import Calibration
from opsin.evaluation.calibration import fit_mix_power, fit_temperature, log_loss_of
from opsin.evaluation.out_of_distribution import ClassPrototypes
from opsin.evaluation.out_of_fold import Fold, folds_of
from opsin.runtime.prediction import Answers

try:
    from scipy.special import log_softmax, softmax
    from threadpoolctl import threadpool_limits
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

Kind = Literal["logistic", "kernel-ridge", "nearest-mean"]
#: Images that heads are compared on, each class at its share: more would tell the same, later.
COMPARED: Final = 1_500
# Images that a kernel is fitted to at most: time grows by their cube, and memory by their square.
_MOST: Final = 10_000
# Classes up to which logistic regression is compared: of hundreds, a fit takes minutes.
_REGRESSED: Final = 100
# Fewer images of a class, and the nearest class mean is tried as well.
_FEW: Final = 5
#: Inverse strengths; and widths of the kernel, relative to the mean squared distance of images.
_LOGISTIC: Final = (10.0, 100.0, 1000.0)
_RIDGE: Final = ((30.0, 1.0), (100.0, 1.0), (100.0, 0.5))
# The simpler head is taken where another is better by at most so many standard errors.
_TIE: Final = 0.5
# Images up to which one core does the arithmetic: threads of several wait for one another longer
# than they compute.
_ONE_CORE: Final = 5_000
# What a probability counts as at least.
_TINY: Final = 1e-30
# The least variance of points: that of equal images is 0.
_SPREAD: Final = 1e-6


@dataclass(frozen=True)
class Head:
    """A head and its settings.

    Args:
        kind: Which.
        c: Inverse strength of its regularisation.
        width: Inverse width of its kernel, relative to the images' mean squared distance.
    """

    kind: Kind
    c: float = 1.0
    width: float = 1.0

    @property
    def mix_power(self) -> float:
        """The usual `HeadChoice.mix_power`: class means do not know how common a class is."""
        return 0.0 if self.kind == "nearest-mean" else 1.0

    @property
    def words(self) -> str:
        """What it is, in a few words."""
        return {
            "logistic": f"logistic regression (C {self.c:g})",
            "kernel-ridge": f"kernel ridge (C {self.c:g}, kernel width {self.width:g})",
            "nearest-mean": "nearest class mean",
        }[self.kind]

    def fit(
        self, points: NDArray[np.float32], labels: NDArray[np.int64], *, exact: bool = True
    ) -> LinearClassifier | KernelRidge:
        """Fit it."""
        if self.kind == "nearest-mean":
            return LinearClassifier.nearest_mean(points, labels)
        if self.kind == "logistic":
            return LinearClassifier.logistic(points, labels, c=self.c)
        # The mean squared distance of any two is twice the variance.
        gamma = self.width / max(2 * float(points.var(axis=0).sum()), _SPREAD)
        precision = np.float64 if exact else np.float32
        return KernelRidge.fit(points, labels, c=self.c, gamma=gamma, precision=precision)


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
        mix_power: The power of the training images' class mix that its scores imply, about 1.
            Regularisation gives doubtful images to common classes more often than these occur.
    """

    head: Head
    at: tuple[str, ...]
    views: tuple[View, ...]
    score: float | None
    compared: int
    also: int
    mix_power: float

    def learnt(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the class mix that its scores imply, ``float64[K]``."""
        powers = shares**self.mix_power
        return np.asarray(powers / powers.sum(), np.float64)

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


class HeadSearch:
    """Chooses heads for a pretrained network's features, by cross-validation.

    Args:
        backbone: Whose features they are.
        shape: Height, width and channels of the prepared images.
        at: The values of the network that are taken, the first of ``backbone.at``.
        features: Of all images, ``float32[N, V, D]``.
        labels: ``int64[N]``
        units: Images with the same number stay on one side of each fold, ``int64[N]``.
        views: What V stands for; the whole image first.
        assumed: Share of each class that the answers are to assume, ``float64[K]``.
        wanted: The kind of head, if it was given.
        seed: Decides the folds.
        threads: How many fits run at once.
    """

    def __init__(
        self,
        backbone: Backbone,
        shape: tuple[int, int, int],
        at: tuple[str, ...],
        features: NDArray[np.float32],
        *,
        labels: NDArray[np.int64],
        units: NDArray[np.int64],
        views: tuple[View, ...],
        assumed: NDArray[np.float64],
        wanted: Kind | None,
        seed: int,
        threads: int,
    ) -> None:
        self._numbers = BackboneFeatures(backbone, shape, at, views)
        self._blocks = backbone.units[: len(at)]
        self._roots = _roots(features, self._blocks)
        self._labels, self._units, self._assumed = labels, units, assumed
        self._wanted, self._seed, self._threads = wanted, seed, threads

    def choose(
        self, train: NDArray[np.int64], val: NDArray[np.int64], progress: FitProgress
    ) -> ChosenHead:
        """Choose a head by the training images alone, and fit it."""
        own = self._labels[train]
        heads = self.candidates(own)
        choice = HeadChoice(
            heads[0], self._numbers.at, self._numbers.views, None, 0, len(val), heads[0].mix_power
        )
        calibration = None
        shown = drawn(np.arange(len(train)), own, COMPARED, self._seed)
        folds = folds_of(own[shown], self._units[train[shown]], self._seed)
        with _cores_for(train):
            points = _Points.of(self._roots, self._labels, train, val, self._blocks)
        if folds:
            trial = _Trial(points.of_rows(train[shown]), own[shown], folds, self._assumed)
            results = []
            # Each fit has a core of its own.
            with threadpool_limits(1), ThreadPoolExecutor(self._threads) as pool:
                for result in pool.map(lambda head: trial.judged(head, progress), heads):
                    results.append(result)
                    progress.add()
            best = _best(results)
            calibration = results[best].calibration
            choice = replace(
                choice,
                head=heads[best],
                score=results[best].accuracy,
                compared=len(heads),
                mix_power=results[best].mix_power,
            )
        with _cores_for(train):
            return points.fitted(choice, self._numbers, calibration, len(self._assumed))

    def answer(
        self, chosen: ChosenHead, train: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Answers:
        """Return what a head answers, as its file would."""
        fitted = chosen.final
        points = fitted.projection.of_roots(self._roots[rows])
        known = ClassPrototypes.of_images(fitted.projection.of_roots(self._roots[train]))
        shares = np.bincount(fitted.labels, minlength=len(self._assumed)) / len(fitted.labels)
        temperature = chosen.calibration.temperature if chosen.calibration else 1.0
        logits = np.log(np.maximum(fitted.probabilities(points), _TINY)) / temperature
        shift = np.log(self._assumed / chosen.choice.learnt(shares))
        probabilities = softmax(logits + shift, axis=1)
        return Answers(probabilities.astype(np.float32), known.ood_score(points))

    def candidates(self, labels: NDArray[np.int64]) -> list[Head]:
        """Return the heads to compare for images with these labels, the simplest first."""
        counts = np.bincount(labels)
        heads = []
        if counts[counts > 0].min() < _FEW or self._wanted == "nearest-mean":
            heads.append(Head("nearest-mean"))
        if len(self._assumed) <= _REGRESSED or self._wanted == "logistic":
            heads += [Head("logistic", c) for c in _LOGISTIC]
        heads += [Head("kernel-ridge", c, width) for c, width in _RIDGE]
        return [head for head in heads if self._wanted in (None, head.kind)]


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
    """Fit a head that was chosen; to a network as it is once it is fine-tuned, too."""
    blocks = backbone.units[: len(choice.at)]
    numbers = BackboneFeatures(backbone, shape, choice.at, choice.views)
    with _cores_for(train):
        points = _Points.of(_roots(features, blocks), labels, train, val, blocks)
        return points.fitted(choice, numbers, None, classes)


def _cores_for(images: NDArray[np.int64]) -> threadpool_limits:
    return threadpool_limits(1 if len(images) <= _ONE_CORE else None)


def _roots(features: NDArray[np.float32], blocks: Sequence[int]) -> NDArray[np.float32]:
    """Return the roots of the mean over views of the first features, ``float32[N, D]``."""
    return rooted(features[:, :, : sum(blocks)].mean(axis=1, dtype=np.float32), blocks)


@dataclass(frozen=True)
class _Points:
    """Training and validation images as the numbers that heads are fitted to.

    Args:
        train: Rows of the training images, in whose directions the numbers are.
        every: Rows of both, ascending.
        labels: Of these.
        points: Of these, ``float32[N, K + 1]``.
        projection: Makes them.
    """

    train: NDArray[np.int64]
    every: NDArray[np.int64]
    labels: NDArray[np.int64]
    points: NDArray[np.float32]
    projection: Projection

    @classmethod
    def of(
        cls,
        roots: NDArray[np.float32],
        labels: NDArray[np.int64],
        train: NDArray[np.int64],
        val: NDArray[np.int64],
        blocks: Sequence[int],
    ) -> _Points:
        # Of few images all components are kept: these then say no more than the images themselves.
        projection = Projection.fit(roots[train], blocks)
        every = np.sort(np.concatenate([train, val]))
        return cls(train, every, labels[every], projection.of_roots(roots[every]), projection)

    def of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.points[np.searchsorted(self.every, rows)]

    def fitted(
        self,
        choice: HeadChoice,
        numbers: BackboneFeatures,
        calibration: Calibration | None,
        classes: int,
    ) -> ChosenHead:
        def fit(rows: NDArray[np.int64]) -> Fitted:
            labels = self.labels[np.searchsorted(self.every, rows)]
            if choice.head.kind == "kernel-ridge":
                kept = drawn(np.arange(len(rows)), labels, _MOST, seed=0)
                rows, labels = rows[kept], labels[kept]
            estimator = choice.head.fit(self.of_rows(rows), labels)
            recipe = Logistic(c=choice.head.c)
            return Fitted(recipe, numbers, self.projection, estimator, labels, classes)

        held_out = fit(self.train)
        final = fit(self.every) if len(self.every) > len(self.train) else held_out
        return ChosenHead(choice, held_out, final, calibration)


@dataclass(frozen=True)
class _Judged:
    """How good a head is on images that it was not fitted to.

    Args:
        accuracy: Share of right answers.
        losses: Of each fold, the lower the better: log loss, and the mean error of the classes.
        calibration: How sure it may be.
        mix_power: As for `HeadChoice`.
    """

    accuracy: float
    losses: NDArray[np.float64]
    calibration: Calibration
    mix_power: float


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
    """Heads are tried on the same folds.

    Args:
        points: Numbers of the images that look at no label, ``float32[N, D]``.
        labels: ``int64[N]``
        folds: Where each head learns, and where it answers.
        assumed: Share of each class that the answers are to assume, ``float64[K]``.
    """

    def __init__(
        self,
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        folds: Sequence[Fold],
        assumed: NDArray[np.float64],
    ) -> None:
        self._points, self._labels = points, labels
        self._folds, self._assumed = folds, assumed
        counts = np.bincount(labels, minlength=len(assumed))
        self._own = np.maximum(counts, 1) / np.maximum(counts, 1).sum()

    def judged(self, head: Head, progress: FitProgress) -> _Judged:
        """Return how good a head is on the images that it was not fitted to."""
        logits = np.zeros((len(self._labels), len(self._assumed)))
        for train, test in self._folds:
            progress.go_on()
            fitted = head.fit(self._points[train], self._labels[train], exact=False)
            logits[test] = log_softmax(fitted.decision_function(self._points[test]), axis=1)
        tested = np.concatenate([test for _, test in self._folds])
        known, labels = logits[tested].astype(np.float32), self._labels[tested]
        power = fit_mix_power(known, labels, self._own, head.mix_power)
        shift = (1 - power) * np.log(self._own)
        temperature = fit_temperature(known, labels, shift)
        losses = (
            log_loss_of(known, labels, 1.0, shift), log_loss_of(known, labels, temperature, shift)
        )  # fmt: skip
        calibration = Calibration(temperature=temperature, images=len(labels), log_loss=losses)
        shift += np.log(self._assumed / self._own)
        answers = log_softmax(logits / temperature + shift, axis=1)
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
        return _Judged(float(accuracy), np.array(of_folds), calibration, power)
