"""What layers make of an image: every value, and figures of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError
from opsin.core.metadata import Layer
from opsin.core.stored_json import JsonObject
from opsin.data.lazy_images import Images
from opsin.data.spelling import check_choices
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import traits_of
from opsin.onnx_files.subnetwork import Subnetwork
from opsin.runtime.classifier import Classifier

#: How `LayerView.strengths` are measured, in words.
MEASURE: Final = "mean of |value| over the unit's places"
#: Bars of a histogram.
BINS: Final = 32
# Share of the layer's largest |value| below which a smooth activation's value counts as none.
_NEAR: Final = 0.01

Sparse = Literal["exactly 0", "nearer to 0 than 1% of the largest"]
# Bytes of values and pixels that a batch may come to; all layers of 256 photographs at once would
# be gigabytes.
_BYTES: Final = 32 << 20
_BATCH: Final = 256


@dataclass(frozen=True)
class LayerView:
    """A layer's values for one image, with what they come to.

    Mean, deviation, minimum, maximum and histogram are of the numbers that are finite.

    Args:
        layer: The layer.
        values: What it puts out, all of it: ``float32[C, H, W]`` or ``float32[D]``.
        mean: Mean of all values.
        deviation: Their standard deviation.
        minimum: The smallest.
        maximum: The largest.
        sparsity: Share of values that say nothing, 0 to 1.
        sparse: Which values these are: exact zeros, or, after a smooth activation, such as are
            nearer to 0 than a hundredth of the layer's largest.
        counts: Values in each bin of the histogram, ``int64[32]``.
        edges: Where the bins begin and end, ``float64[33]``.
        strengths: Strength of each unit, ``float64[C]`` or ``float64[D]``: see `MEASURE`.
        order: Numbers of the units, the strongest first, ``int64``.
        not_finite: Number of values that are infinite or no number.
    """

    layer: Layer
    values: NDArray[np.float32] = field(repr=False)
    mean: float
    deviation: float
    minimum: float
    maximum: float
    sparsity: float
    sparse: Sparse
    counts: NDArray[np.int64] = field(repr=False)
    edges: NDArray[np.float64] = field(repr=False)
    strengths: NDArray[np.float64] = field(repr=False)
    order: NDArray[np.int64] = field(repr=False)
    not_finite: int = 0

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def kind(self) -> str:
        """What the layer is, such as ``Conv 3×3 same``."""
        return self.layer.kind

    def to_json(self) -> JsonObject:
        """Return the figures as plain data, the maps left out."""
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.values.shape),
            "mean": self.mean,
            "deviation": self.deviation,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "sparsity": {"share": self.sparsity, "of": f"values {self.sparse}"},
            "not_finite": self.not_finite,
            "histogram": {"counts": self.counts.tolist(), "edges": self.edges.tolist()},
            "strength": MEASURE,
            "units": [
                {"unit": int(unit), "strength": float(self.strengths[unit])} for unit in self.order
            ],
        }


def view_of(layer: Layer, values: NDArray[np.float32]) -> LayerView:
    """Measure what a layer puts out for one image.

    Args:
        layer: The layer.
        values: ``float32[C, H, W]``, or ``float32[D]`` of a dense one.

    Returns:
        The figures, and the values themselves, none left out.

    Example:
        >>> relu = Layer(name="relu1", kind="ReLU", shape=(3,), parameters=0, trainable=0,
        ...              multiply_adds=0)
        >>> view = view_of(relu, np.array([0, 3, 1], np.float32))
        >>> view.order.tolist(), round(view.sparsity, 3), view.sparse
        ([1, 2, 0], 0.333, 'exactly 0')
    """
    all_finite = np.isfinite(values)
    known = values[all_finite].astype(np.float64)
    if not known.size:
        known = np.zeros(1)
    size = np.abs(np.where(all_finite, values, 0).astype(np.float64))
    strengths = size.reshape(len(values), -1).mean(axis=1)
    smooth = traits_of(layer.op).smooth
    limit = _NEAR * size.max(initial=0.0) if smooth else 0.0
    quiet = size < limit if limit > 0 else size == 0
    counts, edges = np.histogram(known, BINS)
    return LayerView(
        layer=layer,
        values=values,
        mean=float(known.mean()),
        deviation=float(known.std()),
        minimum=float(known.min()),
        maximum=float(known.max()),
        sparsity=float((quiet & all_finite).mean()),
        sparse="nearer to 0 than 1% of the largest" if smooth else "exactly 0",
        counts=counts.astype(np.int64),
        edges=edges,
        strengths=strengths,
        # Equal ones in the order of their numbers, so that the same image gives the same page.
        order=np.argsort(-strengths, kind="stable"),
        not_finite=int(all_finite.size - np.count_nonzero(all_finite)),
    )


def layer_views(
    classifier: Classifier, pixels: NDArray[np.uint8], *, names: Sequence[str] | None = None
) -> list[LayerView]:
    """Return what layers make of an image, with their figures.

    Args:
        classifier: An open classifier.
        pixels: A prepared image, ``uint8[H, W, C]``, such as `Prediction.pixels`.
        names: Names of layers (default: all, in the order of their work).

    Raises:
        ModelFileError: There is no layer of that name.

    Example:
        >>> import tempfile, opsin
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> pixels = opsin.load("digits").images[0]
        >>> [view.name for view in layer_views(run.classifier(), pixels)]
        ['input', 'flatten', 'dense1', 'relu1', 'head']
    """
    layers = {layer.name: layer for layer in classifier.metadata.layers}
    wanted = list(layers) if names is None else list(dict.fromkeys(names))
    check_choices("layer", wanted, list(layers), ModelFileError)
    values = classifier.layers(pixels[None], wanted)
    return [view_of(layers[name], np.asarray(values[name][0], np.float32)) for name in wanted]


def iter_batches(
    classifier: Classifier,
    network: OnnxGraph,
    images: Images,
    names: Sequence[str],
    rows: NDArray[np.int64] | None = None,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield what layers put out batch by batch, in batches as large as their values allow.

    `Classifier.iter_layers` sizes its batches by the pixels: enough for one layer, too much for
    all.

    Args:
        classifier: An open classifier.
        network: Its network.
        images: Prepared images, ``uint8[N, H, W, C]``, read block by block.
        names: Names of layers or of the file's outputs.
        rows: Which images (default: all, in their order).
    """
    part = Subnetwork(network.up_to(names))
    sizes = {layer.name: 4 * math.prod(layer.shape) for layer in classifier.metadata.layers}
    # The layers that are not fetched are computed as well, two or three of them at a time.
    work = sum(sizes.get(name, 0) for name in names) + 3 * max(sizes.values(), default=0)
    step = min(max(1, _BYTES // max(1, work + math.prod(images.shape[1:]))), _BATCH)
    for batch in part.stream(images, rows, step):
        yield dict(zip(part.outputs, batch.values, strict=True))
