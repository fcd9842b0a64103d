"""What pixels become where a part of an image is hidden: the mean of the training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import LayerOp

if TYPE_CHECKING:
    from opsin.runtime.classifier import Classifier


def training_mean(
    classifier: Classifier, weights: Mapping[str, NDArray[Any]] | None = None
) -> NDArray[np.float64] | None:
    """The mean pixel of the training images, ``float64[C]``; ``None`` where it is not known."""
    if weights and "input.mean" in weights:
        return np.asarray(weights["input.mean"], np.float64).ravel()
    first, like = next(iter(classifier.metadata.layers), None), classifier.metadata.preparation
    if first is None or first.kind != LayerOp.NORMALISE:
        return None
    ends = np.zeros((2, like.height, like.width, like.channels), np.uint8)
    ends[1] = 255
    try:
        values = classifier.layers(ends, [first.name])[first.name].astype(np.float64)
    except Exception:  # noqa: BLE001  where whole numbers are computed with, that layer is gone
        return None
    if values.shape != (2, like.channels, like.height, like.width):
        return None
    black, white = values.mean(axis=(2, 3))
    # Where black stays 0, the layer only scales: the file does not hold the mean.
    return np.asarray(255 * black / (black - white)) if black.any() else None


def fill_of(pixels: NDArray[np.uint8], mean: NDArray[np.float64] | None) -> NDArray[np.uint8]:
    """What hidden pixels of an image become, ``uint8[C]``; without a mean, that of the image."""
    own = pixels.mean(axis=(0, 1)) if mean is None else np.broadcast_to(mean, pixels.shape[2:])
    fill: NDArray[np.uint8] = np.clip(np.round(own), 0, 255).astype(np.uint8)
    return fill
