"""Activations of layers for an image: every value, and figures of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

import numpy as np

from opsin.core.arrays import Doubles, Floats, Ints, Pixels
from opsin.core.errors import ModelFileError
from opsin.core.metadata import Layer
from opsin.data.spelling import check_choices
from opsin.onnx_files.operators import traits_of
from opsin.runtime.classifier import Classifier

# Share of the layer's largest |value| below which a smooth activation's value counts as none.
_NEAR: Final = 0.01
_BINS: Final = 32


@dataclass(frozen=True)
class LayerView:
    """A layer's values for one image, and figures of those that are finite."""

    JSON: ClassVar = (
        "name kind mean deviation minimum maximum not_finite shape=values.shape "
        "sparsity=_sparsity histogram=_histogram strength units=_units"
    )
    strength: ClassVar = "mean of |value| over the unit's places"
    layer: Layer
    values: Floats = field(repr=False)  # [C, H, W] or [D]
    mean: float
    deviation: float
    minimum: float
    maximum: float
    sparsity: float  # share of values that say nothing, 0 to 1, and which these are
    sparse: Literal["exactly 0", "nearer to 0 than 1% of the largest"]
    counts: Ints = field(repr=False)  # of the histogram, [32], and its edges
    edges: Doubles = field(repr=False)
    strengths: Doubles = field(repr=False)  # mean of |value| over the unit's places
    order: Ints = field(repr=False)  # units, the strongest first
    not_finite: int = 0  # values that are infinite or no number

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def kind(self) -> str:
        """The kind of layer, such as ``Conv 3×3 same``."""
        return self.layer.kind

    @property
    def _sparsity(self) -> dict[str, object]:
        return {"share": self.sparsity, "of": f"values {self.sparse}"}

    @property
    def _histogram(self) -> dict[str, object]:
        return {"counts": self.counts, "edges": self.edges}

    @property
    def _units(self) -> list[dict[str, object]]:
        return [{"unit": unit, "strength": self.strengths[unit]} for unit in self.order]


def view_of(layer: Layer, values: Floats) -> LayerView:
    """Measure a layer's output for one image, ``float32[C, H, W]`` or ``float32[D]``."""
    all_finite = np.isfinite(values)
    known = values[all_finite].astype(np.float64)
    if not known.size:
        known = np.zeros(1)
    size = np.abs(np.where(all_finite, values, 0).astype(np.float64))
    strengths = size.reshape(len(values), -1).mean(axis=1)
    smooth = traits_of(layer.op).smooth
    limit = _NEAR * size.max(initial=0.0) if smooth else 0.0
    quiet = size < limit if limit > 0 else size == 0
    counts, edges = np.histogram(known, _BINS)
    return LayerView(
        layer,
        values,
        float(known.mean()),
        float(known.std()),
        float(known.min()),
        float(known.max()),
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
    classifier: Classifier, pixels: Pixels, *, names: Sequence[str] | None = None
) -> list[LayerView]:
    """The activations of layers, by default all, for an image ``uint8[H, W, C]``."""
    layers = {layer.name: layer for layer in classifier.metadata.layers}
    wanted = list(layers) if names is None else list(dict.fromkeys(names))
    check_choices("layer", wanted, list(layers), ModelFileError)
    values = classifier.layers(pixels[None], wanted)
    return [view_of(layers[name], np.asarray(values[name][0], np.float32)) for name in wanted]
