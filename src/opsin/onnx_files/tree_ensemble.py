"""Trees whose leaves are added up, as one operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.postprocessing import TREES


class TreeNodes(NamedTuple):
    """One tree: its nodes' features, thresholds and children, and what its leaves say."""

    feature: NDArray[np.int64]  # int64[M]
    threshold: NDArray[np.float64]  # float64[M]
    left: NDArray[np.int64]  # int64[M]
    right: NDArray[np.int64]  # int64[M]
    leaf: NDArray[np.bool_]  # bool[M]
    values: NDArray[np.float64]  # float64[M, K]


def write_trees(
    to: GraphWriter,
    source: str,
    output: str,
    trees: Sequence[TreeNodes],
    classes: int,
    *,
    base: NDArray[np.float64] | None,
    double: bool = False,
) -> int:
    """Write trees whose leaves are added up, and return how many numbers they hold."""
    sizes = [len(tree.leaf) for tree in trees]
    number = np.repeat(np.arange(len(trees)), sizes)
    place = np.concatenate([np.arange(size) for size in sizes])
    leaf = np.concatenate([tree.leaf for tree in trees])
    values = np.concatenate([tree.values for tree in trees])

    def inner(column: str) -> list[int]:
        joined = np.concatenate([np.asarray(getattr(tree, column)) for tree in trees])
        return [int(value) for value in np.where(leaf, 0, joined.astype(np.int64))]

    thresholds = np.where(leaf, 0, np.concatenate([tree.threshold for tree in trees]))
    # A leaf that says nothing must say so about one class at least.
    said = values != 0
    said[leaf & ~said.any(axis=1), 0] = True
    kind = np.float64 if double else np.float32
    speaking, target = np.nonzero(said & leaf[:, None])
    to.node(
        "TreeEnsembleRegressor",
        [source],
        output,
        domain=TREES,
        n_targets=classes,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=number.tolist(),
        nodes_nodeids=place.tolist(),
        nodes_modes=["LEAF" if end else "BRANCH_LEQ" for end in leaf.tolist()],
        nodes_featureids=inner("feature"),
        nodes_truenodeids=inner("left"),
        nodes_falsenodeids=inner("right"),
        target_treeids=number[speaking].tolist(),
        target_nodeids=place[speaking].tolist(),
        target_ids=target.tolist(),
        **_stored("nodes_values", thresholds if double else _downwards(thresholds)),
        **_stored("target_weights", values[speaking, target].astype(kind)),
        **({} if base is None else _stored("base_values", base.astype(kind))),
    )
    return int((~leaf).sum()) + len(speaking)


def _stored(name: str, values: NDArray[Any]) -> dict[str, Any]:
    """Return an attribute by the name that it has for its kind of numbers."""
    if values.dtype == np.float32:
        return {name: values.tolist()}
    full = f"{name}_as_tensor"
    return {full: numpy_helper.from_array(values, full)}


def _downwards(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 up to each threshold: float32 values go the same way at both."""
    single = thresholds.astype(np.float32)
    above = single > thresholds
    single[above] = np.nextafter(single[above], np.float32(-np.inf))
    return single
