"""A classifier that another program saved, read in a process that may die."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict, Field

from opsin.backbones.probe import check_bounded, in_sandbox, probe_model
from opsin.backbones.probed import Probed, Value
from opsin.core.child_process import Header
from opsin.core.errors import ModelFileError, OpsinError, SandboxError
from opsin.core.files import open_regular
from opsin.core.metadata import Layer
from opsin.core.platform import limit_computing
from opsin.importing.answers import ANSWERS, Converted, FoundAnswers, find_answers
from opsin.importing.class_names import names_in
from opsin.importing.file_kind import FROM_TORCH, FileKind, kind_of
from opsin.importing.keras_to_onnx import convert
from opsin.importing.skops_to_onnx import convert_estimator
from opsin.onnx_files.postprocessing import GraphWriter, model_of
from opsin.onnx_files.tensor_file import read_tensors
from opsin.runtime.onnx_scan import printable, refused

#: The architectures that weights alone may belong to.
Architecture = Literal["mlp"]
_ENDS: Final = re.compile(r"\.?(weight|bias)$")


class ForeignNetwork(BaseModel):
    """A classifier that another program saved, as operators that end in `answers.ANSWERS`."""

    model_config = ConfigDict(frozen=True)

    path: Path
    digest: str  # SHA-256 of the file, in hexadecimal
    content: bytes = Field(repr=False)
    probed: Probed = Field(repr=False)
    answers: FoundAnswers
    layers: tuple[Layer, ...] = Field(repr=False)  # none: each operator is one
    maker: str
    network: str
    scales: str | None  # the layer inside it that scales pixels from 0 to 255
    classes: tuple[str, ...] | None


def read_foreign(
    path: Path,
    *,
    side: int | None = None,
    output: str | None = None,
    architecture: Architecture | None = None,
    graph: Path | None = None,
) -> ForeignNetwork:
    """Read a file of Keras, ONNX, skops, or weights alone; nothing in it is run or looked up."""
    if graph is not None:
        _digest(graph)  # raises if it is no file
    digest, size = _digest(path)
    header = {
        "path": str(path),
        "side": side,
        "output": output,
        "architecture": architecture,
        "graph": None if graph is None else str(graph),
    }
    try:
        fields, content = in_sandbox("opsin.importing.foreign_network:read", header, size)
    except SandboxError as error:
        raise refused(path.name, error.message) from error
    return ForeignNetwork(path=path, digest=digest, content=content, **fields)


def _digest(path: Path) -> tuple[str, int]:
    """Return the hash and the size of a file, which must be a regular one."""
    if path.is_dir():
        raise refused(
            path.name,
            "it is a folder",
            "Give a file; a folder that model.export wrote holds a program: save the network with "
            "model.save('NAME.keras').",
        )
    try:
        with open_regular(path) as file:
            whole = cast(BufferedReader, file)
            return hashlib.file_digest(whole, "sha256").hexdigest(), file.tell()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelFileError(f"{path} cannot be read: {reason}") from error


def read(header: Header, body: bytes) -> tuple[Header, Sequence[bytes]]:  # noqa: ARG001
    """Read a file and bring it into one form; what `opsin.core.sandbox` runs."""
    path = Path(header["path"])
    limit_computing(header["seconds"])
    try:
        return _read(path, header)
    except (OpsinError, MemoryError):
        raise
    except Exception as error:
        raise refused(path.name, printable(error) or type(error).__name__) from error


def _read(path: Path, header: Header) -> tuple[Header, Sequence[bytes]]:
    kind = kind_of(path)
    if kind is FileKind.WEIGHTS:
        model = _of_weights(path, header["architecture"], header["graph"])
        parsed = Converted(model, "weights by name", model.graph.name, output=header["output"])
    elif kind is FileKind.KERAS:
        parsed = convert(path, side=header["side"], output=header["output"])
    elif kind is FileKind.SKOPS:
        parsed = convert_estimator(path)
    else:
        parsed = _of_onnx(path, header["output"])
    model = parsed.model
    check_bounded(model, path.name)
    _take_images(path.name, model)
    probed, model = probe_model(model, path.name, header["side"])
    shown = [row.name for row in parsed.layers]
    answers = find_answers(path.name, model, chosen=parsed.output, shown=shown, stated=parsed.form)
    last = Value(name=ANSWERS, op="Identity", shape=(answers.classes,))
    probed = probed.model_copy(update={"values": (*probed.values, last)})
    return {
        "probed": probed.model_dump(mode="json"),
        "answers": answers.model_dump(),
        "layers": [row.model_dump() for row in parsed.layers],
        "maker": printable(parsed.maker),
        "network": printable(parsed.network),
        "scales": parsed.scales,
        "classes": parsed.classes,
    }, [model.SerializeToString()]


def _of_weights(path: Path, architecture: str | None, graph: str | None) -> onnx.ModelProto:
    if architecture is None and graph is None:
        raise refused(
            path.name,
            "it holds weights alone, and no network",
            "Say what they are of: --as mlp for dense layers with ReLU between them, or --graph "
            f"FILE.onnx for a graph with the same names. Or export the network: {FROM_TORCH}.",
        )
    tensors = read_tensors(path)
    if graph is None:
        return _dense_chain(path.name, tensors)
    with open_regular(graph) as file:
        return _with_tensors(path.name, _parsed(Path(graph).name, file.read()), tensors)


def _dense_chain(file: str, tensors: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """Return a network of dense layers with ReLU between them, each called as its weights are."""
    layers: dict[str, dict[str, NDArray[Any]]] = {}
    for name, values in tensors.items():
        part = _ENDS.search(name)
        if part is None:
            raise _not_dense(file, name, "is no weight and no bias of a dense layer")
        layers.setdefault(_ENDS.sub("", name) or "dense", {})[part[1]] = values
    to = GraphWriter()
    value, units = "rows", 0
    for index, (name, held) in enumerate(layers.items()):
        weight = held.get("weight")
        if weight is None or weight.ndim != 2 or 0 in weight.shape:
            raise _not_dense(file, name, "is no dense layer")
        if index and weight.shape[1] != units:
            raise _not_dense(file, name, f"takes {weight.shape[1]} numbers and is given {units}")
        bias = held.get("bias", np.zeros(len(weight)))
        if bias.shape != (len(weight),):
            raise _not_dense(file, name, "has a bias of another size")
        inputs = [
            to.weight(f"{name}.weight", weight, np.float32),
            to.weight(f"{name}.bias", bias, np.float32),
        ]
        value = to.node("Gemm", [value, *inputs], name, transB=1)
        if index + 1 < len(layers):
            value = to.node("Relu", [value], f"{name}.relu")
        units = len(weight)
    if not layers:
        raise refused(file, "it holds no weights")
    first = next(iter(layers.values()))["weight"].shape[1]
    ends = [(name, TensorProto.FLOAT, (size,)) for name, size in (("rows", first), (value, units))]
    return model_of(to, "dense layers", *ends)


def _not_dense(file: str, name: str, why: str) -> Exception:
    reason = f"its {printable(name)} {why}, so its weights are not those of a chain of dense layers"
    advice = f"Give the network's graph beside them: --graph FILE.onnx. From PyTorch: {FROM_TORCH}."
    return refused(file, reason, advice)


def _with_tensors(
    file: str, model: onnx.ModelProto, tensors: Mapping[str, NDArray[Any]]
) -> onnx.ModelProto:
    taken = 0
    for weight in model.graph.initializer:
        values = tensors.get(weight.name)
        if values is None:
            continue
        if tuple(weight.dims) != values.shape:
            has, needs = ("×".join(map(str, shape)) for shape in (values.shape, weight.dims))
            raise refused(
                file, f"its {printable(weight.name)} has {has}, and the graph needs {needs}"
            )
        dtype = helper.tensor_dtype_to_np_dtype(weight.data_type)
        weight.CopyFrom(numpy_helper.from_array(values.astype(dtype), weight.name))
        taken += 1
    if not taken:
        raise refused(file, "none of its weights has a name of the graph's")
    return model


def _of_onnx(path: Path, output: str | None) -> Converted:
    with open_regular(path) as file:
        model = _parsed(path.name, file.read())
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if any(key.startswith("opsin.") for key in properties):
        advice = f"Use it as it is: opsin evaluate {path.name} SOURCE."
        raise refused(path.name, "it is a classifier of Opsin's own already", advice)
    maker = " ".join(filter(None, (model.producer_name, model.producer_version))) or "unknown"
    return Converted(model, maker, model.graph.name, output=output, classes=names_in(properties))


def _parsed(name: str, content: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:
        raise refused(name, "it is neither a file of Keras nor ONNX") from error


def _take_images(name: str, model: onnx.ModelProto) -> None:
    """Let a network that takes rows of pixels, or grey images without a third axis, take images."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        return  # the probe says so
    kind = inputs[0].type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if len(dims) not in (2, 3) or not all(dims[1:]):
        return
    shape = [1, *dims[1:]]
    if len(dims) == 2:
        grey, coloured = math.isqrt(dims[1]), math.isqrt(dims[1] // 3)
        if dims[1] not in (grey**2, 3 * coloured**2):
            raise refused(name, f"it takes {dims[1]} numbers, which are no square image")
        shape = [1, grey, grey] if dims[1] == grey**2 else [coloured, coloured, 3]
    rows = inputs[0].name
    back = numpy_helper.from_array(np.array([-1, *dims[1:]], np.int64), f"{rows}.shape")
    model.graph.initializer.append(back)
    model.graph.node.insert(0, helper.make_node("Reshape", [f"{rows}.image", back.name], [rows]))
    model.graph.input.remove(inputs[0])
    image = helper.make_tensor_value_info(f"{rows}.image", kind.elem_type, ["N", *shape])
    model.graph.input.append(image)
