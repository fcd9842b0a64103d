"""The end of every classifier.onnx: calibrated answers, and how familiar the picture is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from opsin.core.metadata import Metadata
from opsin.runtime.model_check import write_classifier

#: Names in the file of what is only known once the network is trained.
TEMPERATURE: Final = "temperature"
SCALES: Final = "familiarity.scales"
MEANS: Final = "familiarity.means"
# So that a picture which excites nothing at all is unfamiliar, not an error.
_NO_LENGTH: Final = 1e-12


def tail(
    logits: str, embedding: str, *, classes: int, units: int
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the last operators of a file, and their weights.

    ``probabilities: float32[N, K]`` is the softmax of the logits over the temperature.
    ``familiarity: float32[N]`` is the cosine of the embedding, each unit over its deviation, with
    that of the nearest class's mean, -1 to 1 (T. Mensink et al., "Distance-based image
    classification: generalizing to new classes at near-zero cost", PAMI 2013; E. Techapanurak et
    al., "Hyperparameter-free out-of-distribution detection using cosine similarity", ACCV 2020).
    Until `finish` has set them, the temperature is 1, the scales are 1 and the means are 0.

    Args:
        logits: Name of the logits, ``float32[N, K]``.
        embedding: Name of what the head sees, ``float32[N, D]``.
        classes: K.
        units: D.
    """
    weights: dict[str, NDArray[Any]] = {
        TEMPERATURE: np.ones((), np.float32),
        SCALES: np.ones(units, np.float32),
        MEANS: np.zeros((units, classes), np.float32),
        "familiarity.least": np.array(_NO_LENGTH, np.float32),
        "familiarity.axis": np.array([1], np.int64),
    }
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Div", [logits, TEMPERATURE], "calibrated", {}),
        ("Softmax", ["calibrated"], "probabilities", {"axis": 1}),
        ("Identity", [embedding], "embedding", {}),
        ("Mul", ["embedding", SCALES], "familiarity.scaled", {}),
        (
            "ReduceL2",
            ["familiarity.scaled", "familiarity.axis"],
            "familiarity.length",
            {"keepdims": 1},
        ),
        ("Max", ["familiarity.length", "familiarity.least"], "familiarity.divisor", {}),
        ("Div", ["familiarity.scaled", "familiarity.divisor"], "familiarity.direction", {}),
        ("MatMul", ["familiarity.direction", MEANS], "familiarity.cosines", {}),
        ("ReduceMax", ["familiarity.cosines", "familiarity.axis"], "familiarity", {"keepdims": 0}),
    ]
    nodes = [
        helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes)
        for kind, inputs, output, attributes in steps
    ]
    return nodes, [numpy_helper.from_array(value, name) for name, value in weights.items()]


def outputs(*, classes: int, units: int) -> list[onnx.ValueInfoProto]:
    """Return the declarations of what every file answers with."""
    return [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", units]),
        helper.make_tensor_value_info("familiarity", TensorProto.FLOAT, ["N"]),
    ]


def finish(
    path: Path,
    metadata: Metadata,
    *,
    temperature: float | None = None,
    scales: NDArray[np.float32] | None = None,
    means: NDArray[np.float32] | None = None,
) -> None:
    """Set what a file is given after its training; the network in it stays as it is.

    Args:
        path: A file that ends in a `tail`.
        metadata: What travels in it from now on.
        temperature: What logits are divided by (default: as it is).
        scales: What each unit of the embedding is multiplied by, ``float32[D]`` (default: as they
            are).
        means: Direction of each class's mean embedding, ``float32[K, D]``, each of length 1
            (default: as they are).

    Raises:
        StorageError: The disk refuses the write.
    """
    model = onnx.load_model(path)
    helper.set_model_props(model, metadata.to_props())
    given = {
        TEMPERATURE: None if temperature is None else np.array(temperature, np.float32),
        SCALES: None if scales is None else np.asarray(scales, np.float32),
        MEANS: None if means is None else np.ascontiguousarray(means.T, np.float32),
    }
    for weight in model.graph.initializer:
        value = given.get(weight.name)
        if value is not None:
            weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    write_classifier(path, model.SerializeToString())
