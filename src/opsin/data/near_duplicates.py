"""Near duplicates: the same image cropped, resized, mirrored, recoded or brightened.

Candidates are the nearest neighbours (scikit-learn) of perceptual hashes of each image, of four
crops of it and of their mirror images. A pair is a near duplicate if the detail of one, cropped,
matches the other's far better than that of unrelated images (a ratio test, Lowe, IJCV 2004): all
trousers of Fashion-MNIST are alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.core.errors import StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import atomic_file
from opsin.data import cache
from opsin.data.lazy_images import Images

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

#: Images with a shorter side have too little detail to tell copies from similar images.
SMALLEST: Final = 16
# Changes whenever the same images give other pairs.
_VERSION: Final = "4"
_SIDE: Final = 32
_BLOCK: Final = 256
# Low frequencies of a hash (pHash keeps their signs), and the principal components searched.
_FREQUENCIES: Final = 6
_COMPONENTS: Final = 12
# Neighbours per query, and fewer for many images.
_NEIGHBOURS, _MANY, _OF_MANY = 6, 10_000, 3
# Size, top and left of the query crops, as shares of the sides.
_ASKING: Final = ((1.0, 0.0, 0.0), *((0.92, top, left) for top in (0, 0.08) for left in (0, 0.08)))
# Distances of a pair's hashes and of its detail, as shares of the usual distance, at most.
_HASH_RATIO, _DETAIL_RATIO = 0.6, 0.12
_MOST_APART: Final = 0.1
# Unrelated images lie beyond a gap between an image's own kind and the rest.
_SAMPLE: Final = 2000
_CLOSE, _GAP = 0.12, 0.4
# Correlation from which on finer crops are tried.
_HOPE: Final = 0.5


def _windows(*steps: tuple[float, int]) -> list[tuple[float, float, float]]:
    return [
        (scale, float(top), float(left))
        for scale, count in steps
        for top, left in itertools.product(np.linspace(0, 1 - scale, count), repeat=2)
    ]


# Crops by which two images are compared: a few, and finer ones if one comes near.
_COARSE: Final = _windows((1.0, 1), (0.95, 2), (0.9, 3))
_FINE: Final = _windows((0.95, 4), (0.9, 8))


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of images that are near duplicates.

    Args:
        pairs: Rows of both images, the smaller first, ``int64[M, 2]``; the most alike pair first.
        likeness: Correlation of each pair's detail, ``float32[M]``.
        mirrored: Whether one is the other's mirror image, ``bool[M]``.
    """

    pairs: Rows
    likeness: Floats
    mirrored: NDArray[np.bool_]

    def among(self, rows: Rows) -> NearDuplicates:
        """Return the pairs within some rows, as indices among these."""
        index = np.full(max(rows.max(initial=-1), self.pairs.max(initial=-1)) + 1, -1)
        index[rows] = np.arange(len(rows))
        pairs = np.sort(index[self.pairs], axis=1)
        left = pairs.min(axis=1, initial=len(rows)) >= 0
        return NearDuplicates(pairs[left], self.likeness[left], self.mirrored[left])


NO_PAIRS: Final = NearDuplicates(
    np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.zeros(0, bool)
)


def near_duplicates(
    images: Images, digests: NDArray[np.uint8], *, mirrored: bool, watcher: Watcher
) -> NearDuplicates:
    """Find near duplicates, or take them from the cache."""
    flat = cache.as_keys(digests)
    _, rows = np.unique(flat, return_index=True)
    key = hashlib.sha256(repr((_VERSION, images.shape[1:], mirrored)).encode())
    key.update(flat[rows].tobytes())
    file = cache.cache_root() / "near" / f"{key.hexdigest()[:32]}.npz"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            pairs = np.sort(rows[kept["pairs"]], axis=1)
            return NearDuplicates(pairs, kept["likeness"], kept["mirrored"])
    except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile):
        pass
    try:
        duplicates = find_near_duplicates(images, rows, mirrored=mirrored, watcher=watcher)
    except ImportError:
        watcher.note("only exact copies are found; for near ones: pip install 'opsin[evaluate]'")
        return NO_PAIRS
    index = np.empty(len(digests), np.int64)
    index[rows] = np.arange(len(rows))
    # A failed write costs only time in the next search.
    with contextlib.suppress(StorageError), atomic_file(file) as new, new.open("wb") as target:
        np.savez(
            target,
            pairs=index[duplicates.pairs],
            likeness=duplicates.likeness,
            mirrored=duplicates.mirrored,
        )
    return duplicates


def find_near_duplicates(
    images: Images, rows: Rows, *, mirrored: bool = True, watcher: Watcher = SILENT
) -> NearDuplicates:
    """Find pairs of rows that show the same image; exact copies should be given once."""
    if min(images.shape[1:3]) < SMALLEST or len(rows) < 2:
        return NO_PAIRS
    grey = _thumbnails(images, rows)
    drawn = np.random.default_rng(0).permutation(len(grey))[:_SAMPLE]
    pairs, turned = _candidates(grey, drawn, mirrored=mirrored, watcher=watcher)
    likeness = _likeness(grey, pairs, turned)
    involved, which = np.unique(pairs, return_inverse=True)
    usual = _usual_distance(involved, lambda places: _detail(grey[places]), drawn)
    near = 1 - likeness <= _DETAIL_RATIO * usual[which.reshape(-1, 2)].min(axis=1)
    # The most alike first, and each pair once, in either direction.
    order = np.flatnonzero(near)[np.argsort(-likeness[near], kind="stable")]
    pairs = np.sort(rows[pairs[order]], axis=1)
    once = np.sort(np.unique(pairs, axis=0, return_index=True)[1])
    return NearDuplicates(pairs[once], likeness[order][once], turned[order][once])


def _thumbnails(images: Images, rows: Rows) -> Floats:
    """Return grey thumbnails of at most 32 pixels a side, ``float32[N, h, w]``."""
    height, width = (min(side, _SIDE) for side in images.shape[1:3])
    grey = np.empty((len(rows), height, width), np.float32)
    for block in _blocks(len(rows)):
        for index, pixels in enumerate(images[rows[block]], block.start):
            image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("L")
            grey[index] = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    return grey


def _candidates(
    grey: Floats, drawn: Rows, *, mirrored: bool, watcher: Watcher
) -> tuple[Rows, NDArray[np.bool_]]:
    """Return query and neighbour, ``int64[M, 2]``, and whether the query was mirrored."""
    from sklearn.decomposition import PCA  # noqa: PLC0415  an optional part
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415

    whole = _hashes(grey, *_ASKING[0])
    usual = _usual_distance(np.arange(len(grey)), whole.__getitem__, drawn)
    limit = np.minimum(_MOST_APART, _HASH_RATIO * usual)[:, None]
    space = PCA(min(_COMPONENTS, *whole.shape), random_state=0).fit(whole)
    most = _OF_MANY if len(grey) > _MANY else _NEIGHBOURS
    search = NearestNeighbors(n_neighbors=min(most, len(grey))).fit(space.transform(whole))
    ways = list(itertools.product(_ASKING, (False, True) if mirrored else (False,)))
    watcher.begin("Compare", len(ways) * len(grey), "images")
    candidates = []
    for number, (crop, turned) in enumerate(ways, 1):
        asking = _hashes(grey, *crop, turned=turned)
        nearest = search.kneighbors(space.transform(asking), return_distance=False)
        away = 1 - np.einsum("nd,nkd->nk", asking, whole[nearest])
        asker, column = np.nonzero(away <= limit)
        candidates.append(
            np.stack([asker, nearest[asker, column], np.full(len(asker), turned)], axis=1)
        )
        watcher.advance(number * len(grey))
    watcher.end()
    unique = np.unique(np.concatenate(candidates), axis=0)
    unique = unique[unique[:, 0] != unique[:, 1]]
    return unique[:, :2], unique[:, 2] > 0


def _hashes(grey: Floats, scale: float, top: float, left: float, *, turned: bool = False) -> Floats:
    """Return the normalised low frequencies of a crop of each image, ``float32[N, 35]``."""
    _, height, width = grey.shape
    down = _cosines(height) @ _resampling(height, scale, top)
    across = _cosines(width) @ _resampling(width, scale, left)
    if turned:  # mirroring flips the sign of odd frequencies
        across[1::2] *= -1
    return _unit((down @ grey @ across.T).reshape(len(grey), -1)[:, 1:])


def _likeness(grey: Floats, pairs: Rows, turned: NDArray[np.bool_]) -> Floats:
    """Return the best correlation of a crop of each query with the other image."""
    best = np.full(len(pairs), -1, np.float32)
    for block in _blocks(len(pairs)):
        asker, other = grey[pairs[block]].swapaxes(0, 1)
        asker = np.where(turned[block, None, None], asker[:, :, ::-1], asker)
        wanted = _detail(other)
        for window in _COARSE:
            alike = (_detail(asker, *window) * wanted).sum(axis=1)
            best[block] = np.maximum(best[block], alike)
        near = np.flatnonzero(best[block] > _HOPE)
        for window in _FINE if len(near) else ():
            alike = (_detail(asker[near], *window) * wanted[near]).sum(axis=1)
            best[block.start + near] = np.maximum(best[block.start + near], alike)
    return best


def _usual_distance(rows: Rows, vectors_of: Callable[[Rows], Floats], drawn: Rows) -> Floats:
    """Return the distance of each row to unrelated images of a random sample."""
    others = vectors_of(drawn)
    usual = np.empty(len(rows), np.float32)
    most = min(64, len(drawn)) if len(drawn) == _SAMPLE else len(drawn)
    for block in _blocks(len(rows)):
        away = 1 - vectors_of(rows[block]) @ others.T
        away[rows[block, None] == drawn] = 2
        away = np.sort(np.partition(away, most - 1, axis=1)[:, :most], axis=1)
        last, following = away[:, :-1].clip(0), away[:, 1:]
        gap = (last <= np.minimum(_CLOSE, _GAP * following)) & (following < 2)
        # Without a gap, the fourth nearest.
        beyond = np.where(gap, np.arange(1, away.shape[1]), 0).max(axis=1, initial=0)
        index = np.where(beyond > 0, beyond, min(3, away.shape[1] - 1))
        usual[block] = away[np.arange(len(away)), index]
    return usual


def _detail(grey: Floats, scale: float = 1, top: float = 0, left: float = 0) -> Floats:
    """Return the normalised mid frequencies of a window of images."""
    _, height, width = grey.shape
    bands = []
    for times in (1, 4):
        down = _blurring(height, times) @ _resampling(height, scale, top)
        across = _blurring(width, times) @ _resampling(width, scale, left)
        inner = across[width // 8 : width - width // 8]
        bands.append(down[height // 8 : height - height // 8] @ grey @ inner.T)
    flat = (bands[0] - bands[1]).reshape(len(grey), -1)
    return _unit(flat - flat.mean(axis=1, keepdims=True))


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = (vectors / np.maximum(length, 1e-3)).astype(np.float32)
    return unit


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK):
        yield slice(start, min(start + _BLOCK, count))


def _cosines(size: int) -> Floats:
    """Return the first rows of the orthonormal cosine transform."""
    places = np.pi * (np.arange(size) + 0.5) / size
    rows = np.cos(places * np.arange(_FREQUENCIES)[:, None]) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    cosines: Floats = rows.astype(np.float32)
    return cosines


def _resampling(size: int, scale: float, offset: float) -> Floats:
    """Return the matrix that enlarges a crop to full size by linear interpolation."""
    position = (((np.arange(size) + 0.5) / size * scale + offset) * size - 0.5).clip(0, size - 1)
    matrix: Floats = np.maximum(1 - np.abs(position[:, None] - np.arange(size)), 0).astype(
        np.float32
    )
    return matrix


def _blurring(size: int, times: int) -> Floats:
    """Return the matrix that blurs by 1 2 1, several times."""
    matrix = np.eye(size) / 2 + np.eye(size, k=1) / 4 + np.eye(size, k=-1) / 4
    matrix[0, 0] = matrix[-1, -1] = 0.75  # the outermost pixels are repeated
    blurring: Floats = np.linalg.matrix_power(matrix, times).astype(np.float32)
    return blurring
