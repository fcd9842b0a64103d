"""A calibrated classifier.onnx with a layer of every lesson, random weights, no PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from opsin.core.metadata import ClassMix
from opsin.onnx_files.postprocessing import Calibrated, finished, write_file
from tests.made_classifier import made_layer, metadata

SIDE, CLASSES, TEMPERATURE = 8, 10, 1.7
#: What is added to each class's logit.
MIX = np.log(np.linspace(0.5, 1.5, CLASSES))


def write_lesson_network(
    path: Path,
    *,
    dropout: str = "Dropout 0.25",
    pool: str = "MaxPool",
    group: int = 1,
    conv: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    random = np.random.default_rng(seed)
    given: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], **(conv or {})}
    weights: dict[str, NDArray[Any]] = {
        "input.scale": np.float32(1 / 255) * np.ones((), np.float32),
        "conv1.weight": random.normal(size=(4, 1, 3, 3)),
        "conv1.bias": random.normal(size=4),
        "conv2.weight": random.normal(size=(6, 4 // group, *given["kernel_shape"])) / 3,
        "norm.weight": random.normal(size=6),
        "norm.bias": random.normal(size=6),
        "norm.running_mean": random.normal(size=6),
        "norm.running_var": random.uniform(0.5, 3, size=6),
        "pool.axes": np.array([2, 3]),
        "head.bias": random.normal(size=CLASSES),
    }
    given["group"] = group
    window: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    reduces = pool.startswith("Reduce")
    norm = [f"norm.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Transpose", ["images"], "input.planes", {"perm": [0, 3, 1, 2]}),
        ("Cast", ["input.planes"], "input.float", {"to": TensorProto.FLOAT}),
        ("Mul", ["input.float", "input.scale"], "input", {}),
        (
            "Conv",
            ["input", "conv1.weight", "conv1.bias"],
            "conv1.plain",
            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        ),
        ("Relu", ["conv1.plain"], "conv1", {}),  # one layer, as Keras has it
        ("Conv", ["conv1", "conv2.weight"], "conv2", given),
        ("BatchNormalization", ["conv2", *norm], "norm", {"epsilon": 1e-3}),
        (
            pool,
            ["norm", "pool.axes"] if reduces else ["norm"],
            "pool",
            {"keepdims": 1} if reduces else {} if pool.startswith("Global") else window,
        ),
        *([("Identity", ["pool"], "dropout", {})] if dropout else []),
        ("Flatten", ["dropout" if dropout else "pool"], "flatten", {}),
        ("Gemm", ["flatten", "head.weight", "head.bias"], "head", {"transB": 1}),
    ]
    side = _side(given)
    after = 1 if reduces or pool.startswith("Global") else side // 2
    units = 6 * after * after
    weights["head.weight"] = random.normal(size=(CLASSES, units)) / units**0.5
    rows: list[tuple[str, str, tuple[int, ...]]] = [
        ("input", "Scale", (1, SIDE, SIDE)),
        ("conv1", "Conv 3×3 same", (4, SIDE, SIDE)),
        ("conv2", "Conv 3×3", (6, side, side)),
        ("norm", "BatchNorm", (6, side, side)),
        ("pool", pool, (6, after, after)),
        ("dropout", dropout, (6, after, after)),
        ("flatten", "Flatten", (units,)),
        ("head", "Dense", (CLASSES,)),
    ]
    layers = tuple(made_layer(*row) for row in rows if row[1])
    nodes = [helper.make_node(kind, taken, [out], **more) for kind, taken, out, more in steps]
    held = [
        numpy_helper.from_array(value.astype(np.int64 if n == "pool.axes" else np.float32), n)
        for n, value in weights.items()
    ]
    even = np.full(CLASSES, 1 / CLASSES)
    mix = ClassMix(learnt=tuple(even.tolist()), assumed=tuple((even * np.exp(MIX)).tolist()))
    about = metadata(side=SIDE).model_copy(
        update={
            "classes": tuple("0123456789"),
            "layers": layers,
            "source": "digits",
            "class_mix": mix,
        }
    )
    content = write_file(nodes, held, about, embedding="flatten", units=units)
    means = np.zeros((CLASSES, units), np.float32)
    calibrated = Calibrated(TEMPERATURE, np.ones(units, np.float32), means, MIX)
    path.write_bytes(finished(content, about, calibrated))
    return path


def _side(given: dict[str, Any]) -> int:
    step = int(given.get("strides", [1, 1])[0])
    if "auto_pad" in given:
        given.pop("pads")
        return -(-SIDE // step)
    reach = (given["kernel_shape"][0] - 1) * given.get("dilations", [1, 1])[0] + 1
    return int(SIDE + given["pads"][0] + given["pads"][2] - reach) // step + 1


def drawn_image(seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 1), np.uint8)
