"""A pretrained network's features, and a head for them, chosen by cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, NamedTuple

import numpy as np
from onnxruntime import InferenceSession

from opsin._version import __version__
from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import FeatureGraph, View, layer_table
from opsin.backbones.features import room_for
from opsin.classical.classical_recipe import Logistic
from opsin.classical.fit import FitProgress, Fitted, drawn
from opsin.classical.heads import KernelRidge, LinearClassifier, Projection, rooted
from opsin.core.arrays import Doubles, Floats, Ints, Pixels
from opsin.core.errors import MissingExtraError
from opsin.core.format import counted
from opsin.core.metadata import BackboneFacts, Calibration, Layer
from opsin.data.cache import index_key, kept_arrays
from opsin.evaluation.calibration import fit_mix_power, fit_temperature, log_loss_of
from opsin.evaluation.out_of_distribution import ClassPrototypes
from opsin.evaluation.out_of_fold import Fold, folds_of
from opsin.onnx_files.postprocessing import IMAGES
from opsin.runtime.prediction import Answers
from opsin.runtime.providers import cpu_session

try:
    from scipy.special import log_softmax, softmax
    from threadpoolctl import threadpool_limits
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

# Images whose features are computed at once, whose roots are, and that are projected at once.
_BATCH, _AT_ONCE, _PROJECTED = 8, 32, 4096
Kind = Literal["logistic", "kernel-ridge", "nearest-mean"]
#: Most images for the comparison of heads, each class at its share.
COMPARED: Final = 1_500
# Most images that a kernel is fitted to: time grows by their cube, and memory by their square.
_MOST: Final = 10_000
# Most classes for logistic regression: with hundreds, a fit takes minutes.
_REGRESSED: Final = 100
# Fewer images of a class, and the nearest class mean is tried as well.
_FEW: Final = 5
# Inverse strengths; and widths of the kernel, relative to the mean squared distance of images.
_LOGISTIC: Final = (10.0, 100.0, 1000.0)
_RIDGE: Final = ((30.0, 1.0), (100.0, 1.0), (100.0, 0.5))
# A simpler head wins if another is better by at most so many standard errors.
_TIE: Final = 0.5
# Most images that are fitted on one core: threads would wait for one another longer than they
# compute.
_ONE_CORE: Final = 5_000
# Floors of a probability, and of the variance of points, which is 0 for equal images.
_TINY, _SPREAD = 1e-30, 1e-6


@dataclass(frozen=True)
class BackboneFeatures:
    """The mean over views of a pretrained network's features."""

    backbone: Backbone = field(repr=False)
    shape: tuple[int, int, int]  # height, width and channels of the prepared images
    at: tuple[str, ...]  # the values of it that are taken
    views: tuple[View, ...]  # how an image is looked at

    @property
    def facts(self) -> BackboneFacts:
        """The file's description of the network inside it."""
        return self.backbone.facts(self.at)

    @cached_property
    def graph(self) -> FeatureGraph:
        """The operators that compute the features."""
        return FeatureGraph(self.backbone, self.shape, self.views, self.at)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Features at each depth."""
        return self.backbone.units[: len(self.at)]

    @property
    def features(self) -> int:
        """Numbers of an image."""
        return self.graph.units

    @cached_property
    def _session(self) -> InferenceSession:
        return cpu_session(self.graph.content())

    def rows_of(self, images: Pixels) -> Floats:
        """The numbers of some images, ``float32[N, features]``."""
        parts = [np.zeros((0, self.features), np.float32)]
        for start in range(0, len(images), _BATCH):
            values = self._session.run(self.graph.outputs, {IMAGES: images[start : start + _BATCH]})
            parts.append(np.mean(values, axis=0, dtype=np.float32))
        return np.concatenate(parts)

    def layers(self) -> list[Layer]:
        """The network's layers by their names in its file."""
        shapes = {value.name: value.shape for value in self.backbone.probed.values}
        nodes, weights = self.graph.nodes, self.backbone.graph.weights
        return layer_table(nodes, weights, shapes, times=len(self.views))


@dataclass(frozen=True)
class Head:
    """A head and its settings."""

    kind: Kind
    c: float = 1.0  # inverse strength of its regularisation
    width: float = 1.0  # inverse width of its kernel, relative to the images' mean squared distance

    @property
    def mix_power(self) -> float:
        """The usual `HeadChoice.mix_power`: class means do not know how common a class is."""
        return 0.0 if self.kind == "nearest-mean" else 1.0

    @property
    def words(self) -> str:
        """A description in a few words."""
        return {
            "logistic": f"logistic regression (C {self.c:g})",
            "kernel-ridge": f"kernel ridge (C {self.c:g}, kernel width {self.width:g})",
            "nearest-mean": "nearest class mean",
        }[self.kind]

    def fit(
        self, points: Floats, labels: Ints, *, exact: bool = True
    ) -> LinearClassifier | KernelRidge:
        """Fit it."""
        if self.kind == "nearest-mean":
            return LinearClassifier.nearest_mean(points, labels)
        if self.kind == "logistic":
            return LinearClassifier.logistic(points, labels, c=self.c)
        # The mean squared distance of any two is twice the variance.
        gamma = self.width / max(2 * float(points.var(axis=0).sum()), _SPREAD)
        return KernelRidge.fit(points, labels, c=self.c, gamma=gamma, exact=exact)


#: The first head of a fine-tuning.
START: Final = Head("logistic", 100.0)


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """The chosen head and its features."""

    head: Head
    at: tuple[str, ...]  # the values of the network
    views: tuple[View, ...]  # how an image is looked at
    # Its accuracy in cross-validation; ``None`` with too few images or groups to compare heads.
    score: float | None = None
    compared: int = 0  # how many heads were compared
    also: int = 0  # validation images that the chosen head was then fitted to as well
    # The power of the training images' class mix that its scores imply, about 1. Regularisation
    # gives doubtful images to common classes more often than these occur.
    mix_power: float = 1.0

    def learnt(self, shares: Doubles) -> Doubles:
        """The class mix that its scores imply, ``float64[K]``."""
        powers = shares**self.mix_power
        return np.asarray(powers / powers.sum(), np.float64)

    @property
    def words(self) -> str:
        """The choice, and the reason for it."""
        why = "the usual one: there are too few images, or groups, to tell heads apart"
        if self.score is not None:
            why = (
                f"the best of {self.compared} by cross-validation on the training images "
                f"({self.score:.1%} right)"
            )
        more = f"; then fitted to the {counted(self.also, 'validation image')} as well"
        return f"{self.head.words}: {why}{more if self.also else ''}"


@dataclass(frozen=True)
class ChosenHead:
    """The best head for some features, fitted without and with the validation images."""

    choice: HeadChoice
    held_out: Fitted  # fitted to the training images alone: what validation images measure
    final: Fitted  # fitted to the validation images as well, with the same settings
    # From the held-out images of cross-validation.
    calibration: Calibration | None = None


@dataclass(frozen=True)
class HeadSearch:
    """Chooses heads for a pretrained network's features, by cross-validation."""

    numbers: BackboneFeatures
    features: Floats  # of all images, ``float32[N, D]``
    labels: Ints  # ``int64[N]``
    units: Ints  # images with the same number stay on one side of each fold, ``int64[N]``
    assumed: Doubles  # share of each class that the answers are to assume, ``float64[K]``
    wanted: Kind | None
    seed: int
    threads: int  # how many fits run at once

    @cached_property
    def _roots(self) -> Floats:
        return _roots_of(self.features, self.numbers.blocks)

    def choose(self, train: Ints, val: Ints, progress: FitProgress) -> ChosenHead:
        """Choose a head by the training images alone, and fit it."""
        labels, numbers, calibration = self.labels[train], self.numbers, None
        heads = self.candidates(labels)
        head, best = heads[0], None
        shown = drawn(np.arange(len(train)), labels, COMPARED, self.seed)
        points = _Points(self._roots, self.labels, train, val, numbers)
        known, rows = labels[shown], train[shown]
        compared, units = points.of_rows(rows), self.units[rows]

        def judge_all() -> dict[str, Doubles]:
            folds = folds_of(known, units, self.seed)

            def judged(head: Head) -> list[float]:
                result = judge(
                    head, compared, known, folds, assumed=self.assumed, progress=progress
                )
                progress.add()
                return [*result[:-1], *result.losses]

            # Each fit has a core of its own.
            with threadpool_limits(1), ThreadPoolExecutor(self.threads) as pool:
                return {"judged": np.array(list(pool.map(judged, heads)) if folds else [])}

        asked = [hashlib.sha256(of.data) for of in (compared, known, units, self.assumed)]
        key = index_key(__version__, heads, self.seed, [of.digest() for of in asked])
        if results := kept_arrays("heads", key, judge_all, JudgedHead.each_of):
            number = simplest(results)
            head, best = heads[number], results[number]
            calibration = Calibration(
                temperature=best.temperature,
                images=int(best.images),
                log_loss=(best.uncalibrated, best.calibrated),
            )
        choice = HeadChoice(
            head=head,
            at=numbers.at,
            views=numbers.views,
            score=best and best.accuracy,
            compared=len(heads),
            also=len(val),
            mix_power=best.mix_power if best else head.mix_power,
        )
        return points.fitted(choice, calibration, len(self.assumed))

    def answer(self, chosen: ChosenHead, train: Ints, rows: Ints) -> Answers:
        """The answers of a head, as its file would give them."""
        fitted = chosen.final
        points = fitted.projection.of_roots(self._roots[rows])
        known = ClassPrototypes.of_images(fitted.projection.of_roots(self._roots[train]))
        shares = np.bincount(fitted.labels, minlength=len(self.assumed)) / len(fitted.labels)
        temperature = chosen.calibration.temperature if chosen.calibration else 1.0
        logits = np.log(np.maximum(fitted.probabilities(points), _TINY)) / temperature
        shift = np.log(self.assumed / chosen.choice.learnt(shares))
        probabilities = softmax(logits + shift, axis=1)
        return Answers(probabilities.astype(np.float32), known.ood_score(points))

    def candidates(self, labels: Ints) -> list[Head]:
        """The heads to compare for images with these labels, the simplest first."""
        counts = np.bincount(labels)
        heads = []
        if counts[counts > 0].min() < _FEW or self.wanted == "nearest-mean":
            heads.append(Head("nearest-mean"))
        if len(self.assumed) <= _REGRESSED or self.wanted == "logistic":
            heads += [Head("logistic", c) for c in _LOGISTIC]
        heads += [Head("kernel-ridge", c, width) for c, width in _RIDGE]
        return [head for head in heads if self.wanted in (None, head.kind)]


def fit_as(
    choice: HeadChoice,
    backbone: Backbone,
    shape: tuple[int, int, int],
    features: Floats,
    labels: Ints,
    *,
    train: Ints,
    val: Ints,
    classes: int,
) -> ChosenHead:
    """Fit a chosen head, for instance to a fine-tuned network."""
    numbers = BackboneFeatures(backbone, shape, choice.at, choice.views)
    points = _Points(_roots_of(features, numbers.blocks), labels, train, val, numbers)
    return points.fitted(choice, None, classes)


def _roots_of(features: Floats, blocks: Sequence[int]) -> Floats:
    roots = room_for(features.shape)
    for start in range(0, len(features), _AT_ONCE):  # in the processor's cache
        roots[start : start + _AT_ONCE] = rooted(features[start : start + _AT_ONCE], blocks)
    return roots


class _Points:
    def __init__(
        self, roots: Floats, labels: Ints, train: Ints, val: Ints, numbers: BackboneFeatures
    ) -> None:
        self._train, self._numbers, self._labels = train, numbers, labels
        self._cores = 1 if len(train) <= _ONE_CORE else None
        # In directions of the training images alone. Of few images all components are kept: these
        # then say no more than the images themselves.
        self._every = np.sort(np.concatenate([train, val]))
        with threadpool_limits(self._cores):
            self._projection = Projection.fit(roots, train, numbers.blocks)
            self._points = room_for((len(self._every), len(self._projection.weight) + 1))
            for start in range(0, len(self._every), _PROJECTED):
                rows = self._every[start : start + _PROJECTED]
                self._points[start : start + len(rows)] = self._projection.of_roots(roots[rows])

    def of_rows(self, rows: Ints) -> Floats:
        return self._points[np.searchsorted(self._every, rows)]

    def fitted(
        self, choice: HeadChoice, calibration: Calibration | None, classes: int
    ) -> ChosenHead:
        def fit(rows: Ints) -> Fitted:
            if choice.head.kind == "kernel-ridge":
                rows = rows[drawn(np.arange(len(rows)), self._labels[rows], _MOST, seed=0)]
            labels = self._labels[rows]
            estimator = choice.head.fit(self.of_rows(rows), labels)
            recipe = Logistic(c=choice.head.c)
            return Fitted(recipe, self._numbers, self._projection, estimator, labels, classes)

        parts = [self._train, self._every][: 1 + (len(self._every) > len(self._train))]
        # Side by side: of more images, their kernels would take much memory.
        side_by_side = 2 if len(self._every) <= _ONE_CORE else 1
        with threadpool_limits(self._cores), ThreadPoolExecutor(side_by_side) as pool:
            held_out, *final = pool.map(fit, parts)
        return ChosenHead(choice, held_out, final[0] if final else held_out, calibration)


class JudgedHead(NamedTuple):
    """The quality of a head on held-out images."""

    accuracy: float
    mix_power: float  # as for `HeadChoice`
    temperature: float
    uncalibrated: float  # log loss before that temperature
    calibrated: float  # and after
    images: float
    losses: Doubles  # of each fold, the lower the better: log loss, and mean error of the classes

    @classmethod
    def each_of(cls, kept: Mapping[str, Doubles]) -> list[JudgedHead]:
        """Several, from rows of numbers."""
        return [cls._make([*row[:6].tolist(), row[6:]]) for row in kept["judged"]]


def simplest(results: Sequence[JudgedHead]) -> int:
    """The index of the best head, or of the first that is not clearly worse."""
    best = int(np.argmin([result.losses.mean() for result in results]))
    for number, result in enumerate(results[:best]):
        apart = result.losses - results[best].losses
        error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
        if apart.mean() <= _TIE * error:
            return number
    return best


def judge(
    head: Head,
    points: Floats,
    labels: Ints,
    folds: Sequence[Fold],
    *,
    assumed: Doubles,
    progress: FitProgress,
) -> JudgedHead:
    """Measure a head on the images of each fold, fitted to the others."""
    counts = np.maximum(np.bincount(labels, minlength=len(assumed)), 1)
    shares = counts / counts.sum()
    logits = np.zeros((len(labels), len(assumed)))
    for train, test in folds:
        progress.check()
        fitted = head.fit(points[train], labels[train], exact=False)
        logits[test] = log_softmax(fitted.decision_function(points[test]), axis=1)
    tested = np.concatenate([test for _, test in folds])
    known, right_classes = logits[tested].astype(np.float32), labels[tested]
    power = fit_mix_power(known, right_classes, shares, head.mix_power)
    shift = (1 - power) * np.log(shares)
    temperature = fit_temperature(known, right_classes, shift)
    before = log_loss_of(known, right_classes, 1.0, shift)
    after = log_loss_of(known, right_classes, temperature, shift)
    shift += np.log(assumed / shares)
    answers = log_softmax(logits / temperature + shift, axis=1)
    right = answers.argmax(axis=1) == labels
    likelihood = answers[np.arange(len(answers)), labels]
    # As often as they would come.
    weights = (assumed / shares)[labels]
    of_folds = []
    for _, test in folds:
        loss = -np.average(likelihood[test], weights=weights[test])
        present = np.unique(labels[test])
        recalls = [right[test][labels[test] == label].mean() for label in present]
        of_folds.append(loss + 1 - np.mean(recalls))
    accuracy = np.average(right[tested], weights=weights[tested])
    of_all = float(accuracy), power, temperature, before, after, float(len(tested))
    return JudgedHead(*of_all, np.array(of_folds))
