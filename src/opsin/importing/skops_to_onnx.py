"""A fitted estimator of scikit-learn in a file of skops becomes a graph of standard operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from onnx import TensorProto

from opsin.core.metadata import MAX_CLASSES, Layer
from opsin.importing.converted import Converted, Form, model_of
from opsin.importing.sklearn_trees import boosted_trees, forest_trees
from opsin.importing.skops_file import SkopsObject, open_skops
from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.kernels import (
    KERNELS,
    SupportVectors,
    kernel,
    write_neighbours,
    write_scores,
)
from opsin.onnx_files.refusal import quoted
from opsin.onnx_files.tree_ensemble import write_trees

# By this name `opsin.backbones.probe` knows what the classifier is given.
_EMBEDDING: Final = "embedding"
_MOST_STEPS: Final = 20
_MOST_UNITS: Final = 1 << 22
_MOST_NEIGHBOURS: Final = 10_000
# As scikit-learn keeps a component that does not vary from being divided by nothing.
_LEAST_DEVIATION: Final = float(np.finfo(np.float64).eps)


class _Rows(NamedTuple):
    """What a step or a classifier is given: a value ``float64[N, D]`` of the graph."""

    source: str
    units: int
    classes: int


class _Written(NamedTuple):
    """What a step or a classifier became, and its row of the summary table."""

    value: str
    units: int
    kind: str
    parameters: int
    multiply_adds: int
    form: Form = "logits"

    def layer(self, name: str) -> Layer:
        return Layer(
            name=name, kind=self.kind, shape=(self.units,), parameters=self.parameters,
            trainable=self.parameters, multiply_adds=self.multiply_adds,
        )  # fmt: skip


_Write = Callable[[GraphWriter, SkopsObject, _Rows, str], _Written]


def convert_estimator(path: Path) -> Converted:
    """Read an estimator that skops saved."""
    with open_skops(path) as given:
        return _converted(given)


def _converted(given: SkopsObject) -> Converted:
    steps = _steps(given) if given.kind == "Pipeline" else [given]
    *before, last = steps
    values = last.values("classes_")
    texts = tuple(each for each in values if isinstance(each, str))
    if not 2 <= len(values) <= MAX_CLASSES or len(set(values)) != len(values):
        raise last.refusal(f"has {len(values):,} classes, or one twice")
    first = steps[0].whole("n_features_in_", 1, _MOST_UNITS)
    to, rows, layers = GraphWriter(), _Rows("rows", first, len(values)), []
    names = [f"{step.kind.lower()}_{place}" for place, step in enumerate(steps, start=1)]
    for step, name in zip(before, names[:-1], strict=True):
        written = _write_by(_STEPS, step, "is a step that is not known here")(to, step, rows, name)
        to.node("Identity", [written.value], name)
        layers.append(written.layer(name))
        rows = rows._replace(source=name, units=written.units)
    last.whole("n_features_in_", rows.units, rows.units)
    to.node("Identity", [rows.source], _EMBEDDING)
    write = _write_by(_CLASSIFIERS, last, "is no classifier that is known here")
    written = write(to, last, rows, names[-1])
    to.node("Identity", [written.value], names[-1])
    layers.append(written.layer(names[-1]))
    kinds = [step.kind for step in steps]
    network = f"Pipeline of {', '.join(kinds[:-1])} and {kinds[-1]}" if before else kinds[0]
    version = last.plain("_sklearn_version") if "_sklearn_version" in last else ""
    model = model_of(
        to, network, "scikit-learn",
        ("rows", TensorProto.DOUBLE, (first,)),
        (_EMBEDDING, TensorProto.DOUBLE, (rows.units,)),
        (names[-1], TensorProto.FLOAT, (len(values),)),
        trees=True,
    )  # fmt: skip
    return Converted(
        model, f"scikit-learn {quoted(version)}".strip(), network, tuple(layers), names[-1],
        written.form, classes=texts if len(texts) == len(values) else None,
    )  # fmt: skip


def _steps(pipeline: SkopsObject) -> list[SkopsObject]:
    """Return the steps of a pipeline; a place in it may be left empty."""
    pairs = [each.listed for each in pipeline.items("steps")]
    if not 1 <= len(pairs) <= _MOST_STEPS or any(len(pair) != 2 for pair in pairs):
        raise pipeline.refusal(f"has {len(pairs):,} steps")
    passes = [
        step.node["__loader__"] == "JsonNode" and step.value in (None, "passthrough")
        for _, step in pairs
    ]
    if passes[-1]:
        raise pipeline.refusal("ends without a classifier")
    return [step for (_, step), empty in zip(pairs, passes, strict=True) if not empty]


def _write_by(table: dict[str, _Write], given: SkopsObject, what: str) -> _Write:
    if given.kind not in table:
        raise given.refusal(what, f"Known are {', '.join(table)}.")
    return table[given.kind]


def _standard(to: GraphWriter, step: SkopsObject, rows: _Rows, name: str) -> _Written:
    value, units = rows.source, step.whole("n_features_in_", rows.units, rows.units)
    held = 0
    for option, kind, part, made in (
        ("with_mean", "Sub", "mean", "centred"),
        ("with_std", "Div", "scale", "scaled"),
    ):
        if step.plain(option):
            numbers = step.numbers(f"{part}_", units)
            if kind == "Div" and not numbers.all():
                raise step.refusal("divides by 0")
            weight = to.weight(f"{name}.{part}", numbers, np.float64)
            value = to.node(kind, [value, weight], f"{name}.{made}")
            held += units
    return _Written(value, units, step.kind, held, units)


def _min_max(to: GraphWriter, step: SkopsObject, rows: _Rows, name: str) -> _Written:
    value, units = rows.source, step.whole("n_features_in_", rows.units, rows.units)
    for kind, part, made in (("Mul", "scale", "scaled"), ("Add", "min", "moved")):
        held = to.weight(f"{name}.{part}", step.numbers(f"{part}_", units), np.float64)
        value = to.node(kind, [value, held], f"{name}.{made}")
    if "clip" in step and step.plain("clip"):
        ends = [each.value for each in step.items("feature_range")]
        if len(ends) != 2 or not all(isinstance(each, int | float) for each in ends):
            raise step.refusal(f"has the feature_range {quoted(ends)}")
        names = [to.weight(f"{name}.{end}", each, np.float64)
                 for end, each in zip(("least", "most"), ends, strict=True)]  # fmt: skip
        value = to.node("Clip", [value, *names], f"{name}.clipped")
    return _Written(value, units, step.kind, 2 * units, units)


def _components(to: GraphWriter, step: SkopsObject, rows: _Rows, name: str) -> _Written:
    units = step.whole("n_features_in_", rows.units, rows.units)
    weight = step.numbers("components_", None, units)
    held = weight.size + units
    if step.plain("whiten"):
        deviation = np.sqrt(np.maximum(step.numbers("explained_variance_", len(weight)), 0))
        weight = weight / np.maximum(deviation, _LEAST_DEVIATION)[:, None]
    mean = to.weight(f"{name}.mean", step.numbers("mean_", units), np.float64)
    value = to.node("Sub", [rows.source, mean], f"{name}.centred")
    turned = to.weight(f"{name}.components", weight.T, np.float64)
    value = to.node("MatMul", [value, turned], f"{name}.projected")
    return _Written(value, len(weight), step.kind, held, weight.size)


def _single(to: GraphWriter, source: str) -> str:
    return to.node("Cast", [source], "head.given", to=TensorProto.FLOAT)


def _logistic(to: GraphWriter, given: SkopsObject, rows: _Rows, _: str) -> _Written:
    count = 1 if rows.classes == 2 else rows.classes
    weight = given.numbers("coef_", count, rows.units)
    bias = given.numbers("intercept_", count)
    # Before 1.8 it could be told to answer class by class, or for two classes by a softmax.
    way = given.plain("multi_class") if "multi_class" in given else "auto"
    form: Form = "logits"
    if rows.classes == 2:
        doubled = 1 if way == "multinomial" else 2
        weight, bias = (np.concatenate([-part, part]) / doubled for part in (weight, bias))
    elif way == "ovr" or (way != "multinomial" and given.plain("solver") == "liblinear"):
        form = "sigmoid"
    inputs = [_single(to, rows.source), to.weight("head.weight", weight, np.float32),
              to.weight("head.bias", bias, np.float32)]  # fmt: skip
    name = to.node("Gemm", inputs, "head", transB=1)
    if form == "sigmoid":
        name = to.node("Sigmoid", [name], "head.shares")
    return _Written(
        name, rows.classes, "Dense", weight.size + bias.size, weight.size, form
    )  # fmt: skip


def _forest(to: GraphWriter, given: SkopsObject, rows: _Rows, _: str) -> _Written:
    trees = forest_trees(given, rows.units, rows.classes)
    held = write_trees(to, _single(to, rows.source), "votes", trees, rows.classes, base=None)
    return _Written("votes", rows.classes, f"{len(trees):,} trees", held, 0, "probabilities")


def _boosting(to: GraphWriter, given: SkopsObject, rows: _Rows, _: str) -> _Written:
    if "_preprocessor" in given and given.plain("_preprocessor") is not None:
        raise given.refusal("encodes categories")
    trees = boosted_trees(given, rows.units, rows.classes)
    columns = 1 if rows.classes == 2 else rows.classes
    start = np.zeros(rows.classes)
    start[-columns:] = given.numbers("_baseline_prediction", 1, columns)[0]
    held = write_trees(to, rows.source, "head", trees, rows.classes, base=start, double=True)
    return _Written("head", rows.classes, f"{len(trees) // columns:,} rounds of trees", held, 0)


def _neighbours(to: GraphWriter, given: SkopsObject, rows: _Rows, _: str) -> _Written:
    for name, wanted in (("weights", "uniform"), ("effective_metric_", "euclidean")):
        if (found := given.plain(name)) != wanted:
            raise given.refusal(f"has {name}={quoted(found)}, and only {wanted} is known here")
    points = given.numbers("_fit_X", None, rows.units)
    count = given.whole("n_neighbors", 1, min(len(points), _MOST_NEIGHBOURS))
    labels = given.numbers("_y", len(points)).astype(np.int64)
    if labels.min() < 0 or labels.max() >= rows.classes:
        raise given.refusal("names a class that there is not in _y")
    write_neighbours(
        to, _single(to, rows.source), points.astype(np.float32), labels, count=count,
        classes=rows.classes,
    )  # fmt: skip
    kind = f"{count} neighbours of {len(points):,}"
    held = points.size + len(points)
    return _Written("votes", rows.classes, kind, held, points.size, "probabilities")


def _machine(to: GraphWriter, given: SkopsObject, rows: _Rows, _: str) -> _Written:
    """Write a kernel machine's scores, also where it was asked for probabilities."""
    name: Any = given.plain("kernel")
    if name not in KERNELS:
        raise given.refusal(f"has the kernel {quoted(name)}")
    points = given.numbers("support_vectors_", None, rows.units)
    counts = given.numbers("_n_support", rows.classes).astype(np.int64)
    if (counts < 1).any() or counts.sum() != len(points):
        raise given.refusal("has an _n_support of other vectors")
    machine = SupportVectors(
        given.numbers("dual_coef_", rows.classes - 1, len(points)),
        given.numbers("intercept_", rows.classes * (rows.classes - 1) // 2),
        counts,
        rows.classes,
    )
    near = kernel(
        to, _single(to, rows.source), points.astype(np.float32), name=name,
        gamma=given.number("_gamma"), degree=given.number("degree"), shift=given.number("coef0"),
    )  # fmt: skip
    held = points.size + machine.coefficients.size
    kind = f"{len(points):,} support vectors"
    return _Written(write_scores(to, machine, near), rows.classes, kind, held, held, "scores")


_STEPS: Final[dict[str, _Write]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "PCA": _components,
}
_CLASSIFIERS: Final[dict[str, _Write]] = {
    "LogisticRegression": _logistic,
    "RandomForestClassifier": _forest,
    "ExtraTreesClassifier": _forest,
    "HistGradientBoostingClassifier": _boosting,
    "KNeighborsClassifier": _neighbours,
    "SVC": _machine,
}
