"""Each model as the operators that answer as scikit-learn does.

`skl2onnx` would do for some: its 1.20 cannot write boosted trees with the onnx of today, it spends
twice the bytes on a forest's node, and its nearest neighbours need operators that are no standard.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from opsin.classical.classical_recipe import Boosting, Forest, Knn, Logistic, Svm
from opsin.classical.fit import Fitted, least_of
from opsin.classical.kernel_ridge import KernelRidge
from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.postprocessing import TREES


class OutputRow(NamedTuple):
    """A last layer, which puts out a number for each class, and what it costs.

    Args:
        name: Of its value in the file.
        kind: What it is.
        parameters: Numbers that it holds.
        multiply_adds: Of one image; comparisons in trees are none.
    """

    name: str
    kind: str
    parameters: int
    multiply_adds: int


def write_head(to: GraphWriter, fitted: Fitted, source: str) -> list[OutputRow]:
    """Write what turns the embedding into logits, ``head: float32[N, K]``, and say what that is.

    Models that know shares of votes only have them as ``votes``, and their logarithm as ``head``.

    Args:
        to: The graph so far.
        fitted: The model.
        source: Name of the embedding in the graph.
    """
    if isinstance(fitted.estimator, KernelRidge):
        return _kernel_ridge(to, fitted.estimator, source)
    match fitted.recipe:
        case Logistic():
            return _logistic(to, fitted, source)
        case Forest():
            return _forest(to, fitted, source)
        case Knn():
            return _neighbours(to, fitted, source)
        case Svm():
            return _machine(to, fitted, source)
        case Boosting():
            return _boosting(to, fitted, source)


def _logistic(to: GraphWriter, fitted: Fitted, source: str) -> list[OutputRow]:
    weight, bias = fitted.estimator.coef_, fitted.estimator.intercept_
    if len(weight) == 1:  # one row for two classes; halved, so that each has a gradient
        weight, bias = (np.concatenate([-part, part]) / 2 for part in (weight, bias))
    inputs = [source, to.weight("head.weight", weight, np.float32),
              to.weight("head.bias", bias, np.float32)]  # fmt: skip
    to.node("Gemm", inputs, "head", transB=1)
    return [OutputRow("head", "Dense", weight.size + bias.size, weight.size)]


def _halves(to: GraphWriter, source: str, points: NDArray[np.float32]) -> str:
    """Return half the squared distances to points, but for half the image's own square.

    In double precision, as scikit-learn works: a neighbour more or less is a vote. The points are
    kept in single precision, which they are in already.
    """
    kept = to.weight("head.points", points.T, np.float32)
    double = to.node("Cast", [kept], "head.double", to=TensorProto.DOUBLE)
    halves = (points.astype(np.float64) ** 2).sum(axis=1) / 2
    lengths = to.weight("head.lengths", halves, np.float64)
    image = to.node("Cast", [source], "head.image", to=TensorProto.DOUBLE)
    products = to.node("MatMul", [image, double], "head.products")
    return to.node("Sub", [lengths, products], "head.halves")


def _neighbours(to: GraphWriter, fitted: Fitted, source: str) -> list[OutputRow]:
    points = fitted.estimator._fit_X  # scikit-learn shows them nowhere else
    count = fitted.estimator.n_neighbors
    halves = _halves(to, source, points)
    most = to.weight("head.count", [count], np.int64)
    to.node("TopK", [halves, most], "head.nearest", "head.places", axis=1, largest=0)
    labels = to.weight("head.labels", fitted.labels, np.int64)
    voting = to.node("Gather", [labels, "head.places"], "head.voting")
    depth = to.weight("head.classes", fitted.classes, np.int64)
    share = to.weight("head.share", [0, 1 / count], np.float32)
    each = to.node("OneHot", [voting, depth, share], "head.each")
    to.node("ReduceSum", [each, to.weight("head.axis", [1], np.int64)], "votes", keepdims=0)
    kind = f"{count} neighbours of {len(points):,}"
    held = points.size + len(points)
    return [OutputRow("votes", kind, held, points.size), _logarithm(to, fitted.classes)]


def _machine(to: GraphWriter, fitted: Fitted, source: str) -> list[OutputRow]:
    """Write a kernel machine: its votes of each pair of classes, ties broken by confidence.

    C.-W. Hsu and C.-J. Lin, "A comparison of methods for multiclass support vector machines",
    IEEE Transactions on Neural Networks, 2002.
    """
    machine = fitted.estimator
    points = machine.support_vectors_.astype(np.float32)
    kernel = _kernel(to, source, points, machine.gamma)
    decisions, held = _decisions(to, fitted, kernel)
    if fitted.classes == 2:
        sides = to.weight("head.sides", [[-0.5, 0.5]], np.float64)
        scores = to.node("MatMul", [decisions, sides], "head.scores")
    else:
        scores = _votes(to, decisions, fitted.classes)
    to.node("Cast", [scores], "head", to=TensorProto.FLOAT)
    held += points.size
    return [OutputRow("head", f"{len(points):,} support vectors", held, held)]


def _kernel(to: GraphWriter, source: str, points: NDArray[np.float32], gamma: float) -> str:
    """Write how near an image is to each of some points, by a Gaussian."""
    halves = _halves(to, source, points)
    axis = to.weight("head.axis", [1], np.int64)
    own = to.node("ReduceSumSquare", ["head.image", axis], "head.own", keepdims=1)
    own = to.node("Mul", [own, to.weight("head.half", 0.5, np.float64)], "head.own.half")
    distances = to.node("Add", [halves, own], "head.distances")
    width = to.weight("head.gamma", -2 * gamma, np.float64)
    return to.node("Exp", [to.node("Mul", [distances, width], "head.scaled")], "head.kernel")


def _kernel_ridge(to: GraphWriter, machine: KernelRidge, source: str) -> list[OutputRow]:
    """Write a weighted sum over the training images, by how near they are."""
    kernel = _kernel(to, source, machine.points, machine.gamma)
    weight = to.weight("head.coefficients", machine.coefficients, np.float64)
    total = to.node("MatMul", [kernel, weight], "head.sums")
    to.node("Cast", [_shifted(to, total, machine.bias)], "head", to=TensorProto.FLOAT)
    held = machine.points.size + machine.coefficients.size + machine.bias.size
    kind = f"Kernel of {len(machine.points):,} training images"
    return [OutputRow("head", kind, held, held)]


def _decisions(to: GraphWriter, fitted: Fitted, kernel: str) -> tuple[str, int]:
    """Return the decision of each pair of classes, and how many coefficients that takes."""
    machine, classes = fitted.estimator, fitted.classes
    coefficients = machine.dual_coef_.T
    if classes == 2:
        weight = to.weight("head.coefficients", coefficients, np.float64)
        total = to.node("MatMul", [kernel, weight], "head.sums")
        return _shifted(to, total, machine.intercept_), coefficients.size
    # The support vectors are sorted by class; those of class i have a coefficient against each
    # of the others.
    counts = machine.n_support_
    parts = [f"head.kernel{label}" for label in range(classes)]
    to.node("Split", [kernel, to.weight("head.split", counts, np.int64)], *parts, axis=1)
    ends = np.concatenate([[0], np.cumsum(counts)])
    sums = []
    for label, part in enumerate(parts):
        own = coefficients[ends[label] : ends[label + 1]]
        weight = to.weight(f"head.coefficients{label}", own, np.float64)
        sums.append(to.node("MatMul", [part, weight], f"head.sums{label}"))
    joined = to.node("Concat", sums, "head.sums", axis=1)
    pairs = np.array(list(itertools.combinations(range(classes), 2)))
    first, second = pairs.T
    for_first = to.weight("head.for", first * (classes - 1) + second - 1, np.int64)
    against = to.weight("head.against", second * (classes - 1) + first, np.int64)
    one = to.node("Gather", [joined, for_first], "head.one", axis=1)
    other = to.node("Gather", [joined, against], "head.other", axis=1)
    both = to.node("Add", [one, other], "head.both")
    return _shifted(to, both, machine.intercept_), coefficients.size


def _shifted(to: GraphWriter, source: str, by: NDArray[np.float64]) -> str:
    return to.node("Add", [source, to.weight("head.bias", by, np.float64)], "head.decisions")


def _votes(to: GraphWriter, decisions: str, classes: int) -> str:
    """Return scikit-learn's score of each class: pairs won, plus less than a half by how much."""
    pairs = np.array(list(itertools.combinations(range(classes), 2)))
    places = np.arange(len(pairs))
    signs = np.zeros((len(pairs), classes))
    signs[places, pairs[:, 0]], signs[places, pairs[:, 1]] = 1, -1
    margins = to.node(
        "MatMul", [decisions, to.weight("head.signs", signs, np.float64)], "head.margins"
    )
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


class _Nodes(NamedTuple):
    """One tree: its nodes' features, thresholds and children, and what its leaves say.

    Args:
        feature: ``int64[M]``
        threshold: ``float64[M]``; a value up to it goes left.
        left: ``int64[M]``; the node itself marks a leaf, as does ``leaf``.
        right: ``int64[M]``
        leaf: ``bool[M]``
        values: What each node adds to each target, ``float64[M, K]``; 0 where it adds nothing.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf: NDArray[np.bool_]
    values: NDArray[np.float64]


def _forest(to: GraphWriter, fitted: Fitted, source: str) -> list[OutputRow]:
    forest = fitted.estimator.estimators_
    trees = []
    for tree in (one.tree_ for one in forest):
        leaf = tree.children_left < 0
        shares = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
        values = np.where(leaf[:, None], shares / len(forest), 0)
        trees.append(
            _Nodes(
                tree.feature, tree.threshold, tree.children_left, tree.children_right, leaf, values
            )
        )
    held = _ensemble(to, source, "votes", trees, fitted.classes, base=None)
    return [OutputRow("votes", f"{len(forest):,} trees", held, 0), _logarithm(to, fitted.classes)]


def _boosting(to: GraphWriter, fitted: Fitted, source: str) -> list[OutputRow]:
    # scikit-learn shows a boosted tree's nodes nowhere else.
    rounds = fitted.estimator._predictors
    base = fitted.estimator._baseline_prediction.ravel()
    columns = range(1, 2) if fitted.classes == 2 else range(fitted.classes)
    trees = []
    for predictors in rounds:
        for column, predictor in zip(columns, predictors, strict=True):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            values = np.zeros((len(nodes), fitted.classes))
            values[leaf, column] = nodes["value"][leaf]
            trees.append(
                _Nodes(
                    nodes["feature_idx"],
                    nodes["num_threshold"],
                    nodes["left"],
                    nodes["right"],
                    leaf,
                    values,
                )
            )
    start = np.zeros(fitted.classes)
    start[columns.start :] = base
    held = _ensemble(to, source, "head", trees, fitted.classes, base=start)
    return [OutputRow("head", f"{len(rounds):,} rounds of trees", held, 0)]


def _ensemble(
    to: GraphWriter,
    source: str,
    output: str,
    trees: Sequence[_Nodes],
    classes: int,
    *,
    base: NDArray[np.float64] | None,
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
        nodes_values=_downwards(thresholds).tolist(),
        nodes_truenodeids=inner("left"),
        nodes_falsenodeids=inner("right"),
        target_treeids=number[speaking].tolist(),
        target_nodeids=place[speaking].tolist(),
        target_ids=target.tolist(),
        target_weights=values[speaking, target].astype(np.float32).tolist(),
        **({} if base is None else {"base_values": base.astype(np.float32).tolist()}),
    )
    return int((~leaf).sum()) + len(speaking)


def _downwards(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 up to each threshold: float32 values go the same way at both.

    Example:
        >>> bool(_downwards(np.array([0.1]))[0] <= 0.1)
        True
    """
    single = thresholds.astype(np.float32)
    above = single > thresholds
    single[above] = np.nextafter(single[above], np.float32(-np.inf))
    return single


def _logarithm(to: GraphWriter, classes: int) -> OutputRow:
    """Write the logits of shares that add up to 1."""
    least = to.weight("head.least", least_of(classes), np.float32)
    to.node("Log", [to.node("Max", ["votes", least], "head.some")], "head")
    return OutputRow("head", "Logarithm", 0, 0)
