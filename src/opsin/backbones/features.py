"""Features of images, computed once: other labels, splits and heads compute nothing again.

    <cache>/features/<hash>/<hash>.npz    digests uint8[N, 32], features float32[N, D]
    <cache>/features/<hash>/about.json    their origin, for `opsin.data.cache_contents`

The folder's hash is of network, preparation, view and values. Images are known by their prepared
pixels. What was computed before a crash or Ctrl-C stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import FeatureGraph, View
from opsin.core.errors import StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import atomic_file, write_json
from opsin.core.stored_arrays import StoredArrays
from opsin.data.cache import ABOUT, cache_root, new_array
from opsin.data.lazy_images import THREADS, Images
from opsin.onnx_files.postprocessing import IMAGES
from opsin.runtime.providers import CPU, Session, choose

#: Images of one file of features: the most that a crash loses.
KEPT: Final = 256
#: Images computed at once, always: of another number some networks make other last bits. On the CPU
#: fewer: their maps stay in its caches, and take a tenth less time (EfficientNet-Lite2, two cores).
BATCH: Final = 8
_ON_CPU: Final = 2
# Most numbers of an array that is held in memory: 128 MB.
_IN_MEMORY: Final = 32 << 20

Digests = NDArray[np.uint8]


class FeatureCache:
    """Features of one network and view. Damaged files count as missing."""

    def __init__(self, key: str, units: int, what: str = "") -> None:
        self.folder = cache_root() / "features" / key
        self._units, self._what = units, what
        #: Why the last features could not be written, if so.
        self.refused: str | None = None

    def add_to(self, target: NDArray[np.float32], digests: Digests) -> NDArray[np.int64]:
        """Add the known features of many images, and return the rows of the others."""
        rows: dict[bytes, list[int]] = {}
        for row, digest in enumerate(map(bytes, digests)):
            rows.setdefault(digest, []).append(row)
        missing = np.ones(len(digests), bool)
        for path in sorted(self.folder.glob("*.npz")):
            with contextlib.suppress(Exception), StoredArrays(path) as arrays:
                stored = _checked(arrays.read("digests"))
                if rows.keys().isdisjoint(map(bytes, stored)):  # there may be millions of others
                    continue
                features = arrays.read("features")
                if features.shape != (len(stored), self._units) or features.dtype != np.float32:
                    continue
                # Taken out, so that an image in two files is added once.
                found = [rows.pop(digest, []) for digest in map(bytes, stored)]
                for same, values in zip(found, features, strict=True):
                    for row in same:
                        target[row] += values
                missing[list(itertools.chain(*found))] = False
        return np.flatnonzero(missing)

    def knows(self, digests: Digests) -> NDArray[np.bool_]:
        """Tell which images' features are known, ``bool[N]``, without reading any."""
        return np.isin(_beginnings(digests), self._known)

    def keep(self, digests: Digests, features: NDArray[np.float32]) -> None:
        """Keep the features of some images, 256 at most."""
        self.refused = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / ABOUT).exists():
                write_json(self.folder / ABOUT, {"what": self._what})
            name = hashlib.sha256(digests.tobytes()).hexdigest()[:32]
            with atomic_file(self.folder / f"{name}.npz") as scratch, scratch.open("wb") as file:
                np.savez(file, digests=digests, features=features)
        except (StorageError, OSError) as error:
            self.refused = getattr(error, "message", None) or str(error)

    @cached_property
    def _known(self) -> NDArray[np.uint64]:
        """First bytes of images' digests."""
        names = [np.zeros(0, np.uint64)]
        for path in self.folder.glob("*.npz"):
            with contextlib.suppress(Exception), StoredArrays(path) as arrays:
                names.append(_beginnings(_checked(arrays.read("digests"))))
        return np.concatenate(names)


def _beginnings(names: Digests) -> NDArray[np.uint64]:
    return np.ascontiguousarray(names[:, :8]).view(np.uint64).ravel()


def _checked(digests: Digests) -> Digests:
    if digests.dtype != np.uint8 or digests.shape[1:] != (32,) or len(digests) > KEPT:
        raise ValueError("no digests of images")
    return digests


class Extractor:
    """Computes a network's features of images in one view."""

    def __init__(
        self,
        backbone: Backbone,
        shape: tuple[int, int, int],
        view: View,
        device: str = CPU,
        watcher: Watcher = SILENT,
    ) -> None:
        graph = FeatureGraph(backbone, shape, (view,))
        #: Numbers of an image, D.
        self.units = graph.units
        self._content, self._output = graph.content(), graph.outputs[0]
        self._device, self._watcher = choose(device), watcher
        self._opening = threading.Lock()
        # Features of the CPU are the same bit for bit: those of other devices are kept apart.
        where = "" if self._device == CPU else f" on {self._device.partition(':')[0]}"
        key = hashlib.sha256(self._content + where.encode()).hexdigest()[:32]
        what = f"{backbone.name}, image {view}{where}, {self.units:,} numbers"
        #: Features computed before.
        self.cache = FeatureCache(key, self.units, what)

    def rows_of(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of some images, ``float32[N, D]``."""
        features = np.empty((len(images), self.units), np.float32)
        size = _ON_CPU if self._device == CPU else BATCH
        for start in range(0, len(images), size):
            with self._opening:
                session = self._session
            batch = images[start : start + size]
            count = len(batch)
            if count < size:
                batch = np.concatenate([batch, np.repeat(batch[-1:], size - count, axis=0)])
            (values,) = session.run([self._output], {IMAGES: batch})
            features[start : start + count] = values[:count]
        return features

    @cached_property
    def _session(self) -> Session:
        return Session(self._content, self._device, threads=1, watcher=self._watcher)


def compute(
    backbone: Backbone,
    images: Images,
    digests: Digests,
    views: tuple[View, ...],
    *,
    watcher: Watcher,
    stop: threading.Event | None = None,
    kept: bool = True,
    device: str = CPU,
) -> NDArray[np.float32]:
    """Return the mean over views of images' features, ``float32[N, D]``, cached or computed."""
    stop = stop or threading.Event()
    _, *shape = images.shape
    extractors = [Extractor(backbone, tuple(shape), view, device, watcher) for view in views]
    features = room_for((len(images), extractors[0].units))
    missing = np.zeros((len(images), len(views)), bool)
    for at, extractor in enumerate(extractors):
        missing[extractor.cache.add_to(features, digests), at] = True
    rows, done = np.flatnonzero(missing.any(axis=1)), 0

    def work(part: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        pixels = images[part]
        return [of.rows_of(pixels[missing[part, at]]) for at, of in enumerate(extractors)]

    if len(rows):
        watcher.begin("Features", len(rows), "images")
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(rows), KEPT):
            chunk = rows[start : start + KEPT]
            parts = [chunk[at : at + BATCH] for at in range(0, len(chunk), BATCH)]
            computed = []
            for part, found in zip(parts, pool.map(work, parts), strict=True):
                for at, values in enumerate(found):
                    features[part[missing[part, at]]] += values
                computed.append(found)
                done += len(part)
                watcher.advance(done)
                if stop.is_set():
                    chunk = chunk[: done - start]
                    break
            for at, extractor in enumerate(extractors if kept else ()):
                new = chunk[missing[chunk, at]]
                if len(new):
                    extractor.cache.keep(digests[new], np.concatenate([of[at] for of in computed]))
            if stop.is_set():
                raise KeyboardInterrupt("Ctrl-C while features were computed")
    if len(rows):
        watcher.end()
    features /= len(views)
    return features


def room_for(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return zeros; a large array is mapped to a deleted file, which goes with it."""
    if math.prod(shape) > _IN_MEMORY:
        with contextlib.suppress(OSError):  # the memory has to do
            root = cache_root()
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, ignore_cleanup_errors=True) as folder:
                path = Path(folder) / "array.npy"
                new_array(path, np.float32, shape)
                mapped: NDArray[np.float32] = np.load(path, mmap_mode="r+", allow_pickle=False)
                return mapped
    return np.zeros(shape, np.float32)
