"""Every layer's values, for one picture or many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError
from opsin.data.lazy_images import Images
from opsin.data.spelling import closest_first
from opsin.inspection.layers import LayerView, view_of
from opsin.inspection.network import Network
from opsin.inspection.part import Part, up_to
from opsin.runtime.classifier import Classifier

# Bytes of values and pixels that a batch may come to; all layers of 256 photographs at once would
# be gigabytes.
_BYTES: Final = 32 << 20
_BATCH: Final = 256


def layer_views(
    classifier: Classifier, pixels: NDArray[np.uint8], *, names: Sequence[str] | None = None
) -> list[LayerView]:
    """Return what layers make of a picture, with their figures.

    Args:
        classifier: An open classifier.
        pixels: A prepared picture, ``uint8[H, W, C]``, such as `Prediction.pixels`.
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
    check_names(classifier, wanted)
    values = classifier.layers(pixels[None], wanted)
    return [view_of(layers[name], np.asarray(values[name][0], np.float32)) for name in wanted]


def check_names(
    classifier: Classifier, names: Sequence[str], *, further: Sequence[str] = ()
) -> None:
    """Refuse names that no layer has.

    Args:
        classifier: An open classifier.
        names: What was asked for.
        further: Other names that may be asked for.

    Raises:
        ModelFileError: There is no such layer; the error lists those there are, the closest first.
    """
    known = [layer.name for layer in classifier.metadata.layers] + list(further)
    for name in names:
        if name not in known:
            there = closest_first(known, name)
            raise ModelFileError(f"a layer among {there}", f"got {name!r}", "Choose there.")


def iter_batches(
    classifier: Classifier,
    network: Network,
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
        images: Prepared pictures, ``uint8[N, H, W, C]``, read block by block.
        names: Names of layers or of the file's outputs.
        rows: Which pictures (default: all, in their order).
    """
    part = Part(up_to(network, names))
    sizes = {layer.name: 4 * math.prod(layer.shape) for layer in classifier.metadata.layers}
    # The layers that are not fetched are computed as well, two or three of them at a time.
    work = sum(sizes.get(name, 0) for name in names) + 3 * max(sizes.values(), default=0)
    step = min(max(1, _BYTES // max(1, work + math.prod(images.shape[1:]))), _BATCH)
    for batch in part.stream(images, rows, step):
        yield dict(zip(part.outputs, batch.values, strict=True))
