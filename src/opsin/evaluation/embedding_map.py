"""A two-dimensional map of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Doubles, Floats, Ints
from opsin.core.artifacts.run_report import ClassApart, MapFigures, MapPoint
from opsin.core.errors import MissingExtraError

try:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

#: More images than this take minutes, and cover each other.
MOST: Final = 2000
# Fewer images are shown by principal components.
_FEW: Final = 30
_COMPONENTS: Final = 50
_PERPLEXITY: Final = 30.0
_NEIGHBOURS: Final = 10


def map_embedding(
    embedding: Floats,
    labels: Ints,
    answers: Ints,
    names: Sequence[str],
    classes: Sequence[str],
    *,
    most: int = MOST,
    seed: int = 0,
) -> MapFigures:
    """Lay images out so that those with similar embeddings lie side by side.

    The embedding is brought to 50 numbers by principal components, and to two by t-SNE: L. van der
    Maaten and G. Hinton, "Visualizing data using t-SNE", JMLR 2008. Neighbours on the map are
    neighbours in the embedding; distances between groups, and their sizes, mean nothing. Fewer
    than 30 images are shown by their two principal components. On one machine the same
    embeddings give the same map. The least apart class comes first.
    """
    usable = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    rows = usable[_evenly(labels[usable], most, seed)]
    values = embedding[rows].astype(np.float64)
    values -= values.mean(axis=0) if len(values) else 0.0
    different = len(np.unique(values, axis=0))
    method: Literal["t-sne", "pca"] = "t-sne" if different >= _FEW else "pca"
    with threadpool_limits(1):  # sums in another order would lead to another map
        if len(rows) >= 3 and np.ptp(values, axis=0).any():
            parts = min(_COMPONENTS, values.shape[1], len(values) - 1)
            values = PCA(parts, svd_solver="full").fit_transform(values)
        apart = _apart(values, labels[rows], classes)
        places = np.zeros((len(values), 2))
        places[:, : min(2, values.shape[1])] = values[:, :2]
        if method == "t-sne":
            # It starts from the two largest components, small, as it likes them.
            start: Floats = (1e-4 * places / places[:, 0].std()).astype(np.float32)
            perplexity = min(_PERPLEXITY, (len(values) - 1) / 3)
            model = TSNE(perplexity=perplexity, init=start, random_state=seed)
            places = model.fit_transform(values)
    points = [
        MapPoint(
            row=int(row),
            name=names[row],
            x=round(float(x), 4),
            y=round(float(y), 4),
            label=int(labels[row]),
            answer=int(answers[row]),
        )
        for row, (x, y) in zip(rows, _framed(places), strict=True)
    ]
    return MapFigures(method=method, classes=list(classes), points=points, apart=apart)


def _evenly(labels: Ints, most: int, seed: int) -> Ints:
    """Choose rows class by class in turn, at random within each, ascending."""
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    # How many images of its class come before each one.
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    turn = np.empty(len(labels), np.int64)
    turn[by_class] = np.arange(len(labels)) - starts
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


def _apart(values: Doubles, labels: Ints, classes: Sequence[str]) -> list[ClassApart]:
    """Each class's share among the nearest neighbours of its images, the smallest first."""
    count = min(_NEIGHBOURS, len(values) - 1)
    if count < 1:
        return []
    near = NearestNeighbors(n_neighbors=count).fit(values).kneighbors(return_distance=False)
    alike: Floats = (labels[near] == labels[:, None]).mean(axis=1, dtype=np.float32)
    apart = [
        ClassApart(
            name=classes[label],
            images=int((labels == label).sum()),
            share=float(np.nanmean(alike[labels == label])),
        )
        for label in np.unique(labels)
    ]
    return sorted(apart, key=lambda entry: entry.share)


def _framed(places: NDArray[Any]) -> Floats:
    """Move and scale into the square from -1 to 1, keeping the shape."""
    if not len(places):
        return np.zeros((0, 2), np.float32)
    low, high = places.min(axis=0), places.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-12)
    framed: Floats = ((places - (low + high) / 2) / half).astype(np.float32)
    return np.clip(framed, -1, 1)
