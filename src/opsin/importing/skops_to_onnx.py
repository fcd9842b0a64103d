"""A fitted estimator in a file of skops becomes a graph of standard operators."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onnx import ModelProto, TensorProto, helper

from opsin.core.metadata import MAX_CLASSES
from opsin.importing.answers import Form
from opsin.importing.keras_to_onnx import ConvertedLayer
from opsin.importing.sklearn_classifiers import ClassifierRows, write_classifier_of
from opsin.importing.sklearn_steps import MOST_UNITS, write_step
from opsin.importing.skops_file import SkopsObject, open_skops
from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.postprocessing import IR_VERSION, OPSET, TREES, TREES_OPSET
from opsin.onnx_files.refusal import quoted, refused

# By this name `opsin.backbones.probe` knows what the classifier is given.
_EMBEDDING: Final = "embedding"
_MOST_STEPS: Final = 20


@dataclass(frozen=True)
class ConvertedEstimator:
    """An estimator as standard operators."""

    model: ModelProto  # rows: float64[N, D]
    output: str
    layers: tuple[ConvertedLayer, ...]
    form: Form
    maker: str
    network: str
    classes: tuple[str, ...] | None


def convert_estimator(path: Path) -> ConvertedEstimator:
    """Read an estimator that skops saved."""
    with open_skops(path) as given:
        return _converted(given)


def _converted(given: SkopsObject) -> ConvertedEstimator:
    file = given.file.name
    steps = [given]
    if given.kind == "Pipeline":
        steps = _steps(given)
    *before, last = steps
    values = last.values("classes_")
    texts = tuple(each for each in values if isinstance(each, str))
    if not 2 <= len(values) <= MAX_CLASSES or len(set(values)) != len(values):
        raise refused(file, f"its {last.kind} has {len(values):,} classes, or one twice")
    first = units = steps[0].whole("n_features_in_", 1, MOST_UNITS)
    to, source = GraphWriter(), "rows"
    names = [f"{step.kind.lower()}_{place}" for place, step in enumerate(steps, start=1)]
    layers = []
    for step, name in zip(before, names[:-1], strict=True):
        done = write_step(to, step, name, source, units)
        layers.append(ConvertedLayer(
            name, step.kind, (done.units,), done.parameters, done.parameters, done.multiply_adds
        ))  # fmt: skip
        source, units = name, done.units
    last.whole("n_features_in_", units, units)
    to.node("Identity", [source], _EMBEDDING)
    written = write_classifier_of(to, last, ClassifierRows(source, units, len(values)))
    to.node("Identity", [written.output], names[-1])
    layers.append(ConvertedLayer(
        names[-1], written.kind, (len(values),), written.parameters, written.parameters,
        written.multiply_adds,
    ))  # fmt: skip
    kinds = [step.kind for step in steps]
    network = kinds[0]
    if before:
        network = f"Pipeline of {', '.join(kinds[:-1])} and {kinds[-1]}"
    version = last.plain("_sklearn_version") if "_sklearn_version" in last else ""
    return ConvertedEstimator(
        model=_model(to, network, (first, units), (names[-1], len(values))),
        output=names[-1],
        layers=tuple(layers),
        form=written.form,
        maker=f"scikit-learn {quoted(version)}".strip(),
        network=network,
        classes=texts if len(texts) == len(values) else None,
    )


def _steps(pipeline: SkopsObject) -> list[SkopsObject]:
    """Return the steps of a pipeline that do something."""
    pairs = [each.listed for each in pipeline.items("steps")]
    if not 1 <= len(pairs) <= _MOST_STEPS or any(len(pair) != 2 for pair in pairs):
        raise refused(pipeline.file.name, f"its {pipeline.kind} has {len(pairs):,} steps")
    found = [step for _, step in pairs if not _passes(step)]
    if not found or _passes(pairs[-1][1]):
        raise refused(pipeline.file.name, f"its {pipeline.kind} ends without a classifier")
    return found


def _passes(step: SkopsObject) -> bool:
    """Tell whether a place in a pipeline is left empty."""
    return step.node["__loader__"] == "JsonNode" and step.value in (None, "passthrough")


def _model(
    to: GraphWriter, name: str, units: tuple[int, int], answers: tuple[str, int]
) -> ModelProto:
    ends = [
        helper.make_tensor_value_info(each, kind, ["N", size])
        for (each, size), kind in (
            (("rows", units[0]), TensorProto.DOUBLE),
            ((_EMBEDDING, units[1]), TensorProto.DOUBLE),
            (answers, TensorProto.FLOAT),
        )
    ]
    graph = helper.make_graph(to.nodes, name, ends[:1], ends[1:], to.weights)
    return helper.make_model(
        graph, producer_name="scikit-learn", ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(TREES, TREES_OPSET)],
    )  # fmt: skip
