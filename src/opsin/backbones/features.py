"""Features of images, computed once and kept.

    <cache>/features/<hash>/<hash>.npz    digests uint8[N, 32], features float32[N, V, D]

The folder's hash says which network, preparation, views and values they are of; images are known
by their prepared pixels. So other labels, splits and heads compute nothing again, and more images
only themselves. What was computed before a crash or Ctrl-C stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import FeatureGraph, View
from opsin.core.errors import StorageError
from opsin.core.events import Watcher
from opsin.core.storage import atomic_file
from opsin.core.stored_arrays import StoredArrays
from opsin.data.cache import cache_root
from opsin.data.lazy_images import Images
from opsin.onnx_files.postprocessing import IMAGES

# Images whose features are kept in one file: what a crash may cost.
_KEPT: Final = 256
# Images computed at once.
_BATCH: Final = 8


def compute(
    backbone: Backbone,
    images: Images,
    digests: NDArray[np.uint8],
    views: tuple[View, ...],
    *,
    watcher: Watcher,
    stop: threading.Event | None = None,
) -> NDArray[np.float32]:
    """Return the features of images, from the cache where they are known.

    Args:
        backbone: The network.
        images: Prepared images, ``uint8[N, H, W, C]``.
        digests: SHA-256 of each one's pixels, ``uint8[N, 32]``.
        views: How each is looked at.
        watcher: Receives how far the work is.
        stop: Ends the work early, by `KeyboardInterrupt`.

    Returns:
        ``float32[N, V, D]``
    """
    height, width, channels = images.shape[1:]
    graph = FeatureGraph(backbone, (height, width, channels), views)
    content = graph.content()
    folder = cache_root() / "features" / hashlib.sha256(content).hexdigest()[:32]
    found = np.empty((len(images), len(views), graph.units), np.float32)
    missing = _fill(found, digests, folder)
    if not len(missing):
        return found
    session = session_of(content)
    watcher.begin("Features", len(missing), "images")
    for start in range(0, len(missing), _KEPT):
        kept = missing[start : start + _KEPT]
        for place in range(0, len(kept), _BATCH):
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt("Ctrl-C while features were computed")
            part = kept[place : place + _BATCH]
            values = session.run(graph.outputs, {IMAGES: images[part]})
            found[part] = np.stack(values, axis=1)
            watcher.advance(start + place + len(part))
        _keep(folder, digests[kept], found[kept])
    watcher.end()
    return found


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    """Open a feature graph of ours, on all cores."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _fill(
    found: NDArray[np.float32], digests: NDArray[np.uint8], folder: Path
) -> NDArray[np.int64]:
    """Fill in what is known, and return the rows that are not."""
    known: dict[bytes, NDArray[np.float32]] = {}
    for own, features in _stored(folder, found.shape[1:]):
        known.update(zip(map(bytes, own), features, strict=True))
    missing: dict[bytes, int] = {}
    for row, digest in enumerate(map(bytes, digests)):
        if digest in known:
            found[row] = known[digest]
        else:
            missing[digest] = row
    # Copies are few, and each is computed for itself.
    rows = [row for row, digest in enumerate(map(bytes, digests)) if digest in missing]
    return np.array(rows, np.int64)


def _stored(
    folder: Path, shape: tuple[int, ...]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Yield digests and features of each file; what is damaged is passed over."""
    for path in sorted(folder.glob("*.npz")):
        with contextlib.suppress(Exception):
            with StoredArrays(path) as arrays:
                own, features = arrays.read("digests"), arrays.read("features")
            fits = own.shape == (len(features), 32) and features.shape[1:] == shape
            if fits and own.dtype == np.uint8 and features.dtype == np.float32:
                yield own, features


def _keep(folder: Path, digests: NDArray[np.uint8], features: NDArray[np.float32]) -> None:
    # Where the cache cannot be written they are computed again the next time.
    with contextlib.suppress(StorageError, OSError):
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(digests.tobytes()).hexdigest()[:32]
        with atomic_file(folder / f"{name}.npz") as scratch, scratch.open("wb") as file:
            np.savez(file, digests=digests, features=features)
