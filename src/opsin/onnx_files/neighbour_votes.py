"""The votes of an image's nearest neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.kernels import half_distances


def write_neighbours(
    to: GraphWriter,
    source: str,
    points: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    count: int,
    classes: int,
) -> str:
    """Write each class's share of the votes, ``votes: float32[N, K]``."""
    halves = half_distances(to, source, points)
    most = to.weight("head.count", [count], np.int64)
    to.node("TopK", [halves, most], "head.nearest", "head.places", axis=1, largest=0)
    held = to.weight("head.labels", labels, np.int64)
    voting = to.node("Gather", [held, "head.places"], "head.voting")
    depth = to.weight("head.classes", classes, np.int64)
    share = to.weight("head.share", [0, 1 / count], np.float32)
    each = to.node("OneHot", [voting, depth, share], "head.each")
    axis = to.weight("head.axis", [1], np.int64)
    return to.node("ReduceSum", [each, axis], "votes", keepdims=0)
