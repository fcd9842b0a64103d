"""scikit-learn fits a model without layers, in a thread that reports its progress."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.classical.classical_recipe import Boosting, Forest, Knn, Logistic, PixelModel, Svm
from opsin.classical.pixels import Pooling
from opsin.core.arrays import Doubles, Floats, Ints, Pixels
from opsin.core.artifacts.records import Epoch
from opsin.core.child_process import call_in_thread
from opsin.core.errors import MissingExtraError
from opsin.core.events import Pace, Watcher

try:
    from scipy.special import softmax
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

if TYPE_CHECKING:
    from opsin.classical.backbone_features import BackboneFeatures

T = TypeVar("T")
# Iterations of L-BFGS for logistic regression. More change the third digit of the loss.
_ITERATIONS: Final = 200
# Trees, or rounds, between two looks at the validation images.
_STEP: Final = 10
# Training images that figures are computed on: all of them would take as long as the fitting.
_SAMPLE: Final = 2_000
# Megabytes of kernel values that libsvm keeps.
_KERNEL_CACHE: Final = 500


class _Unwanted(BaseException):
    """Ends a fitting from inside, since its result is no longer wanted."""


class FitProgress:
    """The progress of a fitting, reported from its own thread, or from several."""

    def __init__(self) -> None:
        self.done = 0
        self._adding = threading.Lock()
        #: Figures of a growing model, from time to time.
        self.steps: queue.SimpleQueue[Epoch] = queue.SimpleQueue()
        self.unwanted = threading.Event()

    def advance(self, done: int) -> None:
        """``done`` units are finished; does not return if the result is no longer wanted."""
        self.done = done
        self.check()

    def add(self) -> None:
        """One more unit is finished; likewise."""
        with self._adding:
            self.done += 1
        self.check()

    def check(self) -> None:
        """Do not return if the result is no longer wanted."""
        if self.unwanted.is_set():
            raise _Unwanted


def run_interruptible(
    work: Callable[[FitProgress], T],
    *,
    what: str,
    total: int,
    unit: str,
    watcher: Watcher,
    stop: threading.Event,
) -> T:
    """Make a call in a thread, pass on its progress, and leave it when a stop is asked for."""
    progress, pace = FitProgress(), Pace(total)

    def look() -> None:
        if stop.is_set():
            raise KeyboardInterrupt("Ctrl-C during a fitting, which cannot be left half done")
        pace.saw(progress.done)
        figures = {"share": min(1.0, progress.done / total)}
        if pace.speed is not None and pace.left is not None:
            figures |= {"left": pace.left, "speed": pace.speed}
        watcher.advance(progress.done, **figures)
        with contextlib.suppress(queue.Empty):
            while True:
                watcher.epoch(progress.steps.get_nowait())

    watcher.begin(what, total, unit)
    try:
        return call_in_thread(lambda: work(progress), name="opsin-fit", look=look)
    finally:
        progress.unwanted.set()
        watcher.end()


@dataclass(frozen=True)
class TrainingRows:
    """Images as rows of numbers, ``float32[N, D]``, and their classes, ``int64[N]``."""

    features: Floats
    labels: Ints


@dataclass(frozen=True)
class Fitted:
    """A fitted model."""

    recipe: PixelModel  # which model, with its options
    numbers: Pooling | BackboneFeatures  # how images become numbers
    projection: Any  # their principal components (knn, svm, backbone), else ``None``
    estimator: Any  # scikit-learn's classifier
    # The classes as numbers, in training order, for `knn`'s votes, ``int64[N]``.
    labels: Ints = field(repr=False)
    classes: int  # K

    def embedding(self, images: Pixels) -> Floats:
        """Return what the classifier is given for prepared images, ``float32[N, D]``."""
        features = self.numbers.rows_of(images)
        return features if self.projection is None else self.projection.transform(features)

    def probabilities(self, embedding: Floats) -> Doubles:
        """Return scikit-learn's own answers, ``float64[N, K]``."""
        if not isinstance(self.recipe, Svm):
            return np.asarray(self.estimator.predict_proba(embedding), np.float64)
        decision = np.asarray(self.estimator.decision_function(embedding), np.float64)
        if decision.ndim == 1:
            decision = np.stack([-decision / 2, decision / 2], axis=1)
        answers: Doubles = softmax(decision, axis=1)
        return answers


def work_of(model: PixelModel) -> tuple[int, str]:
    """Return how many units of work a model's fitting reports, and what these are."""
    match model:
        case Logistic():
            return _ITERATIONS, "iterations"
        case Forest():
            return model.trees, "trees"
        case Boosting():
            return model.trees, "rounds"
        case Knn() | Svm():
            return 1, "fits"


def fit(
    model: PixelModel,
    pooling: Pooling,
    train: TrainingRows,
    val: TrainingRows,
    *,
    classes: int,
    seed: int,
    threads: int,
    progress: FitProgress,
) -> Fitted:
    """Fit a model."""
    projection = None
    if isinstance(model, Knn | Svm):
        components = min(model.components, *train.features.shape)
        # By the covariance: exact, and the quickest for many images of few pixels.
        projection = PCA(components, svd_solver="covariance_eigh").fit(train.features)
        train = TrainingRows(projection.transform(train.features), train.labels)
    estimator: Any
    match model:
        case Logistic():
            estimator = LogisticRegression(C=model.c, max_iter=_ITERATIONS)
            estimator.set_callbacks(_Iterations(progress))
        case Knn():
            # More neighbours than images there are none.
            count = min(model.neighbours, len(train.labels))
            estimator = KNeighborsClassifier(count, algorithm="brute")
        case Svm():
            # scikit-learn's own "scale", stated, so that the file can state it too.
            variance = float(train.features.var(dtype=np.float64))
            gamma = 1 / (train.features.shape[1] * variance) if variance else 1.0
            estimator = SVC(C=model.c, gamma=gamma, cache_size=_KERNEL_CACHE, break_ties=True)
        case Forest():
            estimator = _grow_forest(
                model, train, val, seed=seed, threads=threads, progress=progress
            )
        case Boosting():
            estimator = _boost(model, train, val, seed, progress)
    if isinstance(model, Logistic | Knn | Svm):
        with warnings.catch_warnings():
            # Stopped before the optimum it is as good, and simpler; the report has the iterations.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(train.features, train.labels)
    progress.advance(work_of(model)[0])
    return Fitted(model, pooling, projection, estimator, train.labels, classes)


class _Iterations:
    """Counts iterations of L-BFGS; scikit-learn calls it (`sklearn.callback.FitCallback`)."""

    def __init__(self, progress: FitProgress) -> None:
        self._progress = progress
        self._done = 0

    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing is to be set up."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nothing is to be taken down."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing to report yet."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
        """Tell that one more is done."""
        self._done += 1
        self._progress.advance(min(self._done, _ITERATIONS))


def _grow_forest(
    model: Forest,
    train: TrainingRows,
    val: TrainingRows,
    *,
    seed: int,
    threads: int,
    progress: FitProgress,
) -> Any:
    """Grow a forest a few trees at a time, which are the trees that would grow at once."""
    estimator = RandomForestClassifier(
        max_leaf_nodes=model.leaves, random_state=seed, n_jobs=threads, warm_start=True
    )
    steps = _Steps(model.trees, 0.0, len(train.labels), progress)
    sample = spread(len(train.labels), _SAMPLE)
    while steps.done < model.trees:
        estimator.set_params(n_estimators=min(model.trees, steps.done + _STEP))
        estimator.fit(train.features, train.labels)
        steps.finished(
            estimator.n_estimators,
            figures_of(estimator.predict_proba(train.features[sample]), train.labels[sample]),
            figures_of(estimator.predict_proba(val.features), val.labels),
        )
    return estimator


def _boost(
    model: Boosting, train: TrainingRows, val: TrainingRows, seed: int, progress: FitProgress
) -> Any:
    steps = _Steps(model.trees, model.learning_rate, len(train.labels), progress)
    figures: list[tuple[float, float]] = []

    def look_on(estimator: Any, features: Any, labels: Any) -> float:
        """Is called each round, for a sample of the training images, then for validation."""
        done = estimator.n_iter_
        progress.advance(done)
        if done and (done % _STEP == 0 or done == model.trees):
            figures.append(figures_of(estimator.predict_proba(features), labels))
        if len(figures) == 2:
            steps.finished(done, *figures)
            figures.clear()
        return 0.0

    estimator = HistGradientBoostingClassifier(
        max_iter=model.trees,
        max_leaf_nodes=model.leaves,
        learning_rate=model.learning_rate,
        random_state=seed,
        # The only hook that is called in each round; the fitting is never stopped early.
        early_stopping=True,
        scoring=look_on,
        n_iter_no_change=model.trees + 1,
    )
    return estimator.fit(train.features, train.labels, X_val=val.features, y_val=val.labels)


class _Steps:
    """Reports the figures of a growing model from time to time."""

    def __init__(self, total: int, rate: float, images: int, progress: FitProgress) -> None:
        self.done = 0
        self._total, self._rate, self._images = total, rate, images
        self._progress = progress
        self._began = time.perf_counter()

    def finished(self, done: int, train: tuple[float, float], val: tuple[float, float]) -> None:
        """Tell how good the model is after ``done`` trees or rounds: loss and accuracy."""
        seconds = time.perf_counter() - self._began
        speed = self._images * (done - self.done) / max(seconds, 1e-9)
        self._progress.steps.put(
            Epoch(
                epoch=done, epochs=self._total, step=done,
                train_loss=train[0], train_accuracy=train[1],
                val_loss=val[0], val_accuracy=val[1], learning_rate=self._rate,
                seconds=seconds, images_per_second=speed, best=done == self._total,
            )
        )  # fmt: skip
        self.done = done
        self._progress.advance(done)
        self._began = time.perf_counter()


def spread(total: int, most: int) -> Ints:
    """Return up to ``most`` rows, evenly spread over all."""
    return np.linspace(0, total - 1, min(most, total)).astype(np.int64)


def least_of(classes: int) -> float:
    """Return what a class's share of the votes counts at least, so that it has a logarithm."""
    return 1e-5 / classes


def figures_of(probabilities: NDArray[np.floating[Any]], labels: Ints) -> tuple[float, float]:
    """Return cross entropy in nats and accuracy; without images neither is a number."""
    if not len(labels):
        return float("nan"), float("nan")
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    own = np.maximum(own, least_of(probabilities.shape[1]))
    right = probabilities.argmax(axis=1) == labels
    return float(-np.log(own).mean()), float(right.mean())
