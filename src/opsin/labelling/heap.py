"""A heap of photographs without classes, and their features as points."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import usual_preparation
from opsin.backbones.features import BATCH, KEPT, Extractor, compute, room_for
from opsin.classical.heads import Projection, rooted
from opsin.core.arrays import Floats, Ints
from opsin.core.errors import ImageError, SourceError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import file_stamp
from opsin.core.storage import atomic_file
from opsin.core.stored_arrays import StoredArrays
from opsin.data.cache import as_keys, cache_root, digest_rows
from opsin.data.image_engine import ImageSteps, answer_images
from opsin.data.image_stream import Listed, ListedImage, Stream
from opsin.data.images import read_image
from opsin.data.lazy_images import THREADS

# Rows whose features are turned into points at once.
_BLOCK: Final = 2_048


@dataclass(frozen=True, eq=False)
class Heap:
    """Photographs and what a network sees in them."""

    source: str  # what the user called it
    names: Sequence[str]  # each photograph's name: its path below the source
    images: Sequence[Listed]  # what to open for each
    digests: NDArray[np.uint8]  # SHA-256 of the prepared pixels: ``uint8[N, 32]``
    points: Floats  # features as directions: ``float32[N, D]``, rows of length 1
    # what made features points; ``None`` where they were not made of photographs
    projection: Projection | None = None
    unreadable: Sequence[tuple[str, str]] = ()  # name and reason of each file that is left out

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def row_named(self) -> dict[str, int]:
        """The row of each name."""
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def first(self) -> Ints:
        """The row of the first photograph with the same pixels, for each: ``int64[N]``."""
        _, first, of = np.unique(as_keys(self.digests), return_index=True, return_inverse=True)
        return np.asarray(first[of.ravel()], np.int64)

    @cached_property
    def row_of(self) -> dict[bytes, int]:
        """The first row of each digest."""
        return {self.digests[row].tobytes(): row for row in np.unique(self.first).tolist()}

    @cached_property
    def random_rows(self) -> Ints:
        """All photographs, copies once, in an order that is random and stays when others join."""
        rows = np.unique(self.first)
        keys = [hashlib.blake2b(b"random" + self.digests[row].tobytes()).digest() for row in rows]
        return np.asarray(rows[sorted(range(len(rows)), key=keys.__getitem__)], np.int64)


# A photograph's name, and its file's time of change and size.
_File = tuple[str, int, int]


def read_heap(
    stream: Stream,
    network: Backbone,
    *,
    projection: Projection | None = None,
    watcher: Watcher = SILENT,
) -> Heap:
    """Read a source's photographs and compute their features, those that are new or changed.

    With another heap's ``projection`` their points are compared with that heap's, and nothing but
    features is kept. Stopped, it keeps what is computed.
    """
    reader, images = _Reader(network, watcher), list(stream)
    kept = None if projection else _Kept(f"{stream.source}\0{reader.cache.folder.name}")
    files, known = list(map(_file_of, images)), kept.photographs() if kept else {}
    digests = {row: known[file] for row, file in enumerate(files) if file in known}
    unreadable: list[tuple[str, str]] = []
    rows = [row for row in range(len(images)) if row not in digests]
    try:
        for row, answer in reader.read(images, rows):
            if isinstance(answer, ImageError):
                name = images[row].name
                unreadable.append((name, answer.message.removeprefix(f"{name}: ")))
                if kept is None:  # else the heap's own report names it
                    watcher.note(f"left out: {answer.message}")
            else:
                digests[row] = answer
    finally:
        if kept and rows:
            kept.keep_photographs({file: digests[row] for row in digests if (file := files[row])})
    if not digests:
        why = f"None of {len(images):,} images can be read" if images else ""
        raise SourceError(why or f"{stream.source} holds no images")
    taken = sorted(digests)
    found = np.stack([digests[row] for row in taken])
    points = kept.points(found) if kept else None
    if points is None:
        points = _points(network, found, reader.preparation.shape, projection, watcher)
        if kept:
            points = kept.keep_points(found, *points)
    names, listed = zip(*((images[row].name, images[row].image) for row in taken), strict=True)
    return Heap(stream.source, names, listed, found, *points, unreadable)


class _Reader:
    """Decodes photographs and keeps features that are not cached yet."""

    def __init__(self, network: Backbone, watcher: Watcher) -> None:
        self.preparation = usual_preparation(network)
        self._extractor = Extractor(network, self.preparation.shape, "whole", watcher=watcher)
        self.cache, self._watcher = self._extractor.cache, watcher

    def read(
        self, images: Sequence[ListedImage], rows: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8] | ImageError]]:
        """Yield each photograph's digest, or why it cannot be read."""
        pixels = int(np.prod(self.preparation.shape))
        steps = ImageSteps(self._prepare, self._compute, pixels, BATCH, THREADS)
        new: list[tuple[NDArray[np.uint8], Floats]] = []
        answers = answer_images(steps, (images[row] for row in rows))
        self._watcher.begin("Photographs", len(rows), "images")
        try:
            with closing(answers):
                for done, (row, (_, answer)) in enumerate(zip(rows, answers, strict=True), start=1):
                    if isinstance(answer, ImageError):
                        yield row, answer
                    else:
                        yield row, answer[0]
                        new += [(answer[0], answer[1])] if answer[1] is not None else []
                    if len(new) == KEPT:
                        self._keep(new)
                    self._watcher.advance(done)
        finally:
            self._keep(new)
            self._watcher.end()

    def _prepare(self, image: ListedImage) -> NDArray[np.uint8]:
        return read_image(image.image, self.preparation, image.name)

    def _compute(
        self, batch: list[NDArray[np.uint8]]
    ) -> list[tuple[NDArray[np.uint8], Floats | None]]:
        pixels = np.stack(batch)
        digests = digest_rows(pixels)
        missing = np.flatnonzero(~self.cache.knows(digests)).tolist()
        found = dict(zip(missing, self._extractor.rows_of(pixels[missing]), strict=True))
        return [(digest, found.get(row)) for row, digest in enumerate(digests)]

    def _keep(self, new: list[tuple[NDArray[np.uint8], Floats]]) -> None:
        if new:
            digests, features = zip(*new, strict=True)
            self.cache.keep(np.stack(digests), np.stack(features))
            new.clear()
        if self.cache.refused:
            raise StorageError(f"Features cannot be kept: {self.cache.refused}")


def _points(
    network: Backbone,
    digests: NDArray[np.uint8],
    shape: tuple[int, int, int],
    projection: Projection | None,
    watcher: Watcher,
) -> tuple[Floats, Projection]:
    """The cached features of photographs as directions, and what made them that."""
    no_images = np.broadcast_to(np.uint8(0), (len(digests), *shape))  # all features are known
    features = compute(network, no_images, digests, ("whole",), watcher=watcher)
    if projection is None:
        some = np.linspace(0, len(digests) - 1, min(len(digests), 3_000)).round().astype(np.int64)
        roots = rooted(features[some], network.units)
        projection = Projection.fit(roots, np.arange(len(some)), network.units)
    points = room_for((len(digests), len(projection.weight) + 1))
    for start in range(0, len(digests), _BLOCK):
        points[start : start + _BLOCK] = projection.transform(features[start : start + _BLOCK])
    return points, projection


def _file_of(image: ListedImage) -> _File | None:
    """A photograph's file as it is now; ``None`` if it is no file of its own."""
    if image.path is None or image.problem is not None:
        return None
    stamp = file_stamp(image.path)
    return image.name, stamp.mtime_ns, stamp.size


class _Kept:
    """What the cache keeps of a source between readings; damage is nothing kept.

    <cache>/heaps/<hash>/photographs.npz    names, stamps and digests of the files last read
    <cache>/heaps/<hash>/projection.npz     weight and blocks, and the hash of the digests
    <cache>/heaps/<hash>/points.npy         their points
    """

    def __init__(self, key: str) -> None:
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._folder = cache_root() / "heaps" / name
        self._points = self._folder / "points.npy"

    def photographs(self) -> dict[_File | None, NDArray[np.uint8]]:
        """The digest of each file of the last reading."""
        with contextlib.suppress(Exception), self._opened("photographs") as arrays:
            names = arrays.read("names").tobytes().decode("utf-8", "surrogatepass").split("\0")
            stamps, digests = arrays.read("stamps").tolist(), arrays.read("digests")
            if digests.dtype == np.uint8 and digests.shape == (len(names), 32):
                found = zip(names, stamps, digests, strict=True)
                return {
                    (name, int(when), int(size)): digest for name, (when, size), digest in found
                }
        return {}

    def keep_photographs(self, known: dict[_File, NDArray[np.uint8]]) -> None:
        """Keep them; where the disk is full, all are read again next time."""
        if known:
            text = "\0".join(name for name, *_ in known).encode("utf-8", "surrogatepass")
            self._write(
                "photographs",
                names=np.frombuffer(text, np.uint8),
                stamps=np.array([stamp for _, *stamp in known], np.int64),
                digests=np.stack([*known.values()]),
            )

    def points(self, digests: NDArray[np.uint8]) -> tuple[Floats, Projection] | None:
        """The points of exactly these photographs, mapped to their file, if they are kept."""
        with contextlib.suppress(Exception), self._opened("projection") as arrays:
            weight, blocks = arrays.read("weight"), arrays.read("blocks").tolist()
            points: Floats = np.load(self._points, mmap_mode="r", allow_pickle=False)
            same = arrays.read("of").tobytes() == digest_rows(digests.reshape(1, -1)).tobytes()
            sound = weight.shape[1:] == (sum(blocks),) and weight.dtype == np.float32
            shape = len(digests), len(weight) + 1
            if same and sound and points.dtype == np.float32 and points.shape == shape:
                return points, Projection(weight, tuple(blocks))
        return None

    def keep_points(
        self, digests: NDArray[np.uint8], points: Floats, projection: Projection
    ) -> tuple[Floats, Projection]:
        """Keep points; return them as they are read from now on."""
        with contextlib.suppress(OSError, StorageError):
            (self._folder / "projection.npz").unlink(missing_ok=True)
            with atomic_file(self._points) as scratch, Path(scratch).open("wb") as file:
                np.save(file, points)
            self._write(
                "projection",
                weight=projection.weight,
                blocks=np.array(projection.blocks),
                of=digest_rows(digests.reshape(1, -1)),
            )
        return self.points(digests) or (points, projection)

    def _opened(self, name: str) -> StoredArrays:
        return StoredArrays(self._folder / f"{name}.npz")

    def _write(self, name: str, **arrays: Any) -> None:
        with contextlib.suppress(OSError, StorageError):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{name}.npz"
            with atomic_file(path) as scratch, Path(scratch).open("wb") as file:
                np.savez(file, **arrays)
