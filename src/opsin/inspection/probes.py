"""Accuracy of a linear probe behind each layer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from opsin.core.arrays import Bools, Floats, Ints
from opsin.core.errors import ModelFileError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import ReferenceSet
from opsin.data.spelling import check_choices
from opsin.evaluation.intervals import share
from opsin.inspection.plain_data import PlainData
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import traits_of
from opsin.runtime.classifier import Classifier

#: Most training images that probes are fitted to, and validation images for their scores.
FITTED: Final = 4000
JUDGED: Final = 2000
#: Names of the pixels and of the file's own answer among the layers.
PIXELS: Final = "pixels"
CLASSIFIER: Final = "classifier"
#: Most features of a probe.
MOST: Final = 1024
# Layers whose features are held at once: 300 MB.
_TOGETHER: Final = 12
# Weakness of the penalty (scikit-learn's C), and steps of the fitting. On Fashion-MNIST and
# CIFAR-10 less penalty is better for the first layers and more for the last, by a point either
# way; a ridge classifier is faster and up to three points worse.
_FREEDOM, _STEPS = 0.01, 100


@dataclass(frozen=True)
class Reduction:
    """The features of a layer for a probe."""

    layer: str
    outputs: int  # numbers that the layer puts out for an image, and that the probe looks at
    features: int
    how: str
    block: tuple[int, int] = (1, 1)  # height and width of the blocks that are averaged


@dataclass(frozen=True, kw_only=True)
class Probe(Reduction, PlainData):
    """The share of the validation images that a layer's probe gets right, with 95% interval."""

    JSON: ClassVar = "layer accuracy low high outputs features how block"
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Probes(PlainData):
    """The probes of all layers: the pixels first, the classifier's own answer last."""

    JSON: ClassVar = "source fitted judged rows=probes"
    probes: tuple[Probe, ...]
    fitted: int
    judged: int
    source: str


def probe_layers(
    classifier: Classifier, network: OnnxGraph, known: ReferenceSet, *,
    names: Sequence[str] | None = None, seed: int = 0, watcher: Watcher = SILENT,
) -> Probes:  # fmt: skip
    """Fit a linear probe to each layer's output, and score it on validation images."""
    layers = [PIXELS]
    if names is None:
        layers += [layer.name for layer in network.layers if traits_of(layer.op).has_units]
    else:
        order = [layer.name for layer in network.layers]
        check_choices("layer", names, order, ModelFileError)
        layers += [name for name in order if name in names]
    train, val = _some(known.train, FITTED, seed), _some(known.val, JUDGED, seed)
    labels, judged = known.labels[train], known.labels[val]
    count = len(np.unique(labels))
    if count < 2 or not len(val):
        raise SourceError(
            f"{known.source} has {count} classes to learn and {len(val):,} images for validation; "
            "two classes and one image at least are needed",
            "Give other images: --data SOURCE.",
        )
    groups = None if known.groups is None else known.groups[val]

    def probe(reduction: Reduction, right: Bools) -> Probe:
        low, high = share(right, groups)
        return Probe(**vars(reduction), accuracy=float(right.mean()), low=low, high=high)

    shapes = {layer.name: layer.shape for layer in network.layers}
    shapes[PIXELS] = known.images.shape[3:] + known.images.shape[1:3]
    probes: list[Probe] = []
    rows = np.concatenate([train, val])
    for start in range(0, len(layers), _TOGETHER):
        group = layers[start : start + _TOGETHER]
        reductions = [reduction_of(name, shapes[name]) for name in group]
        features = [np.empty((len(rows), r.features), np.float32) for r in reductions]
        answers = np.zeros(0, np.int64)
        asked = [*(name for name in group if name != PIXELS), "probabilities"]
        watcher.begin("Layers", len(rows), "images")
        for batch in network.stream(asked, known.images, rows):
            values, some = batch.values, slice(len(answers), len(answers) + len(batch.rows))
            if PIXELS in group:
                values[PIXELS] = batch.images.transpose(0, 3, 1, 2)
            for kept, reduction in zip(features, reductions, strict=True):
                kept[some] = reduced(values[reduction.layer], reduction, seed=seed)
            answers = np.concatenate([answers, values["probabilities"].argmax(axis=1)])
            watcher.advance(len(answers))
        watcher.end()
        watcher.begin("Probes", len(group), "layers")
        for done, reduction in enumerate(reductions, start=1):
            numbers = features.pop(0)  # its memory is free for the next one's
            right = probe_hits(numbers[: len(train)], labels, numbers[len(train) :], judged)
            probes.append(probe(reduction, right))
            watcher.advance(done)
        watcher.end()
    classes = len(classifier.classes)
    hits = answers[len(train) :] == judged
    probes.append(probe(Reduction(CLASSIFIER, classes, classes, "own"), hits))
    return Probes(tuple(probes), len(train), len(val), known.source)


def _some(rows: Ints, most: int, seed: int) -> Ints:
    if len(rows) <= most:
        return np.sort(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def reduction_of(layer: str, shape: Sequence[int], most: int = MOST) -> Reduction:
    """Choose how an output of many numbers is reduced to few.

    Maps are averaged over the smallest blocks that are large enough. Where even the means of whole
    maps are too many, random directions of them are taken, which keep what is far apart apart
    (W. Johnson and J. Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space",
    1984).
    """
    outputs = math.prod(shape)
    if outputs <= most:
        return Reduction(layer, outputs, outputs, "whole")
    if len(shape) != 3:
        return Reduction(layer, outputs, most, "projected")
    channels, height, width = shape
    for side in range(2, max(height, width) + 1):
        block = (min(side, height), min(side, width))
        features = channels * math.ceil(height / block[0]) * math.ceil(width / block[1])
        if features <= most:
            return Reduction(layer, outputs, features, "pooled", block)
    return Reduction(layer, outputs, most, "projected", (height, width))


def reduced(values: NDArray[Any], reduction: Reduction, *, seed: int = 0) -> Floats:
    """Reduce a layer's output for some images to a probe's features, ``float32[N, F]``."""
    features = np.asarray(values, np.float32)
    if reduction.block != (1, 1):
        # The last block of a side may be smaller.
        for axis, block in zip((2, 3), reduction.block, strict=True):
            starts = np.arange(0, features.shape[axis], block)
            counts = np.diff([*starts, features.shape[axis]])
            shape = [1, 1, 1, 1]
            shape[axis] = len(counts)
            sums = np.add.reduceat(features, starts, axis=axis)
            features = np.asarray(sums / counts.reshape(shape), np.float32)
    features = features.reshape(len(features), -1)
    if reduction.how != "projected":
        return features
    size = (features.shape[1], reduction.features)
    directions = np.random.default_rng(seed).standard_normal(size, np.float32)
    return features @ (directions / np.float32(math.sqrt(reduction.features)))


def probe_hits(train: Floats, train_labels: Ints, val: Floats, val_labels: Ints) -> Bools:
    """Fit a linear probe to features ``[N, F]``; which validation images ``[M, F]`` are right."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    # A feature that never varies says nothing; one that varies by a rounding says noise.
    alive = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=alive)
    for features in (train, val):
        np.subtract(features, mean, out=features)
        np.multiply(features, scale, out=features)
    model = LogisticRegression(C=_FREEDOM, max_iter=_STEPS, tol=1e-3)
    with warnings.catch_warnings():
        # So near to the end, the last steps move no answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, train_labels)
    right: Bools = model.predict(val) == val_labels
    return right
