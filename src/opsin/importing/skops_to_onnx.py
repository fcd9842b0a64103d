"""A fitted estimator of scikit-learn in a file of skops becomes a graph of standard operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from onnx import TensorProto

from opsin.core.metadata import MAX_CLASSES, Layer
from opsin.importing.answers import Converted, Form
from opsin.importing.skops_file import LARGEST, SkopsObject, open_skops
from opsin.onnx_files.classical_heads import (
    SupportVectors,
    TreeNodes,
    gaussian_kernel,
    products,
    write_neighbours,
    write_scores,
    write_trees,
)
from opsin.onnx_files.postprocessing import GraphWriter, model_of
from opsin.runtime.onnx_scan import printable, refused

# By this name `opsin.backbones.probe` knows what the classifier is given.
_EMBEDDING: Final = "embedding"
_MOST_STEPS: Final = 20
_MOST_UNITS: Final = 1 << 22
_MOST_NEIGHBOURS: Final = 10_000
# As scikit-learn keeps a component that does not vary from being divided by nothing.
_LEAST_DEVIATION: Final = float(np.finfo(np.float64).eps)
# Columns of a tree's nodes, in the order of `TreeNodes`, and kinds of their numbers.
_NODE: Final = {"feature": "iu", "threshold": "f", "left_child": "iu", "right_child": "iu"}


class _Rows(NamedTuple):
    """The input of a step or a classifier: a value ``float64[N, D]`` of the graph."""

    source: str
    units: int
    classes: int


class _Written(NamedTuple):
    """The output of a step or a classifier, and its row of the summary table."""

    value: str
    units: int
    kind: str
    parameters: int
    multiply_adds: int
    form: Form = "logits"


_Write = Callable[[GraphWriter, SkopsObject, _Rows, str], _Written]


def convert_estimator(path: Path) -> Converted:
    """Read an estimator that skops saved."""
    with open_skops(path) as estimator:
        return _converted(estimator)


def _converted(estimator: SkopsObject) -> Converted:
    steps = _steps(estimator) if estimator.kind == "Pipeline" else [estimator]
    last = steps[-1]
    values = last.values("classes_")
    texts = tuple(value for value in values if isinstance(value, str))
    if not 2 <= len(values) <= MAX_CLASSES or len(set(values)) != len(values):
        raise last.refusal(f"has {len(values):,} classes, or one twice")
    first = steps[0].whole("n_features_in_", 1, _MOST_UNITS)
    to, rows, layers = GraphWriter(), _Rows("rows", first, len(values)), []
    for number, step in enumerate(steps, start=1):
        name, table, what = f"{step.kind.lower()}_{number}", _STEPS, "step that is not known here"
        if step is last:
            step.whole("n_features_in_", rows.units, rows.units)
            embedding = (to.node("Identity", [rows.source], _EMBEDDING), rows.units)
            table, what = _CLASSIFIERS, "classifier that is known here"
        if step.kind not in table:
            article = "no" if step is last else "a"
            raise step.refusal(f"is {article} {what}", f"Known are {', '.join(table)}.")
        written = table[step.kind](to, step, rows, name)
        to.node("Identity", [written.value], name)
        layers.append(
            Layer(
                name=name,
                kind=written.kind,
                shape=(written.units,),
                parameters=written.parameters,
                trainable=written.parameters,
                multiply_adds=written.multiply_adds,
            )
        )
        rows = rows._replace(source=name, units=written.units)
    *before, kind = (step.kind for step in steps)
    network = f"Pipeline of {', '.join(before)} and {kind}" if before else kind
    version = last.object("_sklearn_version").value if "_sklearn_version" in last else ""
    model = model_of(
        to,
        network,
        ("rows", TensorProto.DOUBLE, (first,)),
        (embedding[0], TensorProto.DOUBLE, (embedding[1],)),
        (name, TensorProto.FLOAT, (len(values),)),
    )
    return Converted(
        model,
        f"scikit-learn {printable(version)}".strip(),
        network,
        tuple(layers),
        name,
        written.form,
        classes=texts if len(texts) == len(values) else None,
    )


def _steps(pipeline: SkopsObject) -> list[SkopsObject]:
    pairs = [pair.listed for pair in pipeline.object("steps").listed]
    if not 1 <= len(pairs) <= _MOST_STEPS or any(len(pair) != 2 for pair in pairs):
        raise pipeline.refusal(f"has {len(pairs):,} steps")
    passes = [
        step.node["__loader__"] == "JsonNode" and step.value in (None, "passthrough")
        for _, step in pairs
    ]
    if passes[-1]:
        raise pipeline.refusal("ends without a classifier")
    return [step for (_, step), empty in zip(pairs, passes, strict=True) if not empty]


def _standard(to: GraphWriter, step: SkopsObject, rows: _Rows, name: str) -> _Written:
    value, units = rows.source, step.whole("n_features_in_", rows.units, rows.units)
    held = 0
    for option, kind, part, made in (
        ("with_mean", "Sub", "mean", "centred"),
        ("with_std", "Div", "scale", "scaled"),
    ):
        if step.object(option).value:
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
    if "clip" in step and step.object("clip").value:
        ends = [end.value for end in step.object("feature_range").listed]
        if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
            raise step.refusal(f"has the feature_range {printable(ends)}")
        names = [
            to.weight(f"{name}.{bound}", end, np.float64)
            for bound, end in zip(("least", "most"), ends, strict=True)
        ]
        value = to.node("Clip", [value, *names], f"{name}.clipped")
    return _Written(value, units, step.kind, 2 * units, units)


def _components(to: GraphWriter, step: SkopsObject, rows: _Rows, name: str) -> _Written:
    units = step.whole("n_features_in_", rows.units, rows.units)
    weight = step.numbers("components_", None, units)
    held = weight.size + units
    if step.object("whiten").value:
        deviation = np.sqrt(np.maximum(step.numbers("explained_variance_", len(weight)), 0))
        weight = weight / np.maximum(deviation, _LEAST_DEVIATION)[:, None]
    mean = to.weight(f"{name}.mean", step.numbers("mean_", units), np.float64)
    value = to.node("Sub", [rows.source, mean], f"{name}.centred")
    turned = to.weight(f"{name}.components", weight.T, np.float64)
    value = to.node("MatMul", [value, turned], f"{name}.projected")
    return _Written(value, len(weight), step.kind, held, weight.size)


def _single(to: GraphWriter, source: str) -> str:
    return to.node("Cast", [source], "head.given", to=TensorProto.FLOAT)


def _logistic(to: GraphWriter, model: SkopsObject, rows: _Rows, _: str) -> _Written:
    count = 1 if rows.classes == 2 else rows.classes
    weight = model.numbers("coef_", count, rows.units)
    bias = model.numbers("intercept_", count)
    # Before 1.8 it could be told to answer class by class, or for two classes by a softmax.
    way = model.object("multi_class").value if "multi_class" in model else "auto"
    by_class = rows.classes > 2 and model.object("solver").value == "liblinear"
    if by_class or way == ("multinomial" if rows.classes == 2 else "ovr"):
        cause = "solver=liblinear" if by_class else f"multi_class={printable(way)}"
        reason = f"answers otherwise than scikit-learn 1.8 ({cause})"
        raise model.refusal(reason, "Fit it anew without that.")
    if rows.classes == 2:
        weight, bias = (np.concatenate([-part, part]) / 2 for part in (weight, bias))
    inputs = [
        _single(to, rows.source),
        to.weight("head.weight", weight, np.float32),
        to.weight("head.bias", bias, np.float32),
    ]
    name = to.node("Gemm", inputs, "head", transB=1)
    return _Written(name, rows.classes, "Dense", weight.size + bias.size, weight.size)


def _forest(to: GraphWriter, forest: SkopsObject, rows: _Rows, _: str) -> _Written:
    estimators = forest.object("estimators_").listed
    forest.whole("n_estimators", len(estimators), len(estimators))
    if not estimators:
        raise forest.refusal("has no trees")
    trees = []
    for tree in (estimator.object("tree_") for estimator in estimators):
        nodes = tree.records("nodes", **_NODE)
        leaf = nodes["left_child"] == -1
        votes = tree.numbers("values", len(leaf), 1, rows.classes)[:, 0]
        sums = votes.sum(axis=1, keepdims=True)
        if (votes < 0).any() or not (sums[leaf] > 0).all():
            raise forest.refusal("has a tree with no votes in a leaf")
        shares = np.zeros_like(votes)
        shares[leaf] = votes[leaf] / sums[leaf] / len(estimators)
        one = TreeNodes._make((*(nodes[name] for name in _NODE), leaf, shares))
        _check_tree(forest.file.name, one, rows.units)
        trees.append(one)
    held = write_trees(to, _single(to, rows.source), trees, rows.classes)
    return _Written("votes", rows.classes, f"{len(trees):,} trees", held, 0, "probabilities")


def _check_tree(file: str, tree: TreeNodes, units: int) -> None:
    """Check that all nodes of a tree lie behind their parents: no way in it is without end."""
    inner, count = ~tree.leaf, len(tree.leaf)
    parents = np.flatnonzero(inner)
    children = np.concatenate([tree.left[inner], tree.right[inner]])
    inside = (children > np.concatenate([parents, parents])).all() and (children < count).all()
    if not inside or len(np.unique(children)) != len(children) or len(children) != count - 1:
        raise refused(file, "a tree in it has nodes that lead back, or nowhere")
    if not ((tree.feature[inner] >= 0) & (tree.feature[inner] < units)).all():
        raise refused(file, "a tree in it asks for a pixel that there is not")
    if not (np.abs(tree.threshold[inner]) <= LARGEST).all():
        raise refused(file, "a tree in it compares with what is no number")


def _neighbours(to: GraphWriter, model: SkopsObject, rows: _Rows, _: str) -> _Written:
    for name, wanted in (("weights", "uniform"), ("effective_metric_", "euclidean")):
        if (value := model.object(name).value) != wanted:
            raise model.refusal(f"has {name}={printable(value)}, and only {wanted} is known here")
    points = model.numbers("_fit_X", None, rows.units)
    count = model.whole("n_neighbors", 1, min(len(points), _MOST_NEIGHBOURS))
    labels = model.numbers("_y", len(points)).astype(np.int64)
    if labels.min() < 0 or labels.max() >= rows.classes:
        raise model.refusal("names a class that there is not in _y")
    source, vectors = _single(to, rows.source), points.astype(np.float32)
    write_neighbours(to, source, vectors, labels, count=count, classes=rows.classes)
    kind = f"{count} neighbours of {len(points):,}"
    held = points.size + len(points)
    return _Written("votes", rows.classes, kind, held, points.size, "probabilities")


def _machine(to: GraphWriter, model: SkopsObject, rows: _Rows, _: str) -> _Written:
    """Write a kernel machine's scores, even if it was fitted for probabilities."""
    name = model.object("kernel").value
    if name not in ("rbf", "linear"):
        raise model.refusal(f"has the kernel {printable(name)}")
    points = model.numbers("support_vectors_", None, rows.units)
    counts = model.numbers("_n_support", rows.classes).astype(np.int64)
    if (counts < 1).any() or counts.sum() != len(points):
        raise model.refusal("has an _n_support of other vectors")
    machine = SupportVectors(
        model.numbers("dual_coef_", rows.classes - 1, len(points)),
        model.numbers("intercept_", rows.classes * (rows.classes - 1) // 2),
        counts,
        rows.classes,
    )
    source, vectors = _single(to, rows.source), points.astype(np.float32)
    if name == "rbf":
        near = gaussian_kernel(to, source, vectors, model.number("_gamma"))
    else:
        near = products(to, source, vectors)
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
    "KNeighborsClassifier": _neighbours,
    "SVC": _machine,
}
