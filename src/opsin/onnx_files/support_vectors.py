"""The decisions of a kernel machine between each two classes, and its score of each class."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from opsin.onnx_files.graph_writer import GraphWriter


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
    """Return the decision of each pair of classes."""
    coefficients, classes = machine.coefficients.T, machine.classes
    if classes == 2:
        weight = to.weight("head.coefficients", coefficients, np.float64)
        total = to.node("MatMul", [kernel, weight], "head.sums")
        return _shifted(to, total, machine.intercepts)
    # The support vectors are sorted by class; those of class i have a coefficient against each
    # of the others.
    counts = machine.counts
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
    return _shifted(to, both, machine.intercepts)


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
