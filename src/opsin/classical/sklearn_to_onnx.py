"""Each model as the operators that answer as scikit-learn does.

`skl2onnx` would do for some: its 1.20 cannot write boosted trees with the onnx of today, it spends
twice the bytes on a forest's node, and its nearest neighbours need operators that are no standard.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from opsin.classical.classical_recipe import Boosting, Forest, Knn, Logistic, Svm
from opsin.classical.fit import Fitted, least_of
from opsin.classical.kernel_ridge import KernelRidge
from opsin.onnx_files.classical_heads import (
    SupportVectors,
    TreeNodes,
    gaussian_kernel,
    write_neighbours,
    write_scores,
    write_trees,
)
from opsin.onnx_files.graph_writer import GraphWriter


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
    """Write what turns the embedding into logits, ``head: float32[N, K]``, and say what that is."""
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


def _neighbours(to: GraphWriter, fitted: Fitted, source: str) -> list[OutputRow]:
    points = fitted.estimator._fit_X  # scikit-learn shows them nowhere else
    count = fitted.estimator.n_neighbors
    write_neighbours(to, source, points, fitted.labels, count=count, classes=fitted.classes)
    kind = f"{count} neighbours of {len(points):,}"
    held = points.size + len(points)
    return [OutputRow("votes", kind, held, points.size), _logarithm(to, fitted.classes)]


def _machine(to: GraphWriter, fitted: Fitted, source: str) -> list[OutputRow]:
    machine = fitted.estimator
    points = machine.support_vectors_.astype(np.float32)
    kernel = gaussian_kernel(to, source, points, machine.gamma)
    vectors = SupportVectors(
        machine.dual_coef_, machine.intercept_, machine.n_support_, fitted.classes
    )
    write_scores(to, vectors, kernel)
    held = points.size + machine.dual_coef_.size
    return [OutputRow("head", f"{len(points):,} support vectors", held, held)]


def _kernel_ridge(to: GraphWriter, machine: KernelRidge, source: str) -> list[OutputRow]:
    """Write a weighted sum over the training images, by how near they are."""
    kernel = gaussian_kernel(to, source, machine.points, machine.gamma)
    weight = to.weight("head.coefficients", machine.coefficients, np.float64)
    total = to.node("MatMul", [kernel, weight], "head.sums")
    bias = to.weight("head.bias", machine.bias, np.float64)
    shifted = to.node("Add", [total, bias], "head.decisions")
    to.node("Cast", [shifted], "head", to=TensorProto.FLOAT)
    held = machine.points.size + machine.coefficients.size + machine.bias.size
    kind = f"Kernel of {len(machine.points):,} training images"
    return [OutputRow("head", kind, held, held)]


def _forest(to: GraphWriter, fitted: Fitted, source: str) -> list[OutputRow]:
    forest = fitted.estimator.estimators_
    trees = []
    for tree in (one.tree_ for one in forest):
        leaf = tree.children_left < 0
        shares = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
        values = np.where(leaf[:, None], shares / len(forest), 0)
        trees.append(
            TreeNodes(
                tree.feature, tree.threshold, tree.children_left, tree.children_right, leaf, values
            )
        )
    held = write_trees(to, source, "votes", trees, fitted.classes, base=None)
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
                TreeNodes(
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
    held = write_trees(to, source, "head", trees, fitted.classes, base=start)
    return [OutputRow("head", f"{len(rounds):,} rounds of trees", held, 0)]


def _logarithm(to: GraphWriter, classes: int) -> OutputRow:
    """Write the logits of shares that add up to 1."""
    least = to.weight("head.least", least_of(classes), np.float32)
    to.node("Log", [to.node("Max", ["votes", least], "head.some")], "head")
    return OutputRow("head", "Logarithm", 0, 0)
