"""The answers of a network: logits or probabilities, and their form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from pydantic import BaseModel, ConfigDict

from opsin.core.metadata import MAX_CLASSES, Layer
from opsin.onnx_files.onnx_graph import attribute, rename_values
from opsin.onnx_files.postprocessing import GraphWriter
from opsin.runtime.onnx_scan import printable, refused
from opsin.runtime.providers import cpu_session

#: The form of a network's answers.
Form = Literal["logits", "softmax", "probabilities", "sigmoid", "scores"]
#: The name of the logits in the graph.
ANSWERS: Final = "answers"
# Operators that change no number of a row.
_PASSING: Final = frozenset(("Identity", "Cast", "Flatten", "Squeeze", "Reshape", "Dropout"))
_IMAGES: Final = 16
_CLOSE: Final = 1e-3
# Below it a probability is 0: its logarithm stays a number.
_LEAST: Final = 1e-30
_WORDS: Final = {
    "logits": "logits, as the network puts them out",
    "softmax": "logits, as they are before its softmax",
    "scores": "scores, as decision_function gives them; their softmax is no probability that it "
    "learnt",
    "probabilities": "the logarithms of the probabilities that it puts out",
    "sigmoid": "a probability for each class by itself, brought to a sum of 1",
}
_KINDS: Final = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """A network that a reader turned into standard operators, and details from its file."""

    model: onnx.ModelProto
    maker: str
    network: str
    layers: tuple[Layer, ...] = ()  # none: each operator is one
    output: str | None = None
    form: Form | None = None
    scales: str | None = None  # the layer that scales pixels from 0 to 255
    classes: tuple[str, ...] | None = None


class FoundAnswers(BaseModel):
    """The source of the logits: an output, its form, and the number of classes."""

    model_config = ConfigDict(frozen=True)

    output: str
    form: Form
    classes: int

    @property
    def words(self) -> str:
        """A description in one line."""
        if self.form == "sigmoid" and self.classes == 2:
            return "one probability, of the second class"
        return _WORDS[self.form]


def find_answers(
    file: str,
    model: onnx.ModelProto,
    *,
    chosen: str | None = None,
    shown: Sequence[str] = (),
    stated: Form | None = None,
) -> FoundAnswers:
    """Find a network's answers, and add operators that turn them into logits."""
    rows = _outputs(model)
    output = _output(file, rows, chosen)
    values = rows[output].reshape(_IMAGES, -1)
    units = values.shape[1]
    if units > MAX_CLASSES:
        raise refused(file, f"it has {units:,} answers for an image")
    source, form = _before(model.graph, output, values)
    if stated in ("logits", "scores", "probabilities"):
        source, form = output, stated
    if form in ("softmax", "sigmoid") and output in shown and source.startswith(f"{output}."):
        rename_values(model.graph.node, {source: output, output: f"{output}.shares"})
        source = output
    _add_logits(model, source, form, units)
    return FoundAnswers(output=output, form=form, classes=max(units, 2))


def _outputs(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return each numeric output for a few random images."""
    session = cpu_session(model.SerializeToString())
    (image_input,) = session.get_inputs()
    images = np.random.default_rng(0).uniform(-1, 1, [_IMAGES, *image_input.shape[1:]])
    if image_input.type == "tensor(uint8)":
        images = images * 127 + 128
    names = [output.name for output in session.get_outputs()]
    arrays = session.run(names, {image_input.name: images.astype(_KINDS[image_input.type])})
    return {
        name: value
        for name, value in zip(names, arrays, strict=True)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.shape[0] == _IMAGES
    }


def _output(file: str, rows: dict[str, NDArray[Any]], chosen: str | None) -> str:
    vectors = [
        name
        for name, value in rows.items()
        if value.ndim >= 2 and value.size == len(value) * value.shape[1]
    ]
    choices = f"Say which one answers: --output with one of {printable(', '.join(vectors))}."
    if not vectors:
        raise refused(file, "it does not put out one row of numbers for each image")
    if chosen is None and len(vectors) > 1:
        raise refused(file, f"it has {len(vectors)} outputs that could answer", choices)
    if chosen not in (None, *vectors):
        reason = f"it has no output {printable(chosen)} with one row for each image"
        raise refused(file, reason, choices)
    return chosen or vectors[0]


def _before(graph: onnx.GraphProto, output: str, values: NDArray[Any]) -> tuple[str, Form]:
    """Return the value that logits are computed from, and its form."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in _PASSING:
        node = makers.get(node.input[0])
    units = values.shape[1]
    softmax = node is not None and node.op_type in ("Softmax", "LogSoftmax") and units > 1
    if node is not None and softmax and attribute(node, "axis", -1) in (-1, 1):
        return str(node.input[0]), "softmax"
    if node is not None and node.op_type == "Sigmoid":
        return str(node.input[0]), "sigmoid"
    sums = values.astype(np.float64).sum(axis=1)
    shares = bool((values >= 0).all() and (values <= 1 + _CLOSE).all())
    if shares and (units == 1 or np.abs(sums - 1).max() < _CLOSE):
        return output, "probabilities"
    return output, "logits"


def _add_logits(model: onnx.ModelProto, source: str, form: Form, units: int) -> None:
    to, single = GraphWriter(), units == 1

    def held(name: str, value: Any, dtype: type[np.generic] = np.float32) -> str:
        return to.weight(f"{ANSWERS}.{name}", value, dtype)

    value = to.node("Cast", [source], f"{ANSWERS}.float", to=onnx.TensorProto.FLOAT)
    shape = held("shape", [-1, units], np.int64)
    value = to.node("Reshape", [value, shape], f"{ANSWERS}.rows")
    if form == "probabilities" or (form == "sigmoid" and not single):
        if form == "sigmoid":
            value = to.node("Sigmoid", [value], f"{ANSWERS}.shares")
        if single:
            other = to.node("Sub", [held("one", 1.0), value], f"{ANSWERS}.other")
            value = to.node("Concat", [other, value], f"{ANSWERS}.shares", axis=1)
        value = to.node("Max", [value, held("least", _LEAST)], f"{ANSWERS}.positive")
        value = to.node("Log", [value], f"{ANSWERS}.logs")
    elif single:  # as if the first class had the logit 0
        zero = to.node("Mul", [value, held("zero", 0.0)], f"{ANSWERS}.none")
        value = to.node("Concat", [zero, value], f"{ANSWERS}.pair", axis=1)
    to.node("Identity", [value], ANSWERS)
    model.graph.node.extend(to.nodes)
    model.graph.initializer.extend(to.weights)
    del model.graph.output[:]
    ends: list[str | int | None] = ["N", max(units, 2)]
    model.graph.output.append(helper.make_tensor_value_info(ANSWERS, onnx.TensorProto.FLOAT, ends))
