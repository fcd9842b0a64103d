"""Models on pixels: images as rows of numbers that a file can repeat exactly, and fitting."""

from __future__ import annotations

import math
import threading
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.classical.classical_recipe import Forest, Knn, Logistic, PixelModel, Svm
from opsin.core.arrays import Doubles, Floats, Ints, Pixels
from opsin.core.child_process import call_in_thread
from opsin.core.errors import MissingExtraError
from opsin.core.events import Pace, Watcher
from opsin.data.lazy_images import Images

try:
    from scipy.special import softmax
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
    work: Callable[[FitProgress], T],
    *,
    what: str,
    total: int,
    unit: str,
    watcher: Watcher,
    stop: threading.Event,
) -> T:
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
    model: PixelModel,
    pooling: Pooling,
    features: Floats,
    labels: Ints,
    *,
    classes: int,
    seed: int,
    threads: int,
    progress: FitProgress,
) -> Fitted:
    """Fit a model to rows of numbers, ``float32[N, D]``, and their classes, ``int64[N]``."""
    from sklearn.decomposition import PCA  # noqa: PLC0415  slow, and heads need none of it
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415
    from sklearn.svm import SVC  # noqa: PLC0415

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


# Bytes of images read at a time.
_BLOCK: Final = 8_000_000
# Of a histogram of gradients: the side that images are averaged down to, cells along each side,
# directions in each cell, and images computed at once.
_SIDE, _CELLS, _DIRECTIONS, _ROWS = 32, 8, 9, 256


@dataclass(frozen=True)
class Pooling:
    """Pixels 0 to 1, averaged over squares in large images."""

    height: int  # of the prepared images
    width: int  # of the prepared images
    channels: int  # 1 or 3
    factor: int  # side of the squares; those at the right and lower border may be cut off

    @classmethod
    def to_fit(cls, shape: tuple[int, int, int], side: int) -> Pooling:
        """Choose the smallest squares that bring the longer side down to ``side``."""
        height, width, channels = shape
        return cls(height, width, channels, math.ceil(max(height, width) / side))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the output."""
        up = math.ceil(self.height / self.factor), math.ceil(self.width / self.factor)
        return self.channels, *up

    @property
    def features(self) -> int:
        """Numbers of an image."""
        return math.prod(self.shape)

    @property
    def padding(self) -> tuple[int, int]:
        """Rows and columns of zeros added below and at the right."""
        _, height, width = self.shape
        return height * self.factor - self.height, width * self.factor - self.width

    @property
    def divisors(self) -> Floats:
        """Divisor of each square's sum, ``float32[h, w, 1]``: 255 times its pixels."""
        _, height, width = self.shape
        rows = np.minimum(self.factor, self.height - np.arange(height) * self.factor)
        columns = np.minimum(self.factor, self.width - np.arange(width) * self.factor)
        return (255 * rows[:, None, None] * columns[None, :, None]).astype(np.float32)

    def rows_of(self, images: Pixels) -> Floats:
        """The numbers of some images, ``float32[N, features]``."""
        below, right = self.padding
        _, height, width = self.shape
        whole = np.pad(images, ((0, 0), (0, below), (0, right), (0, 0)))
        squares = whole.reshape(-1, height, self.factor, width, self.factor, self.channels)
        means = squares.sum(axis=(2, 4), dtype=np.float32) / self.divisors
        rows: Floats = means.transpose(0, 3, 1, 2).reshape(-1, self.features)
        return rows

    def read(
        self, images: Images, rows: Ints, progress: Callable[[int], None] = lambda _: None
    ) -> Floats:
        """The numbers of some rows of a dataset, read block by block."""
        result = np.empty((len(rows), self.features), np.float32)
        size = max(1, _BLOCK // math.prod(images.shape[1:]))
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            result[start : start + len(block)] = self.rows_of(images[block])
            progress(start + len(block))
        return result


def drawn(rows: Ints, labels: Ints, most: int, seed: int) -> Ints:
    """At most ``most`` rows, each class at its share and with one row at least."""
    if len(rows) <= most:
        return rows
    random = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(most * len(members) / len(rows)))
        kept.append(random.choice(members, min(count, len(members)), replace=False))
    chosen: Ints = rows[np.sort(np.concatenate(kept))]
    return chosen


def gradient_histograms(images: Images, rows: Ints) -> Floats:
    """The strength of the edges of each direction in each of 8×8 cells, rooted (Dalal, 2005)."""
    height, width, channels = images.shape[1:]
    pooling = Pooling.to_fit((height, width, channels), _SIDE)
    _, height, width = pooling.shape
    cell = _CELLS * (np.arange(height) * _CELLS // height)[:, None]
    cell = cell + np.arange(width) * _CELLS // width
    histograms = np.zeros((len(rows), _CELLS**2 * _DIRECTIONS), np.float32)
    for start in range(0, len(rows), _ROWS):
        part = histograms[start : start + _ROWS]
        pixels = pooling.read(images, rows[start : start + _ROWS])
        grey = np.sqrt(pixels.reshape(-1, channels, height, width).mean(axis=1))
        around = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
        down = around[:, 2:, 1:-1] - around[:, :-2, 1:-1]
        right = around[:, 1:-1, 2:] - around[:, 1:-1, :-2]
        direction = np.arctan2(down, right) * (_DIRECTIONS / np.pi) % _DIRECTIONS
        lower = direction.astype(np.int64) % _DIRECTIONS
        share, strength = direction % 1, np.hypot(down, right)
        first = np.arange(len(part))[:, None, None] * histograms.shape[1] + cell * _DIRECTIONS
        for weight, bin_ in ((1 - share, lower), (share, (lower + 1) % _DIRECTIONS)):
            counts = np.bincount((first + bin_).ravel(), (strength * weight).ravel(), part.size)
            part += counts.reshape(part.shape)
    histograms = np.sqrt(histograms)
    length = np.sqrt(np.square(histograms).sum(axis=1, keepdims=True))
    return np.asarray(histograms / np.maximum(length, np.float32(1e-6)), np.float32)
