"""Features of images, kept on the disk.

    <cache>/features/<hash>/<hash>.npz    digests uint8[N, 32], features float32[N, D],
                                          sources uint8[N, 32], zeros where unknown
    <cache>/features/<hash>/about.json    whose they are, for `opsin.data.cache_contents`

The folder's hash says which network, preparation, view and values they are of. Images are known by
their prepared pixels, and by their files' bytes with what prepares these: whoever has the bytes
need not decode them.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import StorageError
from opsin.core.metadata import Preparation
from opsin.core.storage import atomic_file, write_json
from opsin.core.stored_arrays import StoredArrays
from opsin.data.cache import ABOUT, cache_root, index_key

#: Folder of all features within the cache.
FOLDER: Final = "features"
# Bytes of files that are held open for the next look.
_HELD: Final = 32 << 20
_ROWS: Final = 256

#: How an image is known: by its prepared pixels, or by its file with what prepares it.
By = Literal["digests", "sources"]
Digests = NDArray[np.uint8]


def source_keys(digests: Digests, preparation: Preparation) -> Digests:
    """Return what files are known by, ``uint8[N, 32]``."""
    like = preparation
    bits = () if like.bits is None else (like.bits,)
    made = index_key(FOLDER, like.height, like.width, like.channels, like.resize, *bits).encode()
    keys = np.empty((len(digests), 32), np.uint8)
    for row, digest in enumerate(digests):
        keys[row] = np.frombuffer(hashlib.sha256(made + digest.tobytes()).digest(), np.uint8)
    return keys


class KnownFeatures(NamedTuple):
    """Features that were found."""

    digest: bytes
    features: NDArray[np.float32]  # float32[D]


class _Index(NamedTuple):
    """Beginnings of what images are known by, sorted, and where they are: 16 bytes an image."""

    names: NDArray[np.uint64]
    places: NDArray[np.int64]  # file * _ROWS + row


class FeatureCache:
    """Features of one network, seen in one way. What is damaged counts as unknown."""

    def __init__(self, key: str, units: int, what: str = "") -> None:
        self.folder = cache_root() / FOLDER / key
        self._units, self._what = units, what
        #: Why features could not be kept, where the disk refused the last of them.
        self.refused: str | None = None
        self._files: list[Path] = []
        self._listing = threading.Lock()
        self._read = lru_cache(max(2, _HELD // (4 * units * _ROWS)))(self._stored)

    def fill(self, found: NDArray[np.float32], digests: Digests) -> NDArray[np.int64]:
        """Fill in what is known of many images, and return the rows that are not."""
        rows: dict[bytes, list[int]] = {}
        for row, digest in enumerate(map(bytes, digests)):
            rows.setdefault(digest, []).append(row)
        missing = np.ones(len(digests), bool)
        for path in sorted(self.folder.glob("*.npz")):
            with contextlib.suppress(Exception):
                with StoredArrays(path) as arrays:  # there may be millions that are not wanted
                    if rows.keys().isdisjoint(map(bytes, arrays.read("digests"))):
                        continue
                own, _, features = self._stored(path)
                for digest, values in zip(map(bytes, own), features, strict=True):
                    wanted = rows.get(digest, [])
                    found[wanted] = values
                    missing[wanted] = False
        return np.flatnonzero(missing)

    def knows(self, digests: Digests) -> NDArray[np.bool_]:
        """Tell which images' features are known, ``bool[N]``, without reading any."""
        with self._listing:
            names = self._index["digests"].names
        return np.isin(np.ascontiguousarray(digests[:, :8]).view(np.uint64).ravel(), names)

    def find(self, key: bytes, by: By) -> KnownFeatures | None:
        """Return the features of one image; ``None`` where they are unknown."""
        with self._listing:
            names, places = self._index[by]
        name = np.frombuffer(key, np.uint64, 1)[0]
        first, last = np.searchsorted(names, name), np.searchsorted(names, name, "right")
        for place in places[first:last]:
            file, row = divmod(int(place), _ROWS)
            with contextlib.suppress(Exception):
                digests, sources, features = self._read(self._files[file])
                if (digests if by == "digests" else sources)[row].tobytes() == key:
                    # Copies, since these would keep all of the file in memory.
                    return KnownFeatures(digests[row].tobytes(), features[row].copy())
        return None

    def keep(
        self, digests: Digests, features: NDArray[np.float32], sources: Digests | None = None
    ) -> None:
        """Keep the features of some images, 256 at most."""
        if sources is None:
            sources = np.zeros_like(digests)
        self.refused = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / ABOUT).exists():
                write_json(self.folder / ABOUT, {"what": self._what})
            name = hashlib.sha256(digests.tobytes() + sources.tobytes()).hexdigest()[:32]
            with atomic_file(self.folder / f"{name}.npz") as scratch, scratch.open("wb") as file:
                np.savez(file, digests=digests, features=features, sources=sources)
        except (StorageError, OSError) as error:
            self.refused = getattr(error, "received", None) or str(error)

    @cached_property
    def _index(self) -> dict[By, _Index]:
        parts: dict[By, list[NDArray[np.uint64]]] = {"digests": [], "sources": []}
        places: dict[By, list[NDArray[np.int64]]] = {"digests": [], "sources": []}
        for path in sorted(self.folder.glob("*.npz")):
            with contextlib.suppress(Exception):
                with StoredArrays(path) as arrays:
                    names: dict[By, Digests] = {by: arrays.read(by) for by in parts}
                if not _are_names(names["digests"], names["sources"]):
                    continue
                here = np.arange(len(names["digests"])) + len(self._files) * _ROWS
                self._files.append(path)
                for by, digests in names.items():
                    known = digests.any(axis=1)
                    begin = np.ascontiguousarray(digests[known, :8])
                    parts[by].append(begin.view(np.uint64).ravel())
                    places[by].append(here[known])
        index: dict[By, _Index] = {}
        for by, found in parts.items():
            joined = np.concatenate([*found, np.zeros(0, np.uint64)])
            order = np.argsort(joined, kind="stable")
            where = np.concatenate([*places[by], np.zeros(0, np.int64)])
            index[by] = _Index(joined[order], where[order])
        return index

    def _stored(self, path: Path) -> tuple[Digests, Digests, NDArray[np.float32]]:
        with StoredArrays(path) as arrays:
            digests, sources = arrays.read("digests"), arrays.read("sources")
            features = arrays.read("features")
        fits = features.shape == (len(digests), self._units) and features.dtype == np.float32
        if not (fits and _are_names(digests, sources)):
            raise ValueError(f"{path} holds other features")
        return digests, sources, features


def _are_names(digests: Digests, sources: Digests) -> bool:
    shape = (len(digests), 32)
    kinds = {digests.dtype, sources.dtype} == {np.dtype(np.uint8)}
    return kinds and digests.shape == sources.shape == shape and len(digests) <= _ROWS
