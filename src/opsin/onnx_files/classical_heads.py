"""Classical models as operators: neighbours, kernel machines, trees."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from opsin.onnx_files.postprocessing import TREES, GraphWriter


def products(to: GraphWriter, source: str, points: NDArray[np.float32]) -> str:
    """Write the products of an image and some points, ``float64[N, M]``."""
    kept = to.weight("head.points", points.T, np.float32)
    double = to.node("Cast", [kept], "head.double", to=TensorProto.DOUBLE)
    image = to.node("Cast", [source], "head.image", to=TensorProto.DOUBLE)
    return to.node("MatMul", [image, double], "head.products")


def _half_distances(to: GraphWriter, source: str, points: NDArray[np.float32]) -> str:
    """Write half the squared distances to points, less half the image's own square."""
    dots = products(to, source, points)
    halves = (points.astype(np.float32).astype(np.float64) ** 2).sum(axis=1) / 2
    lengths = to.weight("head.lengths", halves, np.float64)
    return to.node("Sub", [lengths, dots], "head.halves")


def gaussian_kernel(to: GraphWriter, source: str, points: NDArray[np.float32], gamma: float) -> str:
    """Write a Gaussian kernel between an image and some points."""
    halves = _half_distances(to, source, points)
    axis = to.weight("head.axis", [1], np.int64)
    square = to.node("ReduceSumSquare", ["head.image", axis], "head.own", keepdims=1)
    square = to.node("Mul", [square, to.weight("head.half", 0.5, np.float64)], "head.own.half")
    distances = to.node("Add", [halves, square], "head.distances")
    width = to.weight("head.gamma", -2 * gamma, np.float64)
    return to.node("Exp", [to.node("Mul", [distances, width], "head.scaled")], "head.kernel")


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
    halves = _half_distances(to, source, points)
    most = to.weight("head.count", [count], np.int64)
    to.node("TopK", [halves, most], "head.nearest", "head.places", axis=1, largest=0)
    held = to.weight("head.labels", labels, np.int64)
    voting = to.node("Gather", [held, "head.places"], "head.voting")
    depth = to.weight("head.classes", classes, np.int64)
    share = to.weight("head.share", [0, 1 / count], np.float32)
    one_hot = to.node("OneHot", [voting, depth, share], "head.each")
    axis = to.weight("head.axis", [1], np.int64)
    return to.node("ReduceSum", [one_hot, axis], "votes", keepdims=0)


@dataclass(frozen=True)
class SupportVectors:
    """The fitted numbers of a kernel machine of K classes, named as scikit-learn does."""

    coefficients: NDArray[np.float64]  # float64[K - 1, M]
    intercepts: NDArray[np.float64]  # float64[K * (K - 1) / 2]
    counts: NDArray[np.int64]  # int64[K]
    classes: int


def write_scores(to: GraphWriter, machine: SupportVectors, kernel: str) -> str:
    """Write the score of each class, ``head: float32[N, K]``: votes of pairs, then confidence."""
    decisions = _decisions(to, machine, kernel)
    if machine.classes == 2:
        sides = to.weight("head.sides", [[-0.5, 0.5]], np.float64)
        scores = to.node("MatMul", [decisions, sides], "head.scores")
    else:
        scores = _votes(to, decisions, machine.classes)
    return to.node("Cast", [scores], "head", to=TensorProto.FLOAT)


def _decisions(to: GraphWriter, machine: SupportVectors, kernel: str) -> str:
    coefficients, classes = machine.coefficients.T, machine.classes
    if classes == 2:
        weight = to.weight("head.coefficients", coefficients, np.float64)
        total = to.node("MatMul", [kernel, weight], "head.sums")
        bias = to.weight("head.bias", machine.intercepts, np.float64)
        return to.node("Add", [total, bias], "head.decisions")
    # The support vectors are sorted by class; those of class i have a coefficient against each
    # of the others.
    counts = machine.counts
    parts = [f"head.kernel{label}" for label in range(classes)]
    to.node("Split", [kernel, to.weight("head.split", counts, np.int64)], *parts, axis=1)
    ends = np.concatenate([[0], np.cumsum(counts)])
    sums = []
    for label, part in enumerate(parts):
        weights = coefficients[ends[label] : ends[label + 1]]
        weight = to.weight(f"head.coefficients{label}", weights, np.float64)
        sums.append(to.node("MatMul", [part, weight], f"head.sums{label}"))
    joined = to.node("Concat", sums, "head.sums", axis=1)
    pairs = np.array(list(itertools.combinations(range(classes), 2)))
    first, second = pairs.T
    for_first = to.weight("head.for", first * (classes - 1) + second - 1, np.int64)
    against = to.weight("head.against", second * (classes - 1) + first, np.int64)
    one = to.node("Gather", [joined, for_first], "head.one", axis=1)
    other = to.node("Gather", [joined, against], "head.other", axis=1)
    both = to.node("Add", [one, other], "head.both")
    bias = to.weight("head.bias", machine.intercepts, np.float64)
    return to.node("Add", [both, bias], "head.decisions")


def _votes(to: GraphWriter, decisions: str, classes: int) -> str:
    pairs = np.array(list(itertools.combinations(range(classes), 2)))
    places = np.arange(len(pairs))
    signs = np.zeros((len(pairs), classes))
    signs[places, pairs[:, 0]], signs[places, pairs[:, 1]] = 1, -1
    held = to.weight("head.signs", signs, np.float64)
    margins = to.node("MatMul", [decisions, held], "head.margins")
    nothing = to.weight("head.nothing", 0.0, np.float64)
    lost = to.node("Less", [decisions, nothing], "head.below")
    lost = to.node("Cast", [lost], "head.lost", to=TensorProto.DOUBLE)
    moved = to.node("MatMul", [lost, "head.signs"], "head.moved")
    # All pairs won by their first class, and those it lost given to the second.
    won = to.weight("head.won", (signs > 0).sum(axis=0), np.float64)
    votes = to.node("Sub", [won, moved], "head.votes")
    size = to.node("Abs", [margins], "head.size")
    more = to.node("Add", [size, to.weight("head.unit", 1.0, np.float64)], "head.more")
    thrice = to.node("Mul", [more, to.weight("head.three", 3.0, np.float64)], "head.thrice")
    share = to.node("Div", [margins, thrice], "head.confidence")
    return to.node("Add", [votes, share], "head.scores")


class TreeNodes(NamedTuple):
    """A tree of M nodes: their comparisons, children, and values of leaves ``[M, K]``."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf: NDArray[np.bool_]
    values: NDArray[np.float64]


def write_trees(to: GraphWriter, source: str, trees: Sequence[TreeNodes], classes: int) -> int:
    """Write ``votes``, the sums of trees' leaves, and return how many numbers they hold."""
    sizes = [len(tree.leaf) for tree in trees]
    number = np.repeat(np.arange(len(trees)), sizes)
    node = np.concatenate([np.arange(size) for size in sizes])
    leaf = np.concatenate([tree.leaf for tree in trees])
    values = np.concatenate([tree.values for tree in trees])

    def inner(column: str) -> list[int]:
        joined = np.concatenate([np.asarray(getattr(tree, column)) for tree in trees])
        return [int(value) for value in np.where(leaf, 0, joined.astype(np.int64))]

    thresholds = np.where(leaf, 0, np.concatenate([tree.threshold for tree in trees]))
    # The largest float32 up to each threshold: float32 values go the same way at both.
    single = thresholds.astype(np.float32)
    above = single > thresholds
    single[above] = np.nextafter(single[above], np.float32(-np.inf))
    # A leaf of zeros still needs one class.
    nonzero = values != 0
    nonzero[leaf & ~nonzero.any(axis=1), 0] = True
    speaking, target = np.nonzero(nonzero & leaf[:, None])
    to.node(
        "TreeEnsembleRegressor",
        [source],
        "votes",
        domain=TREES,
        n_targets=classes,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=number.tolist(),
        nodes_nodeids=node.tolist(),
        nodes_modes=["LEAF" if end else "BRANCH_LEQ" for end in leaf.tolist()],
        nodes_featureids=inner("feature"),
        nodes_values=single.tolist(),
        nodes_truenodeids=inner("left"),
        nodes_falsenodeids=inner("right"),
        target_treeids=number[speaking].tolist(),
        target_nodeids=node[speaking].tolist(),
        target_ids=target.tolist(),
        target_weights=values[speaking, target].astype(np.float32).tolist(),
    )
    return int((~leaf).sum()) + len(speaking)
