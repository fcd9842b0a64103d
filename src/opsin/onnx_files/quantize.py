"""A classifier in fewer bits: weights in float16, or all of it in integers of eight bits."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Doubles
from opsin.core.errors import MissingExtraError

try:
    from onnx import NodeProto, TensorProto, helper
except ImportError as error:
    raise MissingExtraError("exporting", "evaluate") from error

from opsin.core.metadata import Layer
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute
from opsin.onnx_files.operators import OPERATORS, WEIGHTED
from opsin.onnx_files.postprocessing import FEATURES, IMAGES, LOGITS
from opsin.runtime.providers import cpu_session

Means = dict[str, Doubles]

# Operators with an integer kernel in ONNX Runtime; others, such as GELU, stay in float.
_KINDS: Final = [name for name, operator in OPERATORS.items() if operator.quantised]
# Activations that ONNX Runtime drops, since rounding to a range does the same.
_ACTIVATIONS: Final = ("Relu", "Clip")
# The first layers, and the last, stay in float where they are no more than this share of the work:
# they lose the most and gain the least (docs/understand/quantization.md).
_EDGE: Final = 0.1
# Numbers of all layers together that a step of the calibration may hold at once.
_ROOM: Final = 64_000_000
_MOST: Final = 64
# The largest number that float16 can hold.
_LARGEST_HALF: Final = 65504.0


def to_fp16(content: bytes) -> bytes:
    """Return a classifier with its weights in float16, and its arithmetic in float32 as before."""
    graph = OnnxGraph(content)
    casts = []
    for name in dict.fromkeys(node.input[1] for node in graph.nodes if node.op_type in WEIGHTED):
        weight = graph.weights.get(name)
        if weight is None or weight.dtype != np.float32:
            continue
        if not np.abs(weight).max() <= _LARGEST_HALF:  # or not a number
            continue
        stored = f"{name}.float16"
        graph.weights[stored] = graph.weights.pop(name).astype(np.float16)
        casts.append(
            helper.make_node("Cast", [stored], [name], name=f"{name}/Cast", to=TensorProto.FLOAT)
        )
    graph.nodes = [*casts, *graph.nodes]
    return graph.content(graph.metadata.model_copy(update={"precision": "float16"}))


def to_int8(
    content: bytes, images: NDArray[np.uint8], *, progress: Callable[[int], None] = lambda _: None
) -> bytes:
    """Return a classifier whose weights and values between layers are integers."""
    graph = OnnxGraph(content)
    layers = fold(graph)
    float_ends = _float_ends(graph, layers)
    metadata = graph.metadata.model_copy(update={"layers": tuple(layers), "precision": "int8"})
    # The property silences ONNX Runtime's advice to do what is done already.
    folded = graph.content(metadata, further={"onnx.quant.pre_process": "onnxruntime.quant"})
    values = sum(math.prod(layer.shape) for layer in layers)
    size = max(1, min(_MOST, _ROOM // max(values, 1), len(images)))
    calibration = _CalibrationImages(images, size, progress)
    quantised = OnnxGraph(_quantised(folded, calibration, float_ends))
    _restore_activations(quantised, graph)
    whole = OnnxGraph(folded)
    _correct_biases(quantised, whole, _mean_inputs(whole, calibration.batches()))
    there = quantised.values()
    kept = tuple(layer for layer in layers if layer.name in there)
    return quantised.content(metadata.model_copy(update={"layers": kept}))


def _float_ends(graph: OnnxGraph, layers: Sequence[Layer]) -> list[str]:
    work = {layer.name: layer.multiply_adds for layer in layers}
    weighted = [node for node in graph.nodes if node.op_type in WEIGHTED]

    def share_of(node: NodeProto) -> int:
        name = node.output[0]
        # A layer of Keras' that ends in an activation bears its weights' name, not its product's.
        # A first block of ours counts for nothing, and stays in float: so it was measured.
        if name not in work and not name.endswith(".wide"):
            name = node.input[1].rpartition(".")[0]
        return work.get(name, 0)

    shares = [share_of(node) for node in weighted]
    most = _EDGE * sum(shares)
    together = list(itertools.accumulate(shares))
    first = [node.name for node, sum_ in zip(weighted, together, strict=True) if sum_ <= most]
    if FEATURES in graph.values():
        # A head on features tells small differences: it stays as it is.
        network = {node.name for node in graph.leading_to([FEATURES])}
        return first + [node.name for node in graph.nodes if node.name not in network]
    ending = {node.name for node in graph.leading_to([LOGITS])}
    last = max(index for index, node in enumerate(weighted) if node.name in ending)
    return first + [weighted[last].name] * (shares[last] <= most)


class _CalibrationImages:
    """Hands images to ONNX Runtime's calibration, batch by batch."""

    def __init__(
        self, images: NDArray[np.uint8], size: int, progress: Callable[[int], None]
    ) -> None:
        self.size, self._progress = size, progress
        self._images = np.ascontiguousarray(images[: len(images) // size * size])
        self.set_range(0, len(self._images))

    def __len__(self) -> int:
        return len(self._images)

    def batches(self) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(self._images), self.size):
            yield self._images[start : start + self.size]

    def set_range(self, start_index: int, end_index: int) -> None:
        self._next, self._end = start_index, end_index

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        if self._next >= self._end:
            return None
        start, self._next = self._next, self._next + self.size
        self._progress(self._next)
        return {"images": self._images[start : self._next]}


def _quantised(content: bytes, images: _CalibrationImages, float_ends: list[str]) -> bytes:
    from onnxruntime import quantization  # noqa: PLC0415  it takes a third of a second to load

    # It writes its progress to standard output, which is the user's.
    silence = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory(prefix="opsin-") as folder, silence:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(content)
        quantization.quantize_static(
            source,
            target,
            images,
            op_types_to_quantize=_KINDS,
            per_channel=True,
            # Seven bits: with eight, processors without instructions of their own for this (AVX2)
            # add in sixteen bits and overflow, so that the file answered otherwise there.
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=float_ends,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            # Step by step, so that the memory does not grow with the number of images.
            extra_options={"CalibStridedMinMax": images.size},
        )
        return target.read_bytes()


def _restore_activations(graph: OnnxGraph, before: OnnxGraph) -> None:
    """Put each ReLU back between its layer and the integers, so that both can be fetched."""
    there = {node.name for node in graph.nodes}
    for node in before.nodes:
        if node.op_type not in _ACTIVATIONS or node.name in there:
            continue
        maker = graph.maker(node.output[0])
        if maker is not None:
            maker.output[list(maker.output).index(node.output[0])] = node.input[0]
            graph.nodes.insert(graph.nodes.index(maker) + 1, node)


def _mean_inputs(graph: OnnxGraph, batches: Iterable[NDArray[np.uint8]]) -> Means:
    """Return the mean input of each layer with a bias, by the value's name: ``float64[C]``."""
    names = list(dict.fromkeys(node.input[0] for node in _layers_with_bias(graph)))
    if not names:
        return {}
    session = cpu_session(graph.up_to(names))
    sums, count = dict.fromkeys(names, np.zeros(())), 0
    for images in batches:
        for name, value in zip(names, session.run(names, {IMAGES: images}), strict=True):
            over = tuple(range(2, value.ndim))
            sums[name] = sums[name] + value.mean(axis=over, dtype=np.float64).sum(axis=0)
        count += len(images)
    return {name: value / count for name, value in sums.items()}


def _correct_biases(quantised: OnnxGraph, graph: OnnxGraph, means: Means) -> None:
    """Subtract, in place, the mean error of each layer's rounded weights from its bias."""
    for layer in _layers_with_bias(graph):
        node = quantised.maker(layer.output[0])
        if node is None or len(node.input) < 3:
            continue
        weight, bias = (quantised.maker(name) for name in node.input[1:3])
        if weight is None or bias is None:
            continue  # this layer stayed in float
        integers, scale = (quantised.weights[name] for name in weight.input[:2])
        scale = scale.reshape(-1, *[1] * (integers.ndim - 1)) if scale.ndim else scale
        error = integers * scale.astype(np.float64) - graph.weights[layer.input[1]]
        # The mean error of each of the layer's outputs.
        error, groups = (
            error.reshape(*error.shape[:2], -1).sum(axis=2),
            attribute(layer, "group", 1),
        )
        mean = means[layer.input[0]].reshape(groups, -1)
        shift = (error * np.repeat(mean, len(error) // groups, axis=0)).sum(axis=1)
        steps = shift / quantised.weights[bias.input[1]].astype(np.float64)
        held = quantised.weights[bias.input[0]]
        quantised.weights[bias.input[0]] = (held - np.round(steps)).astype(held.dtype)


def _layers_with_bias(graph: OnnxGraph) -> list[NodeProto]:
    return [
        node
        for node in graph.nodes
        if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0))
        if len(node.input) > 2 and node.input[1] in graph.weights
    ]


# BatchNorm becomes part of the convolution beside it.


def fold(graph: OnnxGraph) -> list[Layer]:
    """Fold each BatchNorm into a convolution, in place, and return the layers that are left."""
    rows = {layer.name: layer for layer in graph.layers}
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        if not _are_weights(graph, norm.input[1:]) or attribute(norm, "training_mode", 0):
            continue
        weight, bias, mean, variance = (
            graph.weights[name].astype(np.float64) for name in norm.input[1:]
        )
        scale = weight / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
        shift = bias - mean * scale
        if not _into_earlier(graph, rows, norm, scale, shift):
            _into_later(graph, rows, norm, scale, shift)
    return list(rows.values())


def _into_earlier(
    graph: OnnxGraph, rows: dict[str, Layer], norm: NodeProto, scale: Doubles, shift: Doubles
) -> bool:
    """Fold into the convolution before it, also past pooling, with its ReLU."""
    conv, pool, relu = graph.maker(norm.input[0]), None, None
    if conv is None or _only_user(graph, norm.input[0]) is None:
        return False
    if conv.op_type == "MaxPool":
        pool, conv = conv, graph.maker(conv.input[0])
        if _only_user(graph, pool.input[0]) is None or not (scale > 0).all():
            return False
        user = _only_user(graph, norm.output[0])
        relu = user if user is not None and user.op_type == "Relu" else None
    name = (relu or norm).output[0]
    if conv is None or not _can_hold(graph, conv, norm, name):
        return False
    weight, bias = _weights_of(graph, conv)
    scaled = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    _store(graph, conv, name, scaled, bias * scale + shift)
    parts = [node.output[0] for node in (conv, norm, relu, pool) if node is not None]
    if pool is not None:
        conv.output[0] = pool.input[0] = f"{name}.wide"
        if relu is not None:
            relu.input[0], relu.output[0] = conv.output[0], f"{name}.high"
            pool.input[0] = relu.output[0]
            graph.nodes.remove(relu)
            graph.nodes.insert(graph.nodes.index(pool), relu)
    (pool or conv).output[0] = name
    graph.nodes.remove(norm)
    _join(graph, rows, name, parts)
    return True


def _into_later(
    graph: OnnxGraph, rows: dict[str, Layer], norm: NodeProto, scale: Doubles, shift: Doubles
) -> None:
    """Fold into the convolution behind it, if that has no padding."""
    conv = _only_user(graph, norm.output[0])
    if conv is None or attribute(conv, "group", 1) != 1 or any(attribute(conv, "pads", [])):
        return
    if attribute(conv, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return
    name, gone = conv.output[0], norm.output[0]
    if not _can_hold(graph, conv, norm, name):
        return
    weight, bias = _weights_of(graph, conv)
    sides = tuple(range(2, weight.ndim))
    further = weight.sum(axis=sides) @ shift
    scaled = weight * scale.reshape(1, -1, *[1] * len(sides))
    _store(graph, conv, name, scaled, bias + further)
    conv.input[0] = norm.input[0]
    graph.nodes.remove(norm)
    _join(graph, rows, name, [gone, name])


def _only_user(graph: OnnxGraph, value: str) -> NodeProto | None:
    users = graph.users(value)
    is_output = any(output.name == value for output in graph.model.graph.output)
    return users[0] if len(users) == 1 and not is_output else None


def _can_hold(graph: OnnxGraph, conv: NodeProto, norm: NodeProto, name: str) -> bool:
    """Tell whether a BatchNorm fits into a convolution's weights, under a layer's name."""
    users = (*graph.users(f"{name}.weight"), *graph.users(f"{name}.bias"))
    return (
        conv.op_type == "Conv"
        and _are_weights(graph, conv.input[1:])
        and all(user in (conv, norm) for user in users)
    )


def _are_weights(graph: OnnxGraph, names: Iterable[str]) -> bool:
    return all(
        name in graph.weights and graph.weights[name].dtype == np.float32 for name in names if name
    )


def _weights_of(graph: OnnxGraph, conv: NodeProto) -> tuple[Doubles, Doubles]:
    weight = graph.weights[conv.input[1]].astype(np.float64)
    if len(conv.input) < 3 or not conv.input[2]:
        return weight, np.zeros(len(weight))
    return weight, graph.weights[conv.input[2]].astype(np.float64)


def _store(
    graph: OnnxGraph, conv: NodeProto, name: str, weight: NDArray[Any], bias: NDArray[Any]
) -> None:
    graph.weights[f"{name}.weight"] = weight.astype(np.float32)
    graph.weights[f"{name}.bias"] = bias.astype(np.float32)
    conv.input[:] = [conv.input[0], f"{name}.weight", f"{name}.bias"]


def _join(graph: OnnxGraph, rows: dict[str, Layer], name: str, parts: list[str]) -> None:
    """Merge the summary rows of folded layers, ``name`` among them, into one."""
    if name not in rows:
        return
    joined = [rows[part] for part in parts if part in rows]
    held = sum(graph.weights[f"{name}.{kind}"].size for kind in ("weight", "bias"))
    rows[name] = rows[name].model_copy(
        update={
            "kind": " + ".join(row.kind for row in joined),
            "parameters": held,
            "trainable": held if any(row.trainable for row in joined) else 0,
            "multiply_adds": sum(row.multiply_adds for row in joined),
        }
    )
    for part in set(parts) - {name}:
        rows.pop(part, None)
