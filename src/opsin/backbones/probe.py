"""Inspection of an untrusted ONNX file in a process that may die.

The file is brought into one form: operators of a present version, any number of images at once,
weights as weights. Shapes are computed, not believed.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from opsin.backbones.probed import Probed, depths_of, last_features, values_of
from opsin.core.child_process import Header
from opsin.core.errors import OpsinError, SandboxError
from opsin.core.metadata import Metadata
from opsin.core.platform import limit_computing
from opsin.core.sandbox import Sandbox
from opsin.onnx_files.onnx_graph import attribute, rename_values
from opsin.onnx_files.postprocessing import OPSET, TREES, TREES_OPSET
from opsin.runtime.onnx_scan import printable, refused, scan
from opsin.runtime.providers import cpu_session, session_options

# Opsin's own metadata lists all layers and classes.
_OWN: Final = frozenset(f"opsin.{name}" for name in Metadata.model_fields)
_LONGEST_OWN: Final = 1_000_000

# Limits of computing seconds and bytes for a small file, and for each byte of a larger one. On a
# busy machine it waits longer for a core.
_SECONDS: Final = 5.0
_BUSY: Final = 12
_MEMORY: Final = 512 << 20
_BYTES_A_SECOND: Final = 2 << 20
_COPIES: Final = 8
# Default side of the images if neither the file nor one beside it states one.
_USUAL_SIDE: Final = 224
_LARGEST_SIDE: Final = 1024
# Oldest operators that need no conversion: from here on, axes are inputs everywhere.
_PRESENT: Final = 18
# Operators of the largest network that is read: ONNX Runtime's work grows with their square.
_MOST_OPERATORS: Final = 5_000
# Most bytes of one value of an image, or for each of the image's pixels if that is more: eight
# images are computed at once.
_LARGEST_VALUE: Final = 16 << 20
_OF_A_PIXEL: Final = 512
_LOOPS: Final = frozenset(("Loop", "Scan", "SequenceMap"))
# Version of the file format, which has all kinds of numbers that are read here.
_NEWEST_FORMAT: Final = 11
_TYPES: Final = {
    TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16, TensorProto.UINT8: np.uint8,
}  # fmt: skip
_CLOSE: Final = 1e-2
# Numbers of the largest value that counts as computed from sizes.
_SMALL: Final = 4_096
_WITHOUT_IT: Final = "Export the network again without it."
_BY_SKOPS: Final = "Save the estimator with skops instead: skops.io.dump(model, 'NAME.skops')."
# Names, or their prefixes, of operators before and behind a backbone.
_OURS: Final = re.compile(
    r"(images|calibrated|class_mix|embedding|probabilities|temperature|tempered|votes)$|(head|pca)$|(input|features|head|ood_score|pca)\."
)
# The prefix of ONNX Runtime's messages: a code, and a place in its source.
_WHERE_IN_RUNTIME: Final = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (/\S+:\d+ .*?\) (?=[A-Z]))?", re.DOTALL
)


def in_sandbox(task: str, header: Header, size: int, content: bytes = b"") -> tuple[Header, bytes]:
    """Read an untrusted file in a process that may die, within limits that fit its size."""
    seconds = _SECONDS + size / _BYTES_A_SECOND
    memory = _MEMORY + _COPIES * size
    with Sandbox(task, seconds=_BUSY * seconds, memory=memory) as sandbox:
        return sandbox.call({**header, "seconds": seconds}, content)


@functools.lru_cache(2)
def probed_network(content: bytes, name: str, side: int | None) -> tuple[Probed, bytes]:
    """A network's description, and its file in one form."""
    header = {"name": name, "side": side}
    try:
        facts, form = in_sandbox("opsin.backbones.probe:probe", header, len(content), content)
    except SandboxError as error:
        raise refused(name, error.message) from error
    return Probed.model_validate(facts), form


def probe(header: Header, body: bytes) -> tuple[Header, Sequence[bytes]]:
    """Look into a file and bring it into one form; what `opsin.core.sandbox` runs."""
    name = header["name"]
    limit_computing(header["seconds"])
    try:
        model = onnx.load_model_from_string(body)
    except Exception as error:
        raise refused(name, printable(error) or type(error).__name__) from error
    probed, model = probe_model(model, name, header["side"])
    return probed.model_dump(mode="json"), [model.SerializeToString()]


def probe_model(
    model: onnx.ModelProto, name: str, side: int | None
) -> tuple[Probed, onnx.ModelProto]:
    """Look into a network and bring it into one form, in a process that may die."""
    try:
        check_bounded(model, name)
        return _Probe(model, name, side).result()
    except OpsinError:
        raise
    except Exception as error:
        raise refused(name, printable(error) or type(error).__name__) from error


def check_bounded(model: onnx.ModelProto, name: str) -> None:
    """Refuse networks that would keep ONNX Runtime busy for long."""
    count, graphs = 0, [model.graph]
    while graphs:
        for node in graphs.pop().node:
            count += node.op_type != "Constant"
            if node.op_type in _LOOPS:
                raise refused(name, f"its operator {node.op_type} is a loop", _WITHOUT_IT)
            graphs += (part.g for part in node.attribute if part.HasField("g"))
    if count > _MOST_OPERATORS:
        reason = f"it has {count:,} operators, and up to {_MOST_OPERATORS:,} are read"
        raise refused(name, reason)


class _Probe:
    def __init__(self, model: onnx.ModelProto, name: str, side: int | None) -> None:
        self._name, self._model, self._graph = name, model, model.graph
        self._refuse_foreign()
        self._sort()
        self._constants_to_weights()
        self._find_input(side)
        self._to_present_operators()
        self._refuse_large()
        self._open_batch()
        self._refuse_large()  # sizes that could not be inferred before
        self._agree()
        self._rename_ours()

    def result(self) -> tuple[Probed, onnx.ModelProto]:
        shapes = {
            name: shape[1:]
            for name, (kind, shape) in self._measured(2).items()
            if kind == "f" and 2 <= len(shape) <= 4 and shape[0] == 2 and math.prod(shape[1:]) > 1
        }
        values = values_of(self._graph, shapes)
        if not values:
            raise refused(self._name, "none of its values could be features")
        features = last_features(self._graph, values, self._made_of_weights())
        depths = depths_of(self._graph, list(values.values()), features, self.side)
        used = {name for node in self._graph.node for name in node.input}
        _set(self._graph.initializer, [w for w in self._graph.initializer if w.name in used])
        probed = Probed(
            input=self.input,
            side=self.side,
            channels=self.channels,
            channels_last=self.channels_last,
            dtype=np.dtype(self.dtype).name,
            features=features,
            depths=tuple(depths),
            values=tuple(values.values()),
            properties={
                prop.key[:200]: prop.value[: _LONGEST_OWN if prop.key in _OWN else 10_000]
                for prop in self._model.metadata_props
            },
        )
        return probed, self._model

    def _weight(self, name: str, value: Any) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _refuse_foreign(self) -> None:
        for node in self._graph.node:
            tree = node.domain == TREES and node.op_type.startswith("TreeEnsemble")
            node.domain = "" if node.domain == "ai.onnx" else node.domain
            if node.domain and not tree:
                operator = f"{printable(node.domain)}.{printable(node.op_type)}"
                reason = f"its operator {operator} is no standard one"
                advice = _BY_SKOPS if node.domain == TREES else _WITHOUT_IT
                raise refused(self._name, reason, advice)
        if len(self._model.functions) or not len(self._graph.node):
            raise refused(self._name, "it holds no operators, or functions of its own")
        names: set[str] = set()
        for weight in self._graph.initializer:
            if weight.name in names:
                raise refused(self._name, f"it has two weights called {printable(weight.name)}")
            names.add(weight.name)
            if weight.data_location == TensorProto.EXTERNAL or weight.external_data:
                advice = "Save it again as one file: onnx.save(onnx.load(FILE), NEW)."
                raise refused(self._name, "its weights lie in another file", advice)

    def _sort(self) -> None:
        """Sort operators topologically, as the format demands."""
        nodes = list(self._graph.node)
        makers = {name: at for at, node in enumerate(nodes) for name in node.output}
        needs = {
            at: {makers[name] for name in node.input if name in makers}
            for at, node in enumerate(nodes)
        }
        if any(at <= max(needed, default=-1) for at, needed in needs.items()):
            _set(self._graph.node, [nodes[at] for at in TopologicalSorter(needs).static_order()])

    def _constants_to_weights(self) -> None:
        """Turn constants into weights."""
        kept = []
        for node in self._graph.node:
            value = attribute(node, "value", None) if node.op_type == "Constant" else None
            if value is None:
                kept.append(node)
            else:
                self._graph.initializer.append(value)
                self._graph.initializer[-1].name = node.output[0]
        _set(self._graph.node, kept)

    def _find_input(self, side: int | None) -> None:
        weights = {weight.name for weight in self._graph.initializer}
        inputs = [value for value in self._graph.input if value.name not in weights]
        if len(inputs) != 1:
            names = ", ".join(printable(value.name) for value in inputs) or "none"
            raise refused(self._name, f"it has {len(inputs)} inputs ({names})")
        kind = inputs[0].type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
        if kind.elem_type not in _TYPES or len(dims) != 4:
            raise refused(self._name, f"its input {printable(inputs[0].name)} is no image")
        self.channels_last = dims[3] in (1, 3) and dims[1] not in (1, 3)
        channels = dims[3] if self.channels_last else dims[1]
        if channels not in (0, 1, 3):
            raise refused(self._name, f"its images have {channels} channels")
        sides = dims[1:3] if self.channels_last else dims[2:4]
        height, width = (stated or side or _USUAL_SIDE for stated in sides)
        if max(height, width) > _LARGEST_SIDE or min(height, width) < 4:
            raise refused(self._name, f"its images have {height}×{width} pixels")
        self.input, self.side, self.channels = inputs[0].name, (height, width), channels or 3
        self.dtype = _TYPES[kind.elem_type]
        last = (height, width, self.channels)
        self._shape = last if self.channels_last else (self.channels, height, width)
        _set(self._graph.input, [self._declared("N")])

    def _declared(self, batch: str | int) -> onnx.ValueInfoProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        return helper.make_tensor_value_info(self.input, kind, [batch, *self._shape])

    def _to_present_operators(self) -> None:
        opsets = self._model.opset_import
        version = max((e.version for e in opsets if e.domain in ("", "ai.onnx")), default=0)
        if version < _PRESENT:
            self._model = version_converter.convert_version(self._model, OPSET)
            self._graph = self._model.graph
            self._constants_to_weights()
            version = OPSET
        # The newest exporters write more than runtimes read; what is read needs no more.
        self._model.ir_version = min(self._model.ir_version, _NEWEST_FORMAT)
        # Stated shapes may fix the number of images at 1.
        del self._graph.value_info[:]
        trees = any(node.domain == TREES for node in self._graph.node)
        used = [("", version), *([(TREES, TREES_OPSET)] if trees else ())]
        _set(self._model.opset_import, [helper.make_opsetid(*entry) for entry in used])

    def _refuse_large(self) -> None:
        """Refuse values too large to compute for eight images."""
        most = max(_LARGEST_VALUE, _OF_A_PIXEL * math.prod(self.side))
        static = self._made_of_weights()
        for name, (_, shape) in self._inferred(1).items():
            size = np.dtype(np.float32).itemsize * math.prod(shape)
            if size > most and name not in static:
                takes = f"takes {size >> 20} MB an image, and up to {most >> 20} MB are computed"
                raise refused(self._name, f"its value {printable(name)} {takes}")

    def _open_batch(self) -> None:
        if self._takes_any():
            return
        with contextlib.suppress(Exception):  # the next try shows the error
            self._fold_sizes()
            self._open_reshapes()
        if self._takes_any():
            return
        for node in self._graph.node:
            if any(part.HasField("g") for part in node.attribute):
                raise refused(
                    self._name, f"its operator {printable(node.op_type)} is a branch", _WITHOUT_IT
                )
        try:
            self._run(1)
        except Exception as error:
            reason = printable(_WHERE_IN_RUNTIME.sub("", str(error)))
            raise refused(self._name, f"it cannot be computed: {reason}") from error
        reason = "it computes one image at a time, or its sizes depend on the image"
        raise refused(self._name, reason, "Export it again with an open first dimension.")

    def _takes_any(self) -> bool:
        try:
            scan(self._model.SerializeToString(), self._name)
            self._run(3)
        except Exception:  # noqa: BLE001  whatever it is, this form does not serve
            return False
        return True

    def _fold_sizes(self) -> None:
        """Fold values computed from the sizes of one image alone into constants."""
        static = {weight.name for weight in self._graph.initializer}
        nodes: list[onnx.NodeProto] = []
        for node in self._graph.node:
            taken = {name for name in node.input if name}
            if node.op_type in ("Shape", "Size") or (taken and taken <= static):
                nodes.append(node)
                static.update(node.output)
        names = [name for node in nodes for name in node.output if name]
        values = self._run(1, names) if names else {}
        # Unpacked or transposed weights stay as they are: they would take more room.
        folded = {
            name
            for node in nodes
            for name in node.output
            if all(values[output].size <= _SMALL for output in node.output)
        }
        kept = [node for node in self._graph.node if not folded.intersection(node.output)]
        _set(self._graph.node, kept)
        for name in folded.intersection(name for node in kept for name in node.input):
            self._weight(name, values[name])

    def _open_reshapes(self) -> None:
        """Open the first axis wherever a constant shape fixes it for one image.

        Of one image that axis has size 1, or has merged with another, such as heads or windows. If
        images are on another axis, `_agree` finds other answers.
        """
        weights = {weight.name: weight for weight in self._graph.initializer}
        shapes = {name: shape for name, (_, shape) in self._measured(1).items()}
        nodes: list[onnx.NodeProto] = []
        for at, node in enumerate(list(self._graph.node)):
            shape = shapes.get(node.output[0])
            if node.op_type == "Reshape" and node.input[1] in weights and shape:
                opened = np.array([-1, *shape[1:]], np.int64)
                node.input[1] = self._weight(f"{node.input[1]}.open{at}", opened)
            elif node.op_type == "Concat" and attribute(node, "axis", 0) != 0:
                nodes += self._repeated(node, weights)
            nodes.append(node)
        _set(self._graph.node, nodes)
        for output in self._graph.output:
            output.type.tensor_type.ClearField("shape")

    def _repeated(
        self, node: onnx.NodeProto, weights: Mapping[str, TensorProto]
    ) -> list[onnx.NodeProto]:
        """Repeat a weight that is joined to each image's values, such as a class token."""
        moving = [name for name in node.input if name not in weights]
        added = []
        for at, name in enumerate(node.input):
            weight = weights.get(name)
            if weight is None or not moving or len(weight.dims) != 3 or weight.dims[0] != 1:
                continue
            stem = f"{node.output[0]}.repeated{at}"
            parts = {"start": [0], "end": [1], "axis": [1]}
            bounds = [self._weight(f"{stem}.{part}", of) for part, of in parts.items()]
            zero = self._weight(f"{stem}.zero", np.zeros((), numpy_helper.to_array(weight).dtype))
            added += [
                helper.make_node("Slice", [moving[0], *bounds], [f"{stem}.one"]),
                helper.make_node("Mul", [f"{stem}.one", zero], [f"{stem}.nothing"]),
                helper.make_node("Add", [name, f"{stem}.nothing"], [stem]),
            ]
            node.input[at] = stem
        return added

    def _agree(self) -> None:
        """Check that images get the same answers together as alone."""
        together, alone = self._run(2), self._run(1)
        for name, values in together.items():
            if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
                continue
            if values.shape[:1] != (2,) or not np.isfinite(values).all():
                raise refused(self._name, "its answers are no numbers, or not one for each image")
            first = alone[name]
            apart = np.abs(values[:1].astype(np.float64) - first).max(initial=0)
            if first.shape[1:] != values.shape[1:] or apart > _CLOSE * (1 + np.abs(first).max()):
                raise refused(self._name, "images get other answers together than alone")

    def _rename_ours(self) -> None:
        graph = self._graph
        infos = [*graph.initializer, *graph.input, *graph.output]
        names = {info.name for info in infos} | {n for node in graph.node for n in node.output}
        changed = {name: f"backbone.{name}" for name in names if _OURS.match(name)}
        rename_values(graph.node, changed)
        for info in infos:
            info.name = changed.get(info.name, info.name)
        self.input = changed.get(self.input, self.input)

    def _run(self, count: int, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
        drawn = np.random.default_rng(0).random((count, *self._shape), np.float32)
        images = (drawn * 255 if self.dtype == np.uint8 else drawn).astype(self.dtype)
        options = session_options(threads=1)
        options.log_severity_level = 4  # errors are put in our own words
        outputs = [output.name for output in self._graph.output] if names is None else list(names)
        infos = [onnx.ValueInfoProto(name=name) for name in outputs]
        with _set_for_now(self._graph.output, self._graph.output if names is None else infos):
            session = cpu_session(self._model.SerializeToString(), options)
        return dict(zip(outputs, session.run(outputs, {self.input: images}), strict=True))

    def _made_of_weights(self) -> set[str]:
        static = {weight.name for weight in self._graph.initializer}
        for node in self._graph.node:
            if static.issuperset(filter(None, node.input)):
                static.update(node.output)
        return static

    def _measured(self, count: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return kind and shape of each value that depends on the images, computed if needed."""
        known, static = self._inferred(count), self._made_of_weights() | {""}
        names = [name for node in self._graph.node for name in node.output if name not in static]
        unknown = [name for name in names if name not in known]
        for name, value in self._run(count, unknown).items() if unknown else ():
            if isinstance(value, np.ndarray):
                known[name] = (value.dtype.kind, value.shape)
        return {name: known[name] for name in names if name in known}

    def _inferred(self, count: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return kind and shape of each value that ONNX can infer."""
        outputs = [onnx.ValueInfoProto(name=output.name) for output in self._graph.output]
        with (
            _set_for_now(self._graph.input, [self._declared(count)]),
            _set_for_now(self._graph.output, outputs),
        ):
            try:
                graph = onnx.shape_inference.infer_shapes(self._model, data_prop=True).graph
            except onnx.shape_inference.InferenceError:
                return {}
        known: dict[str, tuple[str, tuple[int, ...]]] = {}
        for value in (*graph.value_info, *graph.output):
            kind = value.type.tensor_type
            shape = tuple(dim.dim_value for dim in kind.shape.dim)
            if kind.elem_type and kind.HasField("shape") and all(shape):
                known[value.name] = (helper.tensor_dtype_to_np_dtype(kind.elem_type).kind, shape)
        return known


def _set(field: Any, values: Iterable[Any]) -> None:
    values = list(values)
    del field[:]
    field.extend(values)


@contextlib.contextmanager
def _set_for_now(field: Any, values: Iterable[Any]) -> Iterator[None]:
    before = list(field)
    _set(field, values)
    try:
        yield
    finally:
        _set(field, before)
