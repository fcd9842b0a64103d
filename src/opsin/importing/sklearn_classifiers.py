"""Classifiers of scikit-learn: fitted numbers out of a file become operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from onnx import TensorProto

from opsin.importing.answers import Form
from opsin.importing.sklearn_trees import boosted_trees, forest_trees
from opsin.importing.skops_file import SkopsObject
from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.kernels import KERNELS, kernel
from opsin.onnx_files.neighbour_votes import write_neighbours
from opsin.onnx_files.refusal import quoted, refused
from opsin.onnx_files.support_vectors import SupportVectors, write_scores
from opsin.onnx_files.tree_ensemble import write_trees

_MOST_NEIGHBOURS: Final = 10_000


@dataclass(frozen=True)
class ClassifierRows:
    """What a classifier is given."""

    source: str  # float64[N, D]
    units: int
    classes: int


@dataclass(frozen=True)
class WrittenClassifier:
    """What a classifier became, as the summary table shows it."""

    output: str  # float32[N, K]
    form: Form
    kind: str
    parameters: int
    multiply_adds: int


def write_classifier_of(
    to: GraphWriter, given: SkopsObject, rows: ClassifierRows
) -> WrittenClassifier:
    """Write how a classifier answers."""
    write = CLASSIFIERS.get(given.kind)
    if write is None:
        raise refused(
            given.file.name, f"its {given.kind} is no classifier that is known here",
            f"Known are {', '.join(CLASSIFIERS)}.",
        )  # fmt: skip
    return write(to, given, rows)


def _single(to: GraphWriter, source: str) -> str:
    return to.node("Cast", [source], "head.given", to=TensorProto.FLOAT)


def _logistic(to: GraphWriter, given: SkopsObject, rows: ClassifierRows) -> WrittenClassifier:
    count = 1 if rows.classes == 2 else rows.classes
    weight = given.numbers("coef_", count, rows.units)
    bias = given.numbers("intercept_", count)
    # Before 1.8 it could be told to answer class by class, or for two rows.classes by a softmax.
    way = given.plain("multi_class") if "multi_class" in given else "auto"
    solver = given.plain("solver")
    form: Form = "logits"
    if rows.classes == 2:
        doubled = 1 if way == "multinomial" else 2
        weight, bias = (np.concatenate([-part, part]) / doubled for part in (weight, bias))
    elif way == "ovr" or (way != "multinomial" and solver == "liblinear"):
        form = "sigmoid"
    inputs = [_single(to, rows.source), to.weight("head.weight", weight, np.float32),
              to.weight("head.bias", bias, np.float32)]  # fmt: skip
    name = to.node("Gemm", inputs, "head", transB=1)
    if form == "sigmoid":
        name = to.node("Sigmoid", [name], "head.shares")
    return WrittenClassifier(name, form, "Dense", weight.size + bias.size, weight.size)


def _forest(to: GraphWriter, given: SkopsObject, rows: ClassifierRows) -> WrittenClassifier:
    trees = forest_trees(given, rows.units, rows.classes)
    held = write_trees(to, _single(to, rows.source), "votes", trees, rows.classes, base=None)
    return WrittenClassifier("votes", "probabilities", f"{len(trees):,} trees", held, 0)


def _boosting(to: GraphWriter, given: SkopsObject, rows: ClassifierRows) -> WrittenClassifier:
    if "_preprocessor" in given and given.plain("_preprocessor") is not None:
        raise refused(given.file.name, f"its {given.kind} encodes categories")
    trees = boosted_trees(given, rows.units, rows.classes)
    columns = 1 if rows.classes == 2 else rows.classes
    start = np.zeros(rows.classes)
    start[-columns:] = given.numbers("_baseline_prediction", 1, columns)[0]
    held = write_trees(to, rows.source, "head", trees, rows.classes, base=start, double=True)
    rounds = len(trees) // columns
    return WrittenClassifier("head", "logits", f"{rounds:,} rounds of trees", held, 0)


def _neighbours(to: GraphWriter, given: SkopsObject, rows: ClassifierRows) -> WrittenClassifier:
    for name, wanted in (("weights", "uniform"), ("effective_metric_", "euclidean")):
        if given.plain(name) != wanted:
            raise refused(
                given.file.name,
                f"{name} of its {given.kind} is {quoted(given.plain(name))}, and only {wanted} "
                "is known here",
            )
    points = given.numbers("_fit_X", None, rows.units)
    count = given.whole("n_neighbors", 1, min(len(points), _MOST_NEIGHBOURS))
    labels = given.numbers("_y", len(points)).astype(np.int64)
    if labels.min() < 0 or labels.max() >= rows.classes:
        raise refused(given.file.name, f"_y of its {given.kind} names a class that there is not")
    single = points.astype(np.float32)
    write_neighbours(
        to, _single(to, rows.source), single, labels, count=count, classes=rows.classes
    )
    kind = f"{count} neighbours of {len(points):,}"
    held = points.size + len(points)
    return WrittenClassifier("votes", "probabilities", kind, held, points.size)


def _machine(to: GraphWriter, given: SkopsObject, rows: ClassifierRows) -> WrittenClassifier:
    """Write a kernel machine's scores, also where it was asked for probabilities."""
    name = given.plain("kernel")
    if name not in KERNELS:
        raise refused(given.file.name, f"kernel of its {given.kind} is {quoted(name)}")
    points = given.numbers("support_vectors_", None, rows.units)
    counts = given.numbers("_n_support", rows.classes).astype(np.int64)
    if (counts < 1).any() or counts.sum() != len(points):
        raise refused(given.file.name, f"_n_support of its {given.kind} are not its vectors")
    machine = SupportVectors(
        given.numbers("dual_coef_", rows.classes - 1, len(points)),
        given.numbers("intercept_", rows.classes * (rows.classes - 1) // 2),
        counts,
        rows.classes,
    )
    near = kernel(
        to,
        _single(to, rows.source),
        points.astype(np.float32),
        name=name,
        gamma=given.number("_gamma"),
        degree=given.number("degree"),
        shift=given.number("coef0"),
    )
    held = points.size + machine.coefficients.size
    kind = f"{len(points):,} support vectors"
    return WrittenClassifier(write_scores(to, machine, near), "scores", kind, held, held)


#: How each class of a classifier is written.
CLASSIFIERS: Final[
    dict[str, Callable[[GraphWriter, SkopsObject, ClassifierRows], WrittenClassifier]]
] = {
    "LogisticRegression": _logistic,
    "RandomForestClassifier": _forest,
    "ExtraTreesClassifier": _forest,
    "HistGradientBoostingClassifier": _boosting,
    "KNeighborsClassifier": _neighbours,
    "SVC": _machine,
}
