"""Which training images the network finds most like an image."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import atomic_file
from opsin.core.stored_arrays import Stated, StoredArrays
from opsin.core.stored_json import JsonObject
from opsin.data.reference_set import ReferenceSet
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import SCALES
from opsin.runtime.classifier import Classifier

#: So that an image which excites nothing at all is like none, not an error.
_NO_LENGTH: Final = 1e-12
#: Where a run keeps the embeddings of its training images.
FILE: Final = Path("inspection") / "embedding.npz"
#: More bytes than this are not kept.
MOST: Final = 1_000_000_000
# Rows that are held at once.
_ROWS: Final = 4096
# Images by which it is seen that others have taken their place.
_SAMPLE: Final = 64
# How many more than asked for are compared exactly, since the file holds half precision.
_FURTHER: Final = 3


def directions(
    embedding: NDArray[np.float32], scales: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return embeddings as directions: each unit over its deviation, each row of length 1.

    The product of two rows is the cosine that the file's ``ood_score`` is made from
    (A. Techapanurak et al. put it to use, ACCV 2020): units that vary much have no more say than
    others, and neither has the strength of the whole.

    Args:
        embedding: What the last layer sees, ``float32[N, D]``.
        scales: What each unit is multiplied by, ``float32[D]``, the file's
            ``ood_score.scales``; ``None``: a file of an earlier version, whose units stay as
            they are.

    Example:
        >>> found = directions(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32), None)
        >>> found.round(3).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    scaled = embedding if scales is None else embedding * scales
    scaled = np.nan_to_num(scaled.astype(np.float32), posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    found: NDArray[np.float32] = scaled / np.maximum(lengths, _NO_LENGTH)
    return found


def most_alike(
    batches: Iterable[NDArray[np.floating]], wanted: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows whose directions are nearest to one, the nearest first.

    Only one batch and the best so far are held.

    Args:
        batches: Directions, ``[M, D]`` each, in the order of the rows.
        wanted: The direction that is compared, ``float32[D]``.
        count: How many rows at most.

    Returns:
        Places among all rows given, ``int64[count]``, and their cosines, ``float32[count]``; of
        equal ones the earlier comes first.

    Example:
        >>> rows, cosines = most_alike([np.eye(3), -np.eye(3)], np.eye(3)[1], 2)
        >>> rows.tolist(), cosines.tolist()
        ([1, 0], [1.0, 0.0])
    """
    rows, cosines = np.zeros(0, np.int64), np.zeros(0, np.float32)
    start = 0
    for batch in batches:
        rows = np.concatenate([rows, np.arange(start, start + len(batch))])
        cosines = np.concatenate([cosines, batch.astype(np.float32) @ wanted])
        best = np.lexsort((rows, -cosines))[:count]
        rows, cosines = rows[best], cosines[best]
        start += len(batch)
    return rows, cosines.astype(np.float32)


@dataclass(frozen=True)
class Neighbour:
    """A training image like the one asked about.

    Args:
        row: Its row among the known images.
        name: What it is called.
        label: Its class, a place among the classifier's.
        class_name: What that is called.
        similarity: Cosine of the two embeddings, each unit over its deviation, -1 to 1.
        same: Whether it is the very same image.
        pixels: ``uint8[H, W, C]``
    """

    row: int
    name: str
    label: int
    class_name: str
    similarity: float
    same: bool
    pixels: NDArray[np.uint8]

    def to_json(self) -> JsonObject:
        """Return it as plain data, the pixels left out."""
        return {
            "row": self.row,
            "name": self.name,
            "class": self.class_name,
            "similarity": self.similarity,
            "same": self.same,
        }


def nearest(
    classifier: Classifier,
    known: ReferenceSet,
    pixels: NDArray[np.uint8],
    *,
    count: int = 9,
    watcher: Watcher = SILENT,
) -> list[Neighbour]:
    """Return the training images whose embeddings are nearest: "it said boot because of these".

    Likeness is the cosine of the embeddings, each unit over its deviation over the training
    images, as in the file's ``ood_score``. The first call asks the network about every
    training image, and keeps the answers in the run directory, ``inspection/embedding.npz``, so
    that the next one takes no time. They are read batch by batch, and a million need no more
    memory than a thousand.

    Args:
        classifier: An open classifier.
        known: The images beside it; those to learn from are compared.
        pixels: A prepared image, ``uint8[H, W, C]``.
        count: How many at most.
        watcher: Receives the progress of the work.
    """
    content = classifier.content
    network = OnnxGraph(content, classifier.metadata.layers)
    scales = network.weights.get(SCALES)
    scales = None if scales is None else np.asarray(scales, np.float32)

    def direction_of(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return directions(classifier.layers(images, ["embedding"])["embedding"], scales)

    wanted = direction_of(pixels[None])[0]

    def stream() -> Iterator[NDArray[np.float32]]:
        watcher.begin("Embed", len(known.train), "images")
        done = 0
        for part in classifier.iter_layers(known.images, ["embedding"], known.train):
            yield directions(part["embedding"], scales)
            done += len(part["embedding"])
            watcher.advance(done)
        watcher.end()

    if not len(known.train):
        return []
    key = _key(content, known)
    batches = _kept(classifier.path.parent / FILE, key, len(known.train), len(wanted), stream)
    places, _ = most_alike(batches, wanted, count * _FURTHER)
    rows = known.train[places]
    found = known.images[rows]
    exact = direction_of(found) @ wanted

    def neighbour(place: int) -> Neighbour:
        row, image = int(rows[place]), found[place]
        label, similarity = int(known.labels[row]), min(1.0, float(exact[place]))
        same = bool(np.array_equal(image, pixels))
        name, class_name = known.names[row], classifier.classes[label]
        return Neighbour(row, name, label, class_name, similarity, same, image)

    return [neighbour(place) for place in np.lexsort((rows, -exact))[:count]]


def _key(content: bytes, known: ReferenceSet) -> str:
    """Return what the embeddings depend on, as a digest: the file and the images."""
    digest = hashlib.sha256(hashlib.sha256(content).digest())
    digest.update(np.ascontiguousarray(known.train).tobytes())
    sample = known.train[np.linspace(0, len(known.train) - 1, _SAMPLE).astype(np.int64)]
    digest.update(np.ascontiguousarray(known.images[np.unique(sample)]).tobytes())
    digest.update(repr((known.source, [known.names[row] for row in sample])).encode())
    return digest.hexdigest()


def _kept(path: Path, key: str, count: int, size: int, stream: Any) -> Iterator[NDArray[Any]]:
    """Yield the directions from the run's file, made first where there is none that fits.

    Outside a run directory, beyond `MOST` bytes, and where the disk refuses, they come from the
    network alone.
    """
    in_run = RunDirectory(path.parent.parent).recipe.is_file()
    if not in_run or 2 * count * size > MOST:
        yield from stream()
        return
    if not _fits(path, key, count, size):
        try:
            _write(path, key, count, size, stream())
        except StorageError:
            yield from stream()
            return
    yield from _read(path)


def _write(
    path: Path, key: str, count: int, size: int, batches: Iterator[NDArray[np.float32]]
) -> None:
    """Write directions in half precision, batch by batch, so that they are never held together.

    Raises:
        StorageError: The disk refuses the write.
    """
    header = {"descr": "<f2", "fortran_order": False, "shape": (count, size)}
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        with file.open("key.npy", "w") as stream:
            np.lib.format.write_array(cast(BinaryIO, stream), np.array(key), allow_pickle=False)
        with file.open("directions.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(cast(BinaryIO, stream), header)
            for batch in batches:
                stream.write(batch.astype("<f2").tobytes())


def _fits(path: Path, key: str, count: int, size: int) -> bool:
    """Tell whether a file is whole and holds the directions of these images."""
    try:
        with StoredArrays(path) as file:
            wanted = Stated((count, size), np.dtype("<f2"), by_columns=False)
            if file.stated("directions") != wanted or str(file.read("key")) != key:
                return False
            for _ in file.blocks("directions", _ROWS):
                pass  # the checksum is looked at behind the last
    except (OSError, ValueError, KeyError):
        return False
    return True


def _read(path: Path) -> Iterator[NDArray[Any]]:
    with StoredArrays(path) as file:
        yield from file.blocks("directions", _ROWS)
