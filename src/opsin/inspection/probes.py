"""How well a linear probe tells the classes apart behind each layer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

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
#: What the file's own answer is called among the layers.
CLASSIFIER: Final = "classifier"
# Numbers of all images and layers that are held at once: 300 MB.
_HELD: Final = 75_000_000
# Images of a batch, and pixels of it: the maps of all layers may be in memory at once.
_BATCH, _PIXELS = 64, 100_000
#: Numbers of an image that a probe looks at, at most.
MOST: Final = 1024
#: What the pixels are called among the layers.
PIXELS: Final = "pixels"
# Weakness of the penalty (scikit-learn's C), and steps of the fitting. On Fashion-MNIST and
# CIFAR-10 less penalty is better for the first layers and more for the last, by a point either
# way; a ridge classifier is faster and up to three points worse.
_FREEDOM, _STEPS = 0.01, 100
#: How a layer's output becomes what a probe looks at: as it is, mean of blocks of places, or
#: random directions.
How = Literal["whole", "pooled", "projected"]


@dataclass(frozen=True)
class Probe:
    """How well the classes can be told apart behind a layer.

    Args:
        layer: Its name; ``pixels`` for what goes in, ``classifier`` for the file's own answer.
        accuracy: Share of the validation images that the probe gets right.
        low: Lower end of its 95% interval (Wilson).
        high: Upper end.
        outputs: Numbers that the layer puts out for an image.
        features: Numbers that the probe looked at.
        how: How they were made: ``whole``, ``pooled``, ``projected``; ``own`` for the classifier.
        block: Height and width of the blocks of places that were averaged.
    """

    layer: str
    accuracy: float
    low: float
    high: float
    outputs: int
    features: int
    how: str
    block: tuple[int, int]

    def to_json(self) -> JsonObject:
        """Return it as plain data."""
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return said | {"block": list(self.block)}


@dataclass(frozen=True)
class Probes:
    """The probes of all layers.

    Args:
        probes: The pixels first, then the layers in the order of their work, the classifier's own
            answer last.
        fitted: Training images that the probes were fitted to.
        judged: Validation images that they were judged by.
        source: Where the images come from.
    """

    probes: tuple[Probe, ...]
    fitted: int
    judged: int
    source: str

    def to_json(self) -> JsonObject:
        """Return all of it as plain data."""
        return {
            "source": self.source,
            "fitted": self.fitted,
            "judged": self.judged,
            "rows": [probe.to_json() for probe in self.probes],
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
    """Fit a linear probe to each layer's output, on training images; score it on others.

    The others are validation images, never test images. Layers that only pass on what they are
    given are left out.

    Args:
        classifier: An open classifier.
        network: The network in it.
        known: Images whose classes are known.
        names: Layers (default: all that change something); named ones are all probed.
        seed: Decides which images are taken, where there are more than are needed.
        watcher: Receives the progress of the work.

    Raises:
        ModelFileError: There is no such layer.
        SourceError: There are no validation images, or no two classes to learn.

    Example:
        >>> import opsin, tempfile
        >>> from opsin.onnx_files.onnx_graph import OnnxGraph
        >>> from opsin.commands.known_images import known_images
        >>> run = opsin.train("digits", model="mlp", epochs=5, runs=tempfile.mkdtemp(), quiet=True)
        >>> file = run.classifier()
        >>> network = OnnxGraph(file.content)
        >>> found = probe_layers(file, network, known_images(file))
        >>> [probe.layer for probe in found.probes]
        ['pixels', 'dense1', 'relu1', 'head', 'classifier']
        >>> found.probes[0].accuracy > 0.8
        True
    """
    layers = _layers(network, names)
    train, val = _chosen(known, seed)
    labels, judged = known.labels[train], known.labels[val]
    groups = None if known.groups is None else known.groups[val]
    shapes = {layer.name: layer.shape for layer in network.layers}
    shapes[PIXELS] = known.images.shape[3:] + known.images.shape[1:3]
    sizes = [reduction_of(name, shapes[name]).features for name in (PIXELS, *layers)]
    probes: list[Probe] = []
    own = np.zeros(0, np.bool_)
    rows = np.concatenate([train, val])
    for group in _groups([PIXELS, *layers], sizes, len(rows)):
        reductions, features, answers = _features(
            network, group, known.images, rows, seed=seed, watcher=watcher
        )
        own = answers[len(train) :].argmax(axis=1) == judged
        probes += _fit(reductions, features, labels, judged, groups=groups, watcher=watcher)
    classes = len(classifier.classes)
    whole = _probe(Reduction(CLASSIFIER, classes, classes, "whole"), own, groups)
    probes.append(replace(whole, how="own"))
    return Probes(tuple(probes), len(train), len(val), known.source)


def _chosen(known: ReferenceSet, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the training images that probes are fitted to, and the validation images that judge.

    Raises:
        SourceError: There are no validation images, or no two classes to learn.
    """
    train, val = _some(known.train, FITTED, seed), _some(known.val, JUDGED, seed)
    classes = len(np.unique(known.labels[train]))
    if classes < 2 or not len(val):
        raise SourceError(
            "training images of at least two classes, and validation images",
            f"{known.source} has {len(val):,} for validation, and {classes} classes to learn",
            "Give other images: --data SOURCE.",
        )
    return train, val


def _fit(
    reductions: Sequence[Reduction],
    features: list[NDArray[np.float32]],
    labels: NDArray[np.int64],
    judged: NDArray[np.int64],
    *,
    groups: NDArray[np.int64] | None,
    watcher: Watcher,
) -> list[Probe]:
    """Fit a probe to each layer's features, which are used up; training images come first."""
    probes = []
    watcher.begin("Probes", len(reductions), "layers")
    for done, reduction in enumerate(reductions, start=1):
        values = features.pop(0)  # its memory is free for the next one's
        right = probe_hits(values[: len(labels)], labels, values[len(labels) :], judged)
        probes.append(_probe(reduction, right, groups))
        watcher.advance(done)
    watcher.end()
    return probes


def _probe(
    reduction: Reduction, right: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> Probe:
    """Return a probe's accuracy with its interval, from which images it got right."""
    low, high = share(right, groups)
    return Probe(
        reduction.layer,
        float(right.mean()),
        low,
        high,
        reduction.outputs,
        reduction.features,
        reduction.how,
        reduction.block,
    )


def _layers(network: OnnxGraph, names: Sequence[str] | None) -> list[str]:
    """Return the layers to probe, in the order of their work."""
    known = [layer.name for layer in network.layers]
    if names is None:
        return [layer.name for layer in network.layers if traits_of(layer.op).has_units]
    check_choices("layer", names, known, ModelFileError)
    return [name for name in known if name in names]


def _some(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return some rows at random, ascending, as they lie on the disk."""
    if len(rows) <= most:
        return np.sort(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _groups(names: Sequence[str], sizes: Sequence[int], images: int) -> Iterator[list[str]]:
    """Split layers so that the features of each part fit into the memory that is meant for them.

    Example:
        >>> list(_groups(["a", "b", "c"], [30_000, 30_000, 50_000], 1000))
        [['a', 'b'], ['c']]
    """
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
    """Return what probes see of some layers, and the file's answers, each a row an image."""
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
        done += len(probabilities)
        watcher.advance(done)
    watcher.end()
    return reductions, kept, np.concatenate(answers)


@dataclass(frozen=True)
class Reduction:
    """What a probe sees of a layer.

    Args:
        layer: Its name, or ``pixels``.
        outputs: Numbers that it puts out for an image.
        features: Numbers that the probe looks at.
        how: How they were made.
        block: Height and width of the blocks of places that were averaged; (1, 1) for none.
    """

    layer: str
    outputs: int
    features: int
    how: How
    block: tuple[int, int] = (1, 1)


def reduction_of(layer: str, shape: Sequence[int], most: int = MOST) -> Reduction:
    """Return how an output of many numbers becomes one of few.

    Maps are averaged over the smallest blocks that are large enough. Where even the means of whole
    maps are too many, random directions of them are taken, which keep what is far apart apart
    (W. Johnson and J. Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space",
    1984).

    Args:
        layer: Its name.
        shape: Of its output for one image: channels, height, width; or units.
        most: Numbers to keep, at most.

    Example:
        >>> reduction_of("conv", (64, 27, 27)).block, reduction_of("conv", (64, 27, 27)).features
        ((7, 7), 1024)
        >>> reduction_of("dense", (4096,)).how
        'projected'
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
    """Return the network as a file that puts out what probes look at.

    The reduction is part of the graph, so that whole maps never leave the runtime, which gives
    their memory back at once.

    Args:
        network: The network.
        names: Layers, or ``pixels``.
        most: Numbers of an image for each, at most.
        seed: Decides random directions.

    Returns:
        The file, whose further outputs ``probe.0``, ``probe.1`` … are ``float32[N, features]`` of
        each name in turn, and how each came about.
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
    """Yield for each batch the features of every probe, then the file's probabilities.

    Args:
        content: What `probe_file` returned.
        count: Number of probes in it.
        batches: Prepared images, ``uint8[N, H, W, C]`` each.
    """
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
    """Fit a linear probe and tell which validation images it gets right.

    A multinomial logistic regression on standardised features, after G. Alain and Y. Bengio,
    "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644. Its
    penalty is the same for each layer, and strong, since there are few images for the features.

    Args:
        train: Features of the training images, ``float32[N, F]``; they are standardised in place.
        train_labels: Their classes, ``int64[N]``, at least two.
        val: Features of the validation images, ``float32[M, F]``, likewise.
        val_labels: Their classes, ``int64[M]``.

    Returns:
        ``bool[M]``

    Example:
        >>> random = np.random.default_rng(0)
        >>> labels = np.arange(60) % 3
        >>> points = (np.eye(3)[labels] + 0.1 * random.normal(size=(60, 3))).astype(np.float32)
        >>> probe_hits(points[:30], labels[:30], points[30:], labels[30:]).mean()
        np.float64(1.0)
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
