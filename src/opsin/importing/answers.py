"""What a network answers with: logits, or probabilities, and in which form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from opsin.core.metadata import MAX_CLASSES
from opsin.onnx_files.onnx_graph import attribute
from opsin.onnx_files.refusal import quoted, refused
from opsin.runtime.providers import cpu_session

#: How its answers became logits.
Form = Literal["logits", "softmax", "probabilities", "sigmoid", "scores"]
#: What the logits are called in the graph.
ANSWERS: Final = "answers"
# What changes no number of a row.
_PASSING: Final = frozenset(("Identity", "Cast", "Flatten", "Squeeze", "Reshape", "Dropout"))
_IMAGES: Final = 16
_CLOSE: Final = 1e-3
# Below it a probability is 0: its logarithm stays a number.
_LEAST: Final = 1e-30


@dataclass(frozen=True)
class FoundAnswers:
    """What the logits come from."""

    output: str
    form: Form
    classes: int

    @property
    def words(self) -> str:
        """What was found, in a line."""
        return {
            "logits": "logits, as the network puts them out",
            "softmax": "logits, as they are before its softmax",
            "scores": (
                "scores, as decision_function gives them; their softmax is no probability that it "
                "learnt"
            ),
            "probabilities": "the logarithms of the probabilities that it puts out",
            "sigmoid": (
                "one probability, of the second class" if self.classes == 2 else
                "a probability for each class by itself, brought to a sum of 1"
            ),
        }[self.form]  # fmt: skip


def find_answers(
    file: str,
    model: onnx.ModelProto,
    *,
    chosen: str | None = None,
    shown: Sequence[str] = (),
    stated: Form | None = None,
) -> FoundAnswers:
    """Find out what a network answers with, and add operators that make logits of it."""
    rows = _outputs(model)
    output = _output(file, rows, chosen)
    values = rows[output].reshape(len(rows[output]), -1)
    units = values.shape[1]
    if units > MAX_CLASSES:
        raise refused(file, f"it has {units:,} answers for an image")
    source, form = _before(model.graph, output, values)
    if stated in ("logits", "scores", "probabilities"):
        source, form = output, stated
    if form in ("softmax", "sigmoid") and source != output:
        source = _renamed(model.graph, source, output, shown)
    _add_logits(model, source, form, units)
    return FoundAnswers(output, form, max(units, 2))


def _outputs(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return what it puts out for a few drawn images, of each output that holds numbers."""
    session = cpu_session(model.SerializeToString())
    (given,) = session.get_inputs()
    shape = [_IMAGES, *given.shape[1:]]
    drawn = np.random.default_rng(0).uniform(-1, 1, shape)
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64,
             "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}  # fmt: skip
    images = (drawn * 127 + 128 if given.type == "tensor(uint8)" else drawn).astype(
        kinds[given.type]
    )
    names = [each.name for each in session.get_outputs()]
    found = session.run(names, {given.name: images})
    return {
        name: value for name, value in zip(names, found, strict=True)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.shape[0] == _IMAGES
    }  # fmt: skip


def _output(file: str, rows: dict[str, NDArray[Any]], chosen: str | None) -> str:
    vectors = [name for name, value in rows.items() if value.size == len(value) * value.shape[1]]
    vectors = [name for name in vectors if rows[name].ndim >= 2]
    if chosen is not None:
        if chosen not in vectors:
            names = quoted(", ".join(vectors)) or "none"
            raise refused(
                file, f"it has no output {quoted(chosen)} with one row for each image",
                f"Choose among: {names}.",
            )  # fmt: skip
        return chosen
    if not vectors:
        raise refused(file, "it does not put out one row of numbers for each image")
    if len(vectors) > 1:
        raise refused(
            file,
            f"it has {len(vectors)} outputs that could answer",
            f"Say which one does: --output with one of {quoted(', '.join(vectors))}.",
        )
    return vectors[0]


def _before(graph: onnx.GraphProto, output: str, values: NDArray[Any]) -> tuple[str, Form]:
    """Return the value that logits are made of, and how."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in _PASSING:
        node = makers.get(node.input[0])
    units = values.shape[1]
    sums = values.astype(np.float64).sum(axis=1)
    shares = bool((values >= 0).all() and (values <= 1 + _CLOSE).all())
    if node is not None and node.op_type in ("Softmax", "LogSoftmax") and units > 1:
        axis = attribute(node, "axis", -1)
        if axis in (-1, 1):
            return str(node.input[0]), "softmax"
    if node is not None and node.op_type == "Sigmoid":
        return str(node.input[0]), "sigmoid"
    if units > 1 and shares and np.abs(sums - 1).max() < _CLOSE:
        return output, "probabilities"
    if units == 1 and shares:
        return output, "probabilities"
    return output, "logits"


def _renamed(graph: onnx.GraphProto, source: str, output: str, shown: Sequence[str]) -> str:
    """Let logits bear the name of the layer that ends in probabilities."""
    if output not in shown or not source.startswith(f"{output}."):
        return source
    after = {source: output, output: f"{output}.shares"}
    for node in graph.node:
        for part in (node.input, node.output):
            part[:] = [after.get(name, name) for name in part]
    return output


def _add_logits(model: onnx.ModelProto, source: str, form: Form, units: int) -> None:
    """Add what makes ``[N, K]`` logits of a value."""
    graph = model.graph

    def held(name: str, value: Any, dtype: type[np.generic]) -> str:
        full = f"{ANSWERS}.{name}"
        graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), full))
        return full

    def node(kind: str, inputs: list[str], name: str, **further: Any) -> str:
        graph.node.append(helper.make_node(kind, inputs, [name], name=f"{name}/{kind}", **further))
        return name

    value = node("Cast", [source], f"{ANSWERS}.float", to=onnx.TensorProto.FLOAT)
    value = node("Reshape", [value, held("shape", [-1, units], np.int64)], f"{ANSWERS}.rows")
    single = units == 1
    if form == "probabilities" or (form == "sigmoid" and not single):
        if form == "sigmoid":
            value = node("Sigmoid", [value], f"{ANSWERS}.shares")
        if single:
            one = held("one", 1.0, np.float32)
            other = node("Sub", [one, value], f"{ANSWERS}.other")
            value = node("Concat", [other, value], f"{ANSWERS}.shares", axis=1)
        least = held("least", _LEAST, np.float32)
        value = node("Max", [value, least], f"{ANSWERS}.positive")
        value = node("Log", [value], f"{ANSWERS}.logs")
    elif single:  # as if the first class had the logit 0
        zero = node("Mul", [value, held("zero", 0.0, np.float32)], f"{ANSWERS}.none")
        value = node("Concat", [zero, value], f"{ANSWERS}.pair", axis=1)
    node("Identity", [value], ANSWERS)
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info(ANSWERS, onnx.TensorProto.FLOAT, ["N", max(units, 2)])
    )
