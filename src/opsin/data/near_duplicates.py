"""Near duplicates: the same image cropped, resized, mirrored, recoded or brightened.

Images are compared as pHash does, by low frequencies; neighbours are near duplicates if far nearer
than unrelated images are (a ratio test, Lowe, IJCV 2004): all trousers of Fashion-MNIST are alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.core.arrays import Bools, Bytes, Floats, Ints
from opsin.core.events import SILENT, Watcher, watched
from opsin.core.platform import cores
from opsin.data import cache
from opsin.data.lazy_images import Images

Crop = tuple[float, float, float]  # size, top and left as shares of the sides

#: Images with a shorter side have too little detail to tell copies from similar images.
SMALLEST: Final = 16
# Changes whenever the same images give other pairs.
_VERSION: Final = "6"
_SIDE, _FREQUENCIES, _COMPONENTS, _NEIGHBOURS = 32, 12, 12, 4
# Distance of near duplicates as a share of the distance to unrelated images, at most. These lie
# beyond a gap between an image's own kind and the rest of a sample.
_RATIO, _SAMPLE, _CLOSE, _GAP = 0.10, 2000, 0.12, 0.4
_BLOCK: Final = 4096


def _crops(scale: float, count: int) -> list[Crop]:
    offsets = np.linspace(0, 1 - scale, count).tolist()
    return [(scale, *corner) for corner in itertools.product(offsets, repeat=2)]


_WHOLE: Final = (1.0, 0.0, 0.0)
_ASKING: Final = [_WHOLE, *_crops(0.92, 2)]
_FINE: Final = [_WHOLE, *_crops(0.95, 4), *_crops(0.9, 8)]


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of images that are near duplicates, the most alike pair first."""

    pairs: Ints  # rows of both images, the smaller first, ``int64[M, 2]``
    likeness: Floats  # correlation of their frequencies, ``float32[M]``
    mirrored: Bools  # whether one is the other's mirror image, ``bool[M]``

    def among(self, rows: Ints) -> NearDuplicates:
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
    images: Images, digests: Bytes, *, mirrored: bool, watcher: Watcher
) -> NearDuplicates:
    """Find near duplicates, or take them from the cache."""
    unique, rows = np.unique(cache.as_keys(digests), return_index=True)
    key = cache.index_key(_VERSION, images.shape[1:], mirrored, unique.tobytes())

    def search() -> dict[str, NDArray[Any]]:
        found = find_near_duplicates(images, rows, mirrored=mirrored, watcher=watcher)
        index = np.empty(len(digests), np.int64)
        index[rows] = np.arange(len(rows))
        return vars(found) | {"pairs": index[found.pairs]}

    def made_of(kept: Mapping[str, NDArray[Any]]) -> NearDuplicates:
        pairs = np.sort(rows[kept["pairs"]], axis=1)
        return NearDuplicates(pairs, kept["likeness"], kept["mirrored"])

    try:
        return cache.kept_arrays("near", key, search, made_of)
    except ImportError:
        watcher.note("only exact copies are found; for near ones: pip install 'opsin[evaluate]'")
        return NO_PAIRS


def find_near_duplicates(
    images: Images, rows: Ints, *, mirrored: bool = True, watcher: Watcher = SILENT
) -> NearDuplicates:
    """Find pairs of rows that show the same image; exact copies should be given once."""
    if min(images.shape[1:3]) < SMALLEST:
        return NO_PAIRS
    grey = _thumbnails(images, rows)
    uneven = grey.std(axis=(1, 2)) > 1  # of 255: an image of one colour is like any other
    grey, rows = grey[uneven], rows[uneven]
    if len(rows) < 2:
        return NO_PAIRS
    spectra = _spectra(grey, _WHOLE)
    usual = _usual_distances(spectra)
    pairs, turned = _candidates(grey, spectra, usual, mirrored=mirrored, watcher=watcher)
    away = np.ones(len(pairs), np.float32)
    for start in range(0, len(pairs), _BLOCK):
        block = slice(start, start + _BLOCK)
        asker, other = pairs[block].T
        wanted = np.where(turned[block, None], _mirrored(spectra[other]), spectra[other])
        for crop in _FINE:
            nearer = 1 - np.einsum("nd,nd->n", _spectra(grey[asker], crop), wanted)
            away[block] = np.minimum(away[block], nearer)
    near = np.flatnonzero(away <= _RATIO * usual[pairs].min(axis=1))
    # The most alike first, and each pair once, in either direction.
    order = near[np.argsort(away[near], kind="stable")]
    pairs = np.sort(rows[pairs[order]], axis=1)
    once = np.sort(np.unique(pairs, axis=0, return_index=True)[1])
    return NearDuplicates(pairs[once], 1 - away[order][once], turned[order][once])


def _candidates(
    grey: Floats, spectra: Floats, usual: Floats, *, mirrored: bool, watcher: Watcher
) -> tuple[Ints, Bools]:
    """Return query and neighbour, ``int64[M, 2]``, and whether the query was mirrored."""
    from sklearn.decomposition import PCA  # noqa: PLC0415  an optional part
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415

    space = PCA(min(_COMPONENTS, len(spectra)), random_state=0).fit(spectra)
    # By brute force: a tree takes three times as long in this many dimensions.
    count = min(_NEIGHBOURS, len(spectra))
    search = NearestNeighbors(n_neighbors=count, algorithm="brute", n_jobs=cores())
    search.fit(space.transform(spectra))
    ways = list(itertools.product(_ASKING, (False, True) if mirrored else (False,)))
    candidates, total = [], len(ways) * len(grey)
    for crop, turned in watched(watcher, "Compare", total, ways, size=lambda _: len(grey)):
        asking = _spectra(grey, crop)
        asking = _mirrored(asking) if turned else asking
        for column in search.kneighbors(space.transform(asking), return_distance=False).T:
            near = np.flatnonzero(1 - np.einsum("nd,nd->n", asking, spectra[column]) <= usual)
            candidates.append(np.stack([near, column[near], np.full(len(near), turned)], axis=1))
    unique = np.unique(np.concatenate(candidates), axis=0)
    unique = unique[unique[:, 0] != unique[:, 1]]
    return unique[:, :2], unique[:, 2] > 0


def _usual_distances(spectra: Floats) -> Floats:
    """Return each image's distance to unrelated images of a random sample."""
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  an optional part

    drawn = np.random.default_rng(0).permutation(len(spectra))[:_SAMPLE]
    search = NearestNeighbors(n_neighbors=min(64, len(drawn)), metric="sqeuclidean")
    away, nearest = search.fit(spectra[drawn]).kneighbors(spectra)
    away /= 2  # of vectors of length 1: 1 - cosine
    away[drawn[nearest] == np.arange(len(spectra))[:, None]] = 2
    away.sort(axis=1)
    gap = (away[:, :-1] <= np.minimum(_CLOSE, _GAP * away[:, 1:])) & (away[:, 1:] < 2)
    beyond = np.where(gap, np.arange(1, away.shape[1]), 0).max(axis=1, initial=0)
    beyond[beyond == 0] = min(3, away.shape[1] - 1)  # without a gap, the fourth nearest
    usual: Floats = away[np.arange(len(away)), beyond].astype(np.float32)
    return usual


def _thumbnails(images: Images, rows: Ints) -> Floats:
    """Return grey thumbnails of at most 32 pixels a side, ``float32[N, h, w]``."""
    height, width = (min(side, _SIDE) for side in images.shape[1:3])
    grey = np.empty((len(rows), height, width), np.float32)
    for start in range(0, len(rows), 256):
        for index, pixels in enumerate(images[rows[start : start + 256]], start):
            image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("L")
            grey[index] = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    return grey


def _spectra(grey: Floats, crop: Crop) -> Floats:
    """Return the normalised low frequencies of a crop of each image, ``float32[N, 143]``."""
    from scipy.fft import dct  # noqa: PLC0415  an optional part

    scale, *offsets = crop
    transforms = []
    for size, offset in zip(grey.shape[1:], offsets, strict=True):
        box = (0, offset * size, size, (offset + scale) * size)
        pixels = Image.fromarray(np.eye(size, dtype=np.float32))
        crops = np.asarray(pixels.resize((size, size), Image.Resampling.BILINEAR, box=box))
        transforms.append(dct(crops, axis=0, norm="ortho")[:_FREQUENCIES])
    down, across = transforms
    steps = np.arange(_FREQUENCIES, dtype=np.float32)
    weights = np.hypot(steps[:, None], steps) ** 0.7  # images have less of high frequencies
    spectra = np.empty((len(grey), weights.size - 1), np.float32)
    for start in range(0, len(grey), _BLOCK):
        part = (down @ grey[start : start + _BLOCK] @ across.T * weights).reshape(-1, weights.size)
        length = np.linalg.norm(part, axis=1, keepdims=True)
        spectra[start : start + _BLOCK] = part[:, 1:] / np.maximum(length, 1e-3)
    return spectra


def _mirrored(spectra: Floats) -> Floats:
    """Return the spectra of mirror images: odd frequencies across change their sign."""
    signs: Floats = (-1) ** (np.arange(1, _FREQUENCIES**2, dtype=np.float32) % _FREQUENCIES)
    return spectra * signs
