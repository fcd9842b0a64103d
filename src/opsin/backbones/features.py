"""Features of images, computed once: other labels, splits and heads compute nothing again.

What was computed before a crash or Ctrl-C stays (`opsin.backbones.feature_cache`).
"""

from __future__ import annotations

import contextlib
import hashlib
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
from opsin.backbones.feature_cache import FeatureCache
from opsin.backbones.feature_graph import FeatureGraph, View
from opsin.core.events import SILENT, Watcher
from opsin.data.cache import cache_root, new_array
from opsin.data.lazy_images import THREADS, Images
from opsin.onnx_files.postprocessing import IMAGES
from opsin.runtime.providers import CPU, Session, choose

#: Images whose features are kept in one file: what a crash may cost.
KEPT: Final = 256
# Numbers of all images that are held in memory: 256 MB.
_IN_MEMORY: Final = 64 << 20
#: Images computed at once, always: of another number some networks make other last bits.
BATCH: Final = 8


class Extractor:
    """Computes a network's features of images that are looked at in one way."""

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
        # Those of the CPU are the same bit for bit, and stay so: others' are kept apart.
        where = "" if self._device == CPU else f" on {self._device.partition(':')[0]}"
        #: What is known.
        self.cache = FeatureCache(
            hashlib.sha256(self._content + where.encode()).hexdigest()[:32],
            self.units,
            f"{backbone.name}, image {view}{where}, {self.units:,} numbers",
        )

    def rows_of(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of some images, ``float32[N, D]``."""
        with self._opening:
            session = self._session
        features = np.empty((len(images), self.units), np.float32)
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            missing = BATCH - len(batch)
            if missing:
                batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            (values,) = session.run([self._output], {IMAGES: batch})
            features[start : start + BATCH] = values[: BATCH - missing]
        return features

    @cached_property
    def _session(self) -> Session:
        return Session(self._content, self._device, threads=1, watcher=self._watcher)


def compute(
    backbone: Backbone,
    images: Images,
    digests: NDArray[np.uint8],
    views: tuple[View, ...],
    *,
    watcher: Watcher,
    stop: threading.Event | None = None,
    sources: NDArray[np.uint8] | None = None,
    kept: bool = True,
    device: str = CPU,
) -> NDArray[np.float32]:
    """Return the features of images, ``float32[N, V, D]``, from the cache where they are known."""
    height, width, channels = images.shape[1:]
    shape = (height, width, channels)
    extractors = [Extractor(backbone, shape, view, device, watcher) for view in views]
    found = _room_for((len(images), len(views), extractors[0].units))
    missing = np.zeros((len(images), len(views)), bool)
    for place, extractor in enumerate(extractors):
        missing[extractor.cache.fill(found[:, place], digests), place] = True
    rows = np.flatnonzero(missing.any(axis=1))
    if not len(rows):
        return found

    def work(part: NDArray[np.int64]) -> None:
        pixels = images[part]
        for place, extractor in enumerate(extractors):
            wanted = missing[part, place]
            if wanted.any():
                found[part[wanted], place] = extractor.rows_of(pixels[wanted])

    watcher.begin("Features", len(rows), "images")
    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(rows), KEPT):
            chunk = rows[start : start + KEPT]
            parts = [chunk[at : at + BATCH] for at in range(0, len(chunk), BATCH)]
            for part, _ in zip(parts, pool.map(work, parts), strict=True):
                done += len(part)
                watcher.advance(done)
                if stop is not None and stop.is_set():
                    chunk = chunk[: done - start]
                    break
            for place, extractor in enumerate(extractors if kept else ()):
                new = chunk[missing[chunk, place]]
                if len(new):
                    known = None if sources is None else sources[new]
                    extractor.cache.keep(digests[new], found[new, place], known)
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt("Ctrl-C while features were computed")
    watcher.end()
    return found


def _room_for(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an array; a large one lies in a file without a name, which goes when it does."""
    if math.prod(shape) > _IN_MEMORY:
        with contextlib.suppress(OSError):  # the memory has to do
            cache_root().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                dir=cache_root(), ignore_cleanup_errors=True
            ) as folder:
                place = Path(folder) / "features.npy"
                new_array(place, np.float32, shape)
                mapped: NDArray[np.float32] = np.load(place, mmap_mode="r+", allow_pickle=False)
                return mapped
    return np.empty(shape, np.float32)
