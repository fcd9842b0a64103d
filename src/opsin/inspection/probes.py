"""How well a linear probe tells the classes apart behind each layer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError, ModelFileError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.stored_json import JsonObject
from opsin.data.lazy_images import Images
from opsin.data.reference_set import ReferenceSet
from opsin.data.spelling import check_choices
from opsin.evaluation.intervals import share
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import traits_of
from opsin.onnx_files.postprocessing import IMAGES
from opsin.onnx_files.subnetwork import Subnetwork
from opsin.runtime.classifier import Classifier

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
except ImportError as error:
    raise MissingExtraError("probing a network", "evaluate") from error

#: Training images that probes are fitted to, and validation images they are judged by, at most.
FITTED: Final = 4000
JUDGED: Final = 2000
#: What the pixels, and the file's own answer, are called among the layers.
PIXELS: Final = "pixels"
CLASSIFIER: Final = "classifier"
#: Numbers of an image that a probe looks at, at most.
MOST: Final = 1024
# Numbers of all images and layers that are held at once: 300 MB.
_HELD: Final = 75_000_000
# Images of a batch, and pixels of it: the maps of all layers may be in memory at once.
_BATCH, _PIXELS = 64, 100_000
# Weakness of the penalty (scikit-learn's C), and steps of the fitting. On Fashion-MNIST and
# CIFAR-10 less penalty is better for the first layers and more for the last, by a point either
# way; a ridge classifier is faster and up to three points worse.
_FREEDOM, _STEPS = 0.01, 100


@dataclass(frozen=True)
class Reduction:
    """What a probe sees of a layer.

    ``how`` is ``whole``, ``pooled`` (means of blocks of places), ``projected`` (random
    directions), or ``own``: the file's own answer.
    """

    layer: str
    outputs: int  # numbers that the layer puts out for an image, and that the probe looks at
    features: int
    how: str
    block: tuple[int, int] = (1, 1)  # height and width of the blocks that are averaged


@dataclass(frozen=True)
class Probe:
    """The share of the validation images that a layer's probe gets right, with 95% interval."""

    layer: str
    accuracy: float
    low: float
    high: float
    outputs: int
    features: int
    how: str
    block: tuple[int, int]


@dataclass(frozen=True)
class Probes:
    """The probes of all layers: the pixels first, the classifier's own answer last."""

    probes: tuple[Probe, ...]
    fitted: int
    judged: int
    source: str

    def to_json(self) -> JsonObject:
        """Plain data."""
        return {
            "source": self.source,
            "fitted": self.fitted,
            "judged": self.judged,
            "rows": [vars(probe) | {"block": list(probe.block)} for probe in self.probes],
        }


def probe_layers(
    classifier: Classifier,
    network: OnnxGraph,
    known: ReferenceSet,
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
    watcher: Watcher = SILENT,
) -> Probes:
    """Fit a linear probe to each layer's output on training images; score it on validation images.

    By default all layers are probed but those that only pass values on. ``seed`` decides which
    images are taken, where there are more than are needed.

    Raises:
        ModelFileError: There is no such layer.
        SourceError: There are no validation images, or no two classes to learn.
    """
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
            "training images of at least two classes, and validation images",
            f"{known.source} has {len(val):,} for validation, and {count} classes to learn",
            "Give other images: --data SOURCE.",
        )
    groups = None if known.groups is None else known.groups[val]

    def probe(reduction: Reduction, right: NDArray[np.bool_]) -> Probe:
        low, high = share(right, groups)
        return Probe(
            reduction.layer, float(right.mean()), low, high, reduction.outputs,
            reduction.features, reduction.how, reduction.block,
        )  # fmt: skip

    shapes = {layer.name: layer.shape for layer in network.layers}
    shapes[PIXELS] = known.images.shape[3:] + known.images.shape[1:3]
    sizes = [reduction_of(name, shapes[name]).features for name in layers]
    probes: list[Probe] = []
    rows = np.concatenate([train, val])
    for group in _groups(layers, sizes, len(rows)):
        reductions, features, answers = _features(
            network, group, known.images, rows, seed=seed, watcher=watcher
        )
        watcher.begin("Probes", len(group), "layers")
        for done, reduction in enumerate(reductions, start=1):
            values = features.pop(0)  # its memory is free for the next one's
            right = probe_hits(values[: len(train)], labels, values[len(train) :], judged)
            probes.append(probe(reduction, right))
            watcher.advance(done)
        watcher.end()
    classes = len(classifier.classes)
    own = answers[len(train) :].argmax(axis=1) == judged
    probes.append(probe(Reduction(CLASSIFIER, classes, classes, "own"), own))
    return Probes(tuple(probes), len(train), len(val), known.source)


def _some(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Some rows at random, ascending, as they lie on the disk."""
    if len(rows) <= most:
        return np.sort(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _groups(names: Sequence[str], sizes: Sequence[int], images: int) -> Iterator[list[str]]:
    """Layers in parts whose features fit into the memory that is meant for them."""
    group: list[str] = []
    held = 0
    for name, size in zip(names, sizes, strict=True):
        if group and held + size * images > _HELD:
            yield group
            group, held = [], 0
        group.append(name)
        held += size * images
    yield group


def _features(
    network: OnnxGraph,
    names: Sequence[str],
    images: Images,
    rows: NDArray[np.int64],
    *,
    seed: int,
    watcher: Watcher,
) -> tuple[list[Reduction], list[NDArray[np.float32]], NDArray[np.float32]]:
    """What probes see of some layers, and the file's answers, each a row an image."""
    content, reductions = probe_file(network, names, seed=seed)
    size = max(8, min(_BATCH, _PIXELS // (images.shape[1] * images.shape[2])))
    batches = (images[rows[start : start + size]] for start in range(0, len(rows), size))
    watcher.begin("Layers", len(rows), "images")
    kept = [np.empty((len(rows), reduction.features), np.float32) for reduction in reductions]
    answers = []
    done = 0
    for *features, probabilities in iter_features(content, len(names), batches):
        for whole, part in zip(kept, features, strict=True):
            whole[done : done + len(part)] = part
        answers.append(probabilities)
        watcher.advance(done := done + len(probabilities))
    watcher.end()
    return reductions, kept, np.concatenate(answers)


def reduction_of(layer: str, shape: Sequence[int], most: int = MOST) -> Reduction:
    """How an output of many numbers becomes one of few.

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


def probe_file(
    network: OnnxGraph, names: Sequence[str], *, most: int = MOST, seed: int = 0
) -> tuple[bytes, list[Reduction]]:
    """The network as a file with further outputs ``probe.0``, ``probe.1`` …, ``[N, features]``.

    The reduction is part of the graph, so that whole maps never leave the runtime, which gives
    their memory back at once.
    """
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    reductions = []
    for place, name in enumerate(names):
        value, shape = name, tuple(() if name == PIXELS else network.layer(name).shape)
        if name == PIXELS:
            dimensions = model.graph.input[0].type.tensor_type.shape.dim
            height, width, channels = (each.dim_value for each in dimensions[1:])
            value, shape = f"probe.{place}.pixels", (channels, height, width)
            cast = helper.make_node("Cast", [IMAGES], [f"{value}.float"], to=TensorProto.FLOAT)
            turn = helper.make_node("Transpose", [f"{value}.float"], [value], perm=[0, 3, 1, 2])
            model.graph.node.extend([cast, turn])
        reduction = reduction_of(name, shape, most)
        _reduce(model.graph, value, shape, reduction, output=f"probe.{place}", seed=seed)
        reductions.append(reduction)
    content: bytes = model.SerializeToString()
    return content, reductions


def _reduce(
    graph: onnx.GraphProto,
    value: str,
    shape: Sequence[int],
    reduction: Reduction,
    *,
    output: str,
    seed: int,
) -> None:
    """Add the operators that make a probe's features of a value."""
    down, across = reduction.block
    if reduction.block != (1, 1):
        # The last block of a side is smaller where the side is no multiple; what is added there
        # does not count.
        pads = [0, 0, -shape[1] % down, -shape[2] % across]
        graph.node.append(
            helper.make_node(
                "AveragePool", [value], [f"{output}.means"],
                kernel_shape=[down, across], strides=[down, across], pads=pads,
            )
        )  # fmt: skip
        value = f"{output}.means"
    projected = reduction.how == "projected"
    flat = f"{output}.flat" if projected else output
    graph.node.append(helper.make_node("Flatten", [value], [flat], axis=1))
    if projected:
        units = shape[0] if len(shape) == 3 else reduction.outputs
        chance = np.random.default_rng(seed)
        directions = chance.standard_normal((units, reduction.features), np.float32)
        directions /= np.float32(math.sqrt(reduction.features))
        graph.initializer.append(numpy_helper.from_array(directions, f"{output}.directions"))
        graph.node.append(helper.make_node("MatMul", [flat, f"{output}.directions"], [output]))
    graph.output.append(onnx.ValueInfoProto(name=output))


def iter_features(
    content: bytes, count: int, batches: Iterable[NDArray[np.uint8]]
) -> Iterator[list[NDArray[np.float32]]]:
    """For each batch the features of every probe in a `probe_file`, then the probabilities."""
    part = Subnetwork(content)
    asked = [*(f"probe.{place}" for place in range(count)), "probabilities"]
    for batch in batches:
        found = dict(zip(part.outputs, part.run({IMAGES: batch}), strict=True))
        yield [found[name] for name in asked]


def probe_hits(
    train: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    val: NDArray[np.float32],
    val_labels: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Fit a linear probe to features ``[N, F]``; which validation images ``[M, F]`` are right.

    A multinomial logistic regression on features that are standardised in place, after G. Alain and
    Y. Bengio, "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644.
    Its penalty is the same for each layer, and strong, since there are few images for the features.
    """
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
    right: NDArray[np.bool_] = model.predict(val) == val_labels
    return right
