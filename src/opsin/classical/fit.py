"""Fitting of models without layers by scikit-learn, in a thread that reports its progress."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.classical.classical_recipe import Forest, Knn, Logistic, PixelModel, Svm
from opsin.classical.pixels import Pooling
from opsin.core.arrays import Doubles, Floats, Ints, Pixels
from opsin.core.child_process import call_in_thread
from opsin.core.errors import MissingExtraError
from opsin.core.events import Pace, Watcher

try:
    from scipy.special import softmax
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

T = TypeVar("T")
# Iterations of L-BFGS for logistic regression: more change the third digit of the loss.
_ITERATIONS: Final = 200
# Trees that a forest grows at a time, and leaves of each tree at most.
_STEP, _LEAVES = 10, 2_000
# Megabytes of kernel values that libsvm keeps.
_KERNEL_CACHE: Final = 500


class _Unwanted(BaseException):
    """Ends an unwanted fitting from inside."""


class FitProgress:
    """The progress of a fitting, reported from its own thread, or from several."""

    def __init__(self) -> None:
        self.done = 0
        self._adding = threading.Lock()
        self.unwanted = threading.Event()
        #: What the caller's thread is to do, such as calling a watcher.
        self.calls = deque[Callable[[], None]]()

    def add(self, units: int = 1) -> None:
        """Count finished units; ends the thread if the result is no longer wanted."""
        with self._adding:
            self.done += units
        self.check()

    def check(self) -> None:
        """End the thread if the result is no longer wanted."""
        if self.unwanted.is_set():
            raise _Unwanted


def run_interruptible(
    work: Callable[[FitProgress], T], *, what: str, total: int, unit: str, watcher: Watcher,
    stop: threading.Event,
) -> T:  # fmt: skip
    """Run work in a thread, report its progress, and abandon it on a stop."""
    progress, pace = FitProgress(), Pace(total)

    def look() -> None:
        if stop.is_set():
            raise KeyboardInterrupt("Ctrl-C during a fitting, which cannot be left half done")
        while progress.calls:
            progress.calls.popleft()()
        pace.saw(progress.done)
        figures = {"share": min(1.0, progress.done / total)}
        if pace.speed is not None and pace.left is not None:
            figures |= {"left": pace.left, "speed": pace.speed}
        watcher.advance(progress.done, **figures)

    watcher.begin(what, total, unit)
    try:
        return call_in_thread(lambda: work(progress), name="opsin-fit", look=look)
    finally:
        progress.unwanted.set()
        watcher.end()


@dataclass(frozen=True)
class Fitted:
    """A fitted model."""

    recipe: PixelModel  # which model, with its options
    numbers: Any  # how images become numbers: `Pooling`, or `BackboneFeatures`
    projection: Any  # their principal components (knn, svm, backbone), else ``None``
    estimator: Any  # scikit-learn's classifier
    # The classes as numbers, in training order, for `knn`'s votes, ``int64[N]``.
    labels: Ints = field(repr=False)
    classes: int  # K

    def embedding(self, images: Pixels) -> Floats:
        """The classifier's input for prepared images, ``float32[N, D]``."""
        features: Floats = self.numbers.rows_of(images)
        return features if self.projection is None else self.projection.transform(features)

    def probabilities(self, embedding: Floats) -> Doubles:
        """scikit-learn's own answers, or the softmax of scores, ``float64[N, K]``."""
        if not isinstance(self.recipe, Svm) and isinstance(self.numbers, Pooling):
            return np.asarray(self.estimator.predict_proba(embedding), np.float64)
        decision = np.asarray(self.estimator.decision_function(embedding), np.float64)
        if decision.ndim == 1:
            decision = np.stack([-decision / 2, decision / 2], axis=1)
        answers: Doubles = softmax(decision, axis=1)
        return answers


def fit(
    model: PixelModel, pooling: Pooling, features: Floats, labels: Ints, *, classes: int, seed: int,
    threads: int, progress: FitProgress,
) -> Fitted:  # fmt: skip
    """Fit a model to rows of numbers, ``float32[N, D]``, and their classes, ``int64[N]``."""
    projection = None
    if isinstance(model, Knn | Svm):
        components = min(model.components, *features.shape)
        # By the covariance: exact, and the quickest for many images of few pixels.
        projection = PCA(components, svd_solver="covariance_eigh").fit(features)
        features = projection.transform(features)
    estimator: Any
    match model:
        case Logistic():
            estimator = LogisticRegression(C=model.c, max_iter=_ITERATIONS)
        case Knn():
            # There are no more neighbours than images.
            estimator = KNeighborsClassifier(min(model.neighbours, len(labels)), algorithm="brute")
        case Svm():
            # scikit-learn's own "scale", stated, so that the file can state it too.
            variance = float(features.var(dtype=np.float64))
            gamma = 1 / (features.shape[1] * variance) if variance else 1.0
            estimator = SVC(C=model.c, gamma=gamma, cache_size=_KERNEL_CACHE, break_ties=True)
        case Forest():
            estimator = RandomForestClassifier(
                max_leaf_nodes=_LEAVES, random_state=seed, n_jobs=threads, warm_start=True
            )
            # A few trees at a time give the same forest.
            for grown in range(0, model.trees, _STEP):
                step = min(_STEP, model.trees - grown)
                estimator.set_params(n_estimators=grown + step).fit(features, labels)
                progress.add(step)
    if not isinstance(model, Forest):
        with warnings.catch_warnings():
            # Stopped early it is as good.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(features, labels)
        progress.add()
    return Fitted(model, pooling, projection, estimator, labels, classes)


def least_of(classes: int) -> float:
    """The floor of a class's share of the votes, so that it has a logarithm."""
    return 1e-5 / classes


def figures_of(probabilities: NDArray[np.floating[Any]], labels: Ints) -> tuple[float, float]:
    """Cross entropy in nats and accuracy; NaN without images."""
    if not len(labels):
        return float("nan"), float("nan")
    of_labels = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    of_labels = np.maximum(of_labels, least_of(probabilities.shape[1]))
    right = probabilities.argmax(axis=1) == labels
    return float(-np.log(of_labels).mean()), float(right.mean())
