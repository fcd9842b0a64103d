"""Writing of graphs, and the last operators of every classifier.onnx: calibrated answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError, ParityError
from opsin.core.metadata import Metadata
from opsin.runtime.providers import cpu_session

try:
    import onnx
    from onnx import NodeProto, TensorProto, helper, numpy_helper
except ImportError as error:
    raise MissingExtraError("writing a classifier", "evaluate") from error

#: The domain of trees, the only operator beyond the plain ones.
TREES: Final = "ai.onnx.ml"
#: Operators of 2023, which every runtime in use knows, and the trees of 2021.
OPSET: Final = 20
TREES_OPSET: Final = 3
IR_VERSION: Final = 9
#: Names in every file: the pixels ``uint8[N, H, W, C]``, and the network's and the file's answers.
IMAGES: Final = "images"
LOGITS: Final = "head"
#: The input of a head on a pretrained network.
FEATURES: Final = "features.mean"
PROBABILITIES: Final = "probabilities"
#: Names of weights that are known only after the training.
TEMPERATURE: Final = "temperature"
CLASS_MIX: Final = "class_mix"
SCALES: Final = "ood_score.scales"
MEANS: Final = "ood_score.means"
#: Largest difference of probabilities by rounding, at temperature 1.
TOLERANCE: Final = 1e-4
# Keeps the directions of all-zero embeddings finite.
_NO_LENGTH: Final = 1e-12
#: An input or output of a graph: its name, type of numbers, and shape for one image.
End = tuple[str, int, tuple[int, ...]]


@dataclass
class GraphWriter:
    """Collects the nodes and weights of one ONNX graph."""

    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)

    def weight(self, name: str, value: Any, dtype: type[np.generic]) -> str:
        """Store an array and return the name to use as an input."""
        array = np.ascontiguousarray(value, dtype)
        self.weights.append(numpy_helper.from_array(array.reshape(np.shape(value)), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        """Add an operator and return the name of its first output."""
        name = f"{outputs[0]}/{kind}"
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs[0]


def tail(
    to: GraphWriter,
    logits: str,
    embedding: str,
    *,
    classes: int,
    units: int,
    mix: NDArray[np.float64] | None = None,
) -> None:
    """Write the last operators of a file, and their weights."""
    to.weight(TEMPERATURE, 1, np.float32)
    to.weight(CLASS_MIX, np.zeros(classes) if mix is None else mix, np.float32)
    to.weight(SCALES, np.ones(units), np.float32)
    to.weight(MEANS, np.zeros((units, classes)), np.float32)
    least = to.weight("ood_score.least", _NO_LENGTH, np.float32)
    axis = to.weight("ood_score.axis", [1], np.int64)
    one = to.weight("ood_score.one", 1, np.float32)
    tempered = to.node("Div", [logits, TEMPERATURE], "tempered")
    calibrated = to.node("Add", [tempered, CLASS_MIX], "calibrated")
    to.node("Softmax", [calibrated], PROBABILITIES, axis=1)
    to.node("Identity", [embedding], "embedding")
    scaled = to.node("Mul", ["embedding", SCALES], "ood_score.scaled")
    length = to.node("ReduceL2", [scaled, axis], "ood_score.length", keepdims=1)
    divisor = to.node("Max", [length, least], "ood_score.divisor")
    direction = to.node("Div", [scaled, divisor], "ood_score.direction")
    cosines = to.node("MatMul", [direction, MEANS], "ood_score.cosines")
    nearest = to.node("ReduceMax", [cosines, axis], "ood_score.cosine", keepdims=0)
    to.node("Sub", [one, nearest], "ood_score")


def answers_to(*, classes: int, units: int) -> list[End]:
    """Every file's outputs, as `model_of` takes them."""
    sizes = {PROBABILITIES: (classes,), "embedding": (units,), "ood_score": ()}
    return [(name, TensorProto.FLOAT, shape) for name, shape in sizes.items()]


@dataclass(frozen=True)
class Calibrated:
    """Weights of the last operators, known after the training."""

    temperature: float
    scales: NDArray[np.float32]  # float32[D]
    means: NDArray[np.float32]  # float32[M, D]
    mix: NDArray[np.float64] | None = None  # float64[K]

    def set_in(self, weights: Iterable[TensorProto]) -> None:
        """Replace the weights that `tail` left open."""
        values = {
            TEMPERATURE: np.array(self.temperature, np.float32),
            SCALES: np.asarray(self.scales, np.float32),
            MEANS: np.ascontiguousarray(self.means.T, np.float32),
        }
        for weight in weights:
            if weight.name in values:
                weight.CopyFrom(numpy_helper.from_array(values[weight.name], weight.name))

    def answer(
        self, logits: NDArray[np.float32], embedding: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a file's answers for known logits and embeddings, without the network."""
        classes, units = logits.shape[1], embedding.shape[1]
        to = GraphWriter()
        tail(to, "logits", "seen", classes=classes, units=units, mix=self.mix)
        self.set_in(to.weights)
        sizes = ("logits", classes), ("seen", units)
        ends: list[End] = [(name, TensorProto.FLOAT, (size,)) for name, size in sizes]
        ends += answers_to(classes=classes, units=units)
        session = cpu_session(model_of(to, "tail", *ends, inputs=2).SerializeToString())
        probabilities, ood_score = session.run(
            ["probabilities", "ood_score"], {"logits": logits, "seen": embedding}
        )
        return probabilities, ood_score


def model_of(
    to: GraphWriter,
    name: str,
    *ends: End,
    inputs: int = 1,
    metadata: Metadata | None = None,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """A model of a written graph, its inputs first among the ends, with metadata, if any."""
    infos = [helper.make_tensor_value_info(end, kind, ["N", *shape]) for end, kind, shape in ends]
    graph = helper.make_graph(to.nodes, name, infos[:inputs], infos[inputs:], to.weights)
    domains = {"": opset, TREES: TREES_OPSET}
    used = {node.domain for node in graph.node} | {""}
    opsets = [helper.make_opsetid(name, domains[name]) for name in sorted(used)]
    model = helper.make_model(
        graph, producer_name="opsin", opset_imports=opsets, ir_version=IR_VERSION
    )
    if metadata is not None:
        model.producer_version = metadata.opsin
        helper.set_model_props(model, metadata.to_props())
    return model


def write_file(
    nodes: Sequence[NodeProto],
    weights: Sequence[TensorProto],
    metadata: Metadata,
    *,
    embedding: str,
    units: int,
    opset: int = OPSET,
    features: int | None = None,
) -> bytes:
    """Return a classifier.onnx that is not calibrated yet; or a head alone, with features given."""
    classes = len(metadata.classes)
    source: End = (IMAGES, TensorProto.UINT8, metadata.preparation.shape)
    if features is not None:
        source = (FEATURES, TensorProto.FLOAT, (features,))
    mix = None if metadata.class_mix is None else metadata.class_mix.log_ratio
    to = GraphWriter(list(nodes), list(weights))
    tail(to, LOGITS, embedding, classes=classes, units=units, mix=mix)
    answers = answers_to(classes=classes, units=units)
    model = model_of(to, "opsin", source, *answers, metadata=metadata, opset=opset)
    content: bytes = model.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    return content


def finished(content: bytes, metadata: Metadata, calibrated: Calibrated | None = None) -> bytes:
    """Return a file with new metadata and calibration; its network stays as it is."""
    model = onnx.load_model_from_string(content)
    helper.set_model_props(model, metadata.to_props())
    if calibrated is not None:
        calibrated.set_in(model.graph.initializer)
    changed: bytes = model.SerializeToString()
    return changed


def without_notes(content: bytes) -> bytes:
    """Return a classifier.onnx without notes of other programs: they often hold paths and code."""
    model = onnx.load_model_from_string(content)
    model.ClearField("doc_string")
    graph = model.graph  # there are no graphs inside operators
    options = (option for node in graph.node for option in node.attribute)
    for part in itertools.chain(
        [graph], graph.node, options, graph.initializer, graph.input, graph.output, graph.value_info
    ):
        for noted in ("doc_string", "metadata_props"):
            if noted in part.DESCRIPTOR.fields_by_name:
                part.ClearField(noted)
    changed: bytes = model.SerializeToString()
    return changed


def answers_of(metadata: Metadata, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a file's probabilities for logits, ``float64[N, K]``."""
    temperature = 1.0 if metadata.calibration is None else metadata.calibration.temperature
    mix = 0.0 if metadata.class_mix is None else metadata.class_mix.log_ratio
    from scipy.special import softmax  # noqa: PLC0415  only parity needs SciPy

    answers: NDArray[np.float64] = softmax(logits / temperature + mix, axis=1)
    return answers


def check_answers(
    answers: NDArray[np.float32],
    expected: NDArray[np.float64],
    metadata: Metadata,
    *,
    of: str,
    settled: NDArray[np.bool_] | None = None,
    apart: float | None = None,
) -> float:
    """Compare a file's answers with those of its model."""
    temperature = 1.0 if metadata.calibration is None else metadata.calibration.temperature
    # Dividing logits by less than 1 enlarges their rounding as well.
    tolerance = TOLERANCE * max(1.0, 1 / temperature)
    known = np.ones(len(answers), bool) if settled is None else settled
    difference = float(np.abs(answers - expected)[known].max(initial=0.0))
    # Two classes that stand level may change places by a rounding; no other label may.
    second, first = np.sort(expected, axis=1)[:, -2:].T
    swapped = answers.argmax(axis=1) != expected.argmax(axis=1)
    swapped &= (first - second > 2 * tolerance) & known
    close = difference <= tolerance and (apart is None or apart <= TOLERANCE)
    if not close or swapped.any():
        inputs = "" if apart is None else f" (what they are computed from, by {apart:.2g})"
        raise ParityError(
            f"The file's probabilities differ by up to {difference:.2g} from {of}'s{inputs}, not "
            f"{tolerance:g} at most, and {int(swapped.sum())} of {len(answers)} labels with them",
            "Please report this with the run's recipe.json; the file was not written.",
        )
    return difference
