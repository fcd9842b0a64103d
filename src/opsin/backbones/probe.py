"""What is in a stranger's ONNX file, found out in a process that may die.

The file is brought into one form: operators of a present version, any number of images at once,
weights as weights. Its values are computed once, so that their shapes are measured, not believed.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter
from pydantic import BaseModel, ConfigDict

from opsin.backbones.batch_axis import batch_axes
from opsin.core.child_process import Header
from opsin.core.errors import ModelFileError, OpsinError
from opsin.core.platform import limit_computing
from opsin.onnx_files.onnx_graph import attribute
from opsin.onnx_files.postprocessing import OPSET, TREES, TREES_OPSET
from opsin.runtime.onnx_scan import printable, scan
from opsin.runtime.providers import cpu_session, session_options

# Side of the images where the file leaves it open, and nothing beside it says another.
_USUAL_SIDE: Final = 224
_LARGEST_SIDE: Final = 1024
# Oldest operators that need no conversion: from here on, axes are inputs everywhere.
_PRESENT: Final = 18
# Operators of the largest network that is read: ONNX Runtime's work grows with their square.
_MOST_OPERATORS: Final = 5_000
# Bytes that one value of an image may have, and for each of the image's pixels where that is more:
# eight images are computed at once.
_LARGEST_VALUE: Final = 16 << 20
_OF_A_PIXEL: Final = 512
# What runs as often as an image says.
_LOOPS: Final = frozenset(("Loop", "Scan", "SequenceMap"))
# Version of the file format, which has all kinds of numbers that are read here.
_NEWEST_FORMAT: Final = 11
_TYPES: Final = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.UINT8: np.uint8,
}
_CLOSE: Final = 1e-2
# Stands in a shape for what grows with the number of images.
_OPEN: Final = -(1 << 40)
# Numbers of the largest value that counts as computed from sizes.
_SMALL: Final = 4_096
#: What stands between the last dense layer and the answers, and changes no number's place.
_AFTER_HEAD: Final = frozenset((
    "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast", "Reshape", "Flatten", "Squeeze",
    "Unsqueeze", "Add", "Sub", "Mul", "Div", "Dropout", "DequantizeLinear", "QuantizeLinear",
))  # fmt: skip
#: What stands between a last convolution and its pooled answers.
_POOLING: Final = frozenset(("GlobalAveragePool", "AveragePool", "ReduceMean", "Relu", "Clip"))
_WITHOUT_IT: Final = "Export the network again without it."
# Names, or how names begin, of what stands before and behind a backbone.
_OURS: Final = re.compile(
    r"(images|calibrated|class_mix|embedding|probabilities|temperature|tempered|votes)$|(head|pca)$|(input|features|head|ood_score|pca)\."
)
_EMBEDDING: Final = "backbone.embedding"
# Values at these depths are joined with the last features, where they help.
_DEPTHS: Final = 5
# What ONNX Runtime says before the reason: a code, and where in its source.
_WHERE_IN_RUNTIME: Final = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (/\S+:\d+ .*?\) (?=[A-Z]))?", re.DOTALL
)


class Value(BaseModel):
    """A value of the network that could be taken as features."""

    model_config = ConfigDict(frozen=True)

    name: str
    op: str
    shape: tuple[int, ...]  # for one image
    patches: int = 0  # how many of its tokens are, where a class token was put first

    @property
    def units(self) -> int:
        """How many numbers it is once it is pooled."""
        width = self.shape[-1] if len(self.shape) == 2 else self.shape[0]
        return 2 * width if self.patches else width


class Probed(BaseModel):
    """A network as it was found."""

    model_config = ConfigDict(frozen=True)

    input: str
    side: tuple[int, int]
    channels: int
    channels_last: bool
    dtype: str
    features: str
    depths: tuple[str, ...]
    values: tuple[Value, ...]
    properties: dict[str, str]


def refused(name: str, reason: str, advice: str = "") -> ModelFileError:
    """Return the error of a file that is no backbone."""
    return ModelFileError(
        "a pretrained network in ONNX that takes one image",
        f"{name} is none: {reason}",
        advice or "Give another network.",
    )


def probe(header: Header, body: memoryview) -> tuple[Header, Sequence[bytes]]:
    """Look into a file and bring it into one form; what `opsin.core.sandbox` runs."""
    name = header["name"]
    limit_computing(header["seconds"])
    try:
        model = onnx.load_model_from_string(bytes(body))
    except Exception as error:
        raise refused(name, printable(error) or type(error).__name__) from error
    found, model = probe_model(model, name, header["side"])
    return found.model_dump(mode="json"), [model.SerializeToString()]


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
    """Refuse what would keep ONNX Runtime busy for long, before it is computed."""
    count, graphs = 0, [model.graph]
    while graphs:
        for node in graphs.pop().node:
            count += node.op_type != "Constant"
            if node.op_type in _LOOPS:
                raise refused(name, f"its operator {node.op_type} is a loop", _WITHOUT_IT)
            graphs += (each.g for each in node.attribute if each.HasField("g"))
    if count > _MOST_OPERATORS:
        reason = f"it has {count:,} operators, and up to {_MOST_OPERATORS:,} are read"
        raise refused(name, reason, "Simplify it, for example with onnxsim.")


class _Probe:
    def __init__(self, model: onnx.ModelProto, name: str, side: int | None) -> None:
        self._name = name
        self._model = model
        self._graph = self._model.graph
        self._refuse_foreign()
        self._put_in_order()
        self._constants_to_weights()
        self._find_input(side)
        self._to_present_operators()
        self._refuse_large()
        self._open_batch()
        self._refuse_large()  # what could not be said before
        self._keep_clear()

    def result(self) -> tuple[Probed, onnx.ModelProto]:
        shapes = self._shapes(2)
        patches = self._patches(shapes)
        values = tuple(
            Value(name=name, op=node.op_type, shape=shapes[name],
                  patches=patches.get(shapes[name][:-1], 0))
            for node in self._graph.node
            for name in node.output[:1]
            if name in shapes
        )  # fmt: skip
        if not values:
            raise refused(self._name, "none of its values could be features")
        features = self._features({value.name: value for value in values})
        self._leave_out_unused()
        found = Probed(
            input=self.input, side=self.side, channels=self.channels,
            channels_last=self.channels_last, dtype=np.dtype(self.dtype).name, features=features,
            depths=tuple(self._depths(values, features)), values=values,
            properties={e.key[:200]: e.value[:10_000] for e in self._model.metadata_props},
        )  # fmt: skip
        return found, self._model

    def _set_nodes(self, nodes: Sequence[onnx.NodeProto]) -> None:
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _weigh(self, name: str, value: Any) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _refuse_large(self) -> None:
        """Refuse values that eight images could not be computed with, before they are computed."""
        most = max(_LARGEST_VALUE, _OF_A_PIXEL * math.prod(self.side))
        held = self._made_of_weights()
        for name, (_, shape) in self._inferred(1).items():
            size = np.dtype(np.float32).itemsize * math.prod(shape)
            if size > most and name not in held:
                raise refused(
                    self._name,
                    f"its value {printable(name)} takes {size >> 20} MB an image, and up to "
                    f"{most >> 20} MB are computed",
                )

    def _leave_out_unused(self) -> None:
        used = {name for node in self._graph.node for name in node.input}
        kept = [weight for weight in self._graph.initializer if weight.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _refuse_foreign(self) -> None:
        foreign = next((n for n in self._graph.node if not _is_standard(n)), None)
        if foreign is not None:
            operator = f"{printable(foreign.domain)}.{printable(foreign.op_type)}"
            raise refused(self._name, f"its operator {operator} is no standard one", _WITHOUT_IT)
        if len(self._model.functions) or not len(self._graph.node):
            raise refused(self._name, "it holds no operators, or functions of its own")
        names = Counter(weight.name for weight in self._graph.initializer)
        for weight in self._graph.initializer:
            if names[weight.name] > 1:
                raise refused(self._name, f"it has two weights called {printable(weight.name)}")
            if weight.data_location == TensorProto.EXTERNAL or weight.external_data:
                raise refused(
                    self._name,
                    "its weights lie in another file",
                    "Save it again as one file: onnx.save(onnx.load(FILE), NEW).",
                )

    def _put_in_order(self) -> None:
        """Bring each operator behind those that it needs, as the format asks."""
        made = {name: place for place, node in enumerate(self._graph.node) for name in node.output}
        needs = {
            place: [made[name] for name in node.input if name in made]
            for place, node in enumerate(self._graph.node)
        }
        if all(needed < place for place, them in needs.items() for needed in them):
            return
        nodes = [self._graph.node[place] for place in TopologicalSorter(needs).static_order()]
        ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        self._set_nodes(ordered)

    def _constants_to_weights(self) -> None:
        """Keep constants where weights are, which is where all that follows looks for them."""
        kept = []
        for node in self._graph.node:
            value = attribute(node, "value", None) if node.op_type == "Constant" else None
            if value is None:
                kept.append(node)
            else:
                value.name = node.output[0]
                self._graph.initializer.append(value)
        self._set_nodes(kept)

    def _find_input(self, side: int | None) -> None:
        held = {weight.name for weight in self._graph.initializer}
        inputs = [each for each in self._graph.input if each.name not in held]
        if len(inputs) != 1:
            names = ", ".join(printable(each.name) for each in inputs) or "none"
            raise refused(self._name, f"it has {len(inputs)} inputs ({names})")
        (given,) = inputs
        kind = given.type.tensor_type
        dims = [each.dim_value if each.HasField("dim_value") else 0 for each in kind.shape.dim]
        if kind.elem_type not in _TYPES or len(dims) != 4:
            raise refused(self._name, f"its input {printable(given.name)} is no image")
        self.channels_last = dims[3] in (1, 3) and dims[1] not in (1, 3)
        channels = dims[3] if self.channels_last else dims[1]
        if channels not in (0, 1, 3):
            raise refused(self._name, f"its images have {channels} channels")
        sides = dims[1:3] if self.channels_last else dims[2:4]
        height, width = (each or side or _USUAL_SIDE for each in sides)
        if max(height, width) > _LARGEST_SIDE or min(height, width) < 4:
            raise refused(self._name, f"its images have {height}×{width} pixels")
        self.channels = channels or 3
        self.dtype = _TYPES[kind.elem_type]
        self.input, self.side = given.name, (height, width)
        del self._graph.input[:]
        self._graph.input.append(self._declared("N"))

    @property
    def _shape(self) -> tuple[int, ...]:
        return (*self.side, self.channels) if self.channels_last else (self.channels, *self.side)

    def _declared(self, batch: str | int) -> onnx.ValueInfoProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        return helper.make_tensor_value_info(self.input, kind, [batch, *self._shape])

    def _to_present_operators(self) -> None:
        version = max((e.version for e in self._model.opset_import if e.domain in ("", "ai.onnx")),
                      default=0)  # fmt: skip
        if version < _PRESENT:
            self._model = version_converter.convert_version(self._model, OPSET)
            self._graph = self._model.graph
            self._constants_to_weights()
            version = OPSET
        # The newest exporters write more than runtimes read; what is read needs no more.
        self._model.ir_version = min(self._model.ir_version, _NEWEST_FORMAT)
        # Stated shapes may hold that there is one image, and would be believed.
        del self._graph.value_info[:]
        trees = any(node.domain == TREES for node in self._graph.node)
        del self._model.opset_import[:]
        self._model.opset_import.append(helper.make_opsetid("", version))
        if trees:
            self._model.opset_import.append(helper.make_opsetid(TREES, TREES_OPSET))

    def _open_batch(self) -> None:
        """Let it take any number of images at once."""
        for counts in ((2, 3), (1,)):
            if self._takes_any():
                break
            # A file that is made for one image cannot be computed for more.
            with contextlib.suppress(Exception):
                self._fold_sizes(counts)
                self._free_reshapes(self._shapes_of_one() if counts == (1,) else {})
        else:
            if not self._takes_any():
                raise self._refusal()
        self._agree()

    def _refusal(self) -> ModelFileError:
        """Return why it computes no number of images that it is given."""
        inner = (n for n in self._graph.node if any(each.HasField("g") for each in n.attribute))
        for node in inner:
            found = f"its operator {printable(node.op_type)} is a loop or a branch"
            return refused(self._name, found, _WITHOUT_IT)
        try:
            self._run(1)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the reason
            reason = printable(_WHERE_IN_RUNTIME.sub("", str(error)))
            return refused(self._name, f"it cannot be computed: {reason}")
        return refused(
            self._name,
            "it computes one image at a time, or its sizes depend on the image",
            "Export it again with an open first dimension.",
        )

    def _takes_any(self) -> bool:
        try:
            scan(self._model.SerializeToString(), self._name)
            self._run(3)
        except Exception:  # noqa: BLE001  whatever it is, this form does not serve
            return False
        return True

    def _fold_sizes(self, counts: Sequence[int]) -> None:
        """Make constants of what is computed from sizes alone, the number of images left open."""
        held = {weight.name for weight in self._graph.initializer}
        static: list[onnx.NodeProto] = []
        for node in self._graph.node:
            taken = {name for name in node.input if name}
            if node.op_type in ("Shape", "Size") or (taken and taken <= held):
                static.append(node)
                held.update(node.output)
        names = [name for node in static for name in node.output if name]
        found = [self._run(count, names) if names else {} for count in counts]
        # Weights that are unpacked or turned stay as they are: they would take more room.
        gone = [node for node in static if all(found[0][n].size <= _SMALL for n in node.output)]
        made = {name for node in gone for name in node.output}
        kept = [node for node in self._graph.node if not made.intersection(node.output)]
        used = {name for node in kept for name in node.input}
        small = {
            name: _opened([np.asarray(each[name]) for each in found])
            for name in made.intersection(used)
        }
        self._set_nodes(kept)
        for name, value in small.items():
            self._weigh(name, value)

    def _shapes_of_one(self) -> dict[str, list[int]]:
        """Return the shape of each reshaped value for one image, the number of images open."""
        names = [name for node in self._graph.node for name in node.output if name]
        shapes = {name: value.shape for name, value in self._run(1, names).items()}
        shapes[self.input] = self._images(1).shape
        constants = {
            weight.name: numpy_helper.to_array(weight).ravel().tolist()
            for weight in self._graph.initializer
            if weight.data_type == TensorProto.INT64 and math.prod(weight.dims) <= _SMALL
        }
        axes = batch_axes(self._graph.node, self.input, shapes, constants)
        found = {}
        for node in self._graph.node:
            name = node.output[0]
            if node.op_type == "Reshape" and name in axes:
                found[name] = list(shapes[name])
                found[name][axes[name]] = _OPEN
        return found

    def _free_reshapes(self, of_one: dict[str, list[int]]) -> None:
        """Leave the number of images open wherever a constant shape holds it."""
        weights = {weight.name: weight for weight in self._graph.initializer}
        nodes: list[onnx.NodeProto] = []
        for place, node in enumerate(list(self._graph.node)):
            if node.op_type == "Reshape" and node.input[1] in weights:
                held = numpy_helper.to_array(weights[node.input[1]])
                shape = np.array(of_one.get(node.output[0], held), np.int64)
                is_open = shape == _OPEN
                if is_open.any():
                    shape[is_open] = 0 if (shape[~is_open] == -1).any() else -1
                    node.input[1] = self._weigh(f"{node.input[1]}.open{place}", shape)
            elif node.op_type == "Concat" and attribute(node, "axis", 0) != 0:
                nodes += self._repeated(node, weights)
            nodes.append(node)
        self._set_nodes(nodes)
        for output in self._graph.output:
            output.type.tensor_type.ClearField("shape")

    def _repeated(
        self, node: onnx.NodeProto, weights: dict[str, TensorProto]
    ) -> list[onnx.NodeProto]:
        """Repeat a weight that stands beside each image's values, as a class token does."""
        moving = [name for name in node.input if name not in weights]
        added = []
        for place, name in enumerate(node.input):
            held = weights.get(name)
            if held is None or not moving or len(held.dims) != 3 or held.dims[0] != 1:
                continue
            stem = f"{node.output[0]}.repeated{place}"
            bounds = [self._weigh(f"{stem}.{part}", np.array(value, np.int64))
                      for part, value in (("start", [0]), ("end", [1]), ("axis", [1]))]  # fmt: skip
            zero = self._weigh(f"{stem}.zero", np.zeros((), numpy_helper.to_array(held).dtype))
            added += [
                helper.make_node("Slice", [moving[0], *bounds], [f"{stem}.one"]),
                helper.make_node("Mul", [f"{stem}.one", zero], [f"{stem}.nothing"]),
                helper.make_node("Add", [name, f"{stem}.nothing"], [stem]),
            ]
            node.input[place] = stem
        return added

    def _keep_clear(self) -> None:
        """Give other names to values that are called as ours are in a classifier.onnx."""
        graph = self._graph
        names = {each.name for each in (*graph.initializer, *graph.input)}
        names |= {name for node in graph.node for name in node.output}
        changed = {name: f"backbone.{name}" for name in names if _OURS.match(name)}
        for node in graph.node:
            for part in (node.input, node.output):
                part[:] = [changed.get(name, name) for name in part]
        for each in (*graph.initializer, *graph.input, *graph.output):
            each.name = changed.get(each.name, each.name)
        self.input = changed.get(self.input, self.input)

    def _images(self, count: int) -> NDArray[Any]:
        drawn = np.random.default_rng(0).random((count, *self._shape), np.float32)
        values: NDArray[Any] = (drawn * 255 if self.dtype == np.uint8 else drawn).astype(self.dtype)
        return values

    def _run(self, count: int, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
        own = list(self._graph.output)
        if names is not None:
            del self._graph.output[:]
            self._graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        try:
            options = session_options(threads=1)
            options.log_severity_level = 4  # what it refuses is said in our own words
            session = cpu_session(self._model.SerializeToString(), options)
        finally:
            del self._graph.output[:]
            self._graph.output.extend(own)
        outputs = [output.name for output in session.get_outputs()]
        return dict(zip(outputs, session.run(outputs, {self.input: self._images(count)}),
                        strict=True))  # fmt: skip

    def _agree(self) -> None:
        """See that images computed together get what each gets alone."""
        together, (height, width) = self._run(2), self.side
        alone = self._run(1)
        for name, values in together.items():
            if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
                continue
            if values.shape[:1] != (2,) or not np.isfinite(values).all():
                raise refused(self._name, "its answers are none, or not one for each image")
            first = alone[name]
            apart = np.abs(values[:1].astype(np.float64) - first).max(initial=0)
            if first.shape[1:] != values.shape[1:] or apart > _CLOSE * (1 + np.abs(first).max()):
                raise refused(
                    self._name,
                    f"images of {height}×{width} get other answers together than alone",
                )

    def _made_of_weights(self) -> set[str]:
        """Return the names of weights and of what is made of them alone, such as unpacked ones."""
        held = {weight.name for weight in self._graph.initializer}
        for node in self._graph.node:
            if held.issuperset(filter(None, node.input)):
                held.update(node.output)
        return held

    def _shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        """Return the shape for one image of each value that could be features, as measured."""
        known = self._inferred(count)
        held = self._made_of_weights()
        names = [node.output[0] for node in self._graph.node if node.output and node.output[0]]
        unknown = [name for name in names if name not in known and name not in held]
        for name, value in self._run(count, unknown).items() if unknown else ():
            if isinstance(value, np.ndarray):
                known[name] = (value.dtype.kind, value.shape)
        return {
            name: known[name][1][1:]
            for name in names
            if name in known and name not in held
            for kind, shape in [known[name]]
            if kind == "f"
            and 2 <= len(shape) <= 4
            and shape[0] == count
            and math.prod(shape[1:]) > 1
        }

    def _inferred(self, count: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return kind and shape of each value as far as the standard says what they are."""
        own = [list(each) for each in (self._graph.input, self._graph.output)]
        try:
            del self._graph.input[:], self._graph.output[:]
            self._graph.input.append(self._declared(count))
            self._graph.output.extend(onnx.ValueInfoProto(name=each.name) for each in own[1])
            graph = onnx.shape_inference.infer_shapes(self._model, data_prop=True).graph
        except onnx.shape_inference.InferenceError:
            return {}
        finally:
            del self._graph.input[:], self._graph.output[:]
            self._graph.input.extend(own[0])
            self._graph.output.extend(own[1])
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        for value in (*graph.value_info, *graph.output):
            kind = value.type.tensor_type
            shape = tuple(each.dim_value for each in kind.shape.dim)
            if kind.elem_type and kind.HasField("shape") and all(shape):
                dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
                found[value.name] = (dtype.kind, shape)
        return found

    def _patches(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[tuple[int, ...], int]:
        """Return how many of so many tokens are patches, where a class token was put first."""
        found: dict[tuple[int, ...], int] = {}
        for node in self._graph.node:
            parts = [shapes.get(name, ()) for name in node.input]
            if node.op_type == "Concat" and all(len(part) == 2 for part in parts):
                rows, made = [part[0] for part in parts], shapes.get(node.output[0], (0,))[:-1]
                if rows[0] == 1 and made == (sum(rows),):
                    found[made] = rows[-1]
        return found

    def _features(self, values: dict[str, Value]) -> str:
        """Return the value before the last dense layer, or the last that could be features."""
        makers = {output: node for node in self._graph.node for output in node.output}
        outputs = [each.name for each in self._graph.output]
        if _EMBEDDING in outputs:  # a classifier of ours says it itself
            return str(makers[_EMBEDDING].input[0])
        # Of several outputs the last one that is a vector: what is pooled comes after its maps.
        vectors = [name for name in outputs if name in values and len(values[name].shape) == 1]
        start = vectors[-1] if vectors else outputs[0]
        name, answers, pooled, bent = start, False, False, False
        held = self._made_of_weights()
        while (node := makers.get(name)) is not None:
            moving = [each for each in node.input if each and each not in held]
            weighed = len(node.input) > 1 and len(moving) == 1
            dense = node.op_type in ("Gemm", "MatMul") and weighed
            if dense and moving[0] in values:
                return _undropped(moving[0], makers, values)
            if node.op_type == "Conv" and self._is_pointwise(node):
                source = moving[0]
                alone = source in values and values[source].shape[1:] == (1, 1)
                # A last convolution before the mean is a head, but where an activation follows it
                # and no probabilities: there the network ends with its features.
                if alone or (pooled and (answers or not bent)):
                    return _undropped(source, makers, values) if alone else source
                break
            if node.op_type not in _AFTER_HEAD | _POOLING or len(moving) != 1:
                break
            answers |= node.op_type in ("Softmax", "LogSoftmax", "Sigmoid")
            pooled |= node.op_type in ("GlobalAveragePool", "AveragePool", "ReduceMean")
            bent |= node.op_type in ("Relu", "Clip")
            name = moving[0]
        return start if start in values else list(values)[-1]

    def _is_pointwise(self, node: onnx.NodeProto) -> bool:
        kernel = attribute(node, "kernel_shape", None)
        if kernel is None:
            dims = {each.name: each.dims for each in self._graph.initializer}
            kernel = dims.get(node.input[1], (0,))[2:]
        return set(kernel) == {1} and attribute(node, "group", 1) == 1

    def _depths(self, values: Sequence[Value], features: str) -> list[str]:
        """Choose the widest value at a few depths from the first quarter on."""
        end = next(place for place, value in enumerate(values) if value.name == features)
        height, width = self.side
        maps = [
            v for v in values[:end]
            if len(v.shape) == 3 and v.shape[1] * v.shape[2] > 1
            # Others have their channels last, as within ConvNeXt, or are no maps.
            and (v.shape[1] == v.shape[2] or height != width)
        ]  # fmt: skip
        tokens = [v for v in values[:end] if len(v.shape) == 2 and v.op == "Add"]
        if sum(value.op == "Conv" for value in maps) < _DEPTHS // 2:  # a transformer
            return _spread([v.name for v in tokens[len(tokens) // 2 :]], _DEPTHS - 1)
        last = next(value for value in values if value.name == features)
        if maps and maps[-1].shape[0] == last.shape[0]:  # the same, but pooled
            maps.pop()
        # What an activation follows at once is said again, more clearly, by its output.
        users: dict[str, list[str]] = {}
        for node in self._graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node.op_type)
        ends = [
            v for v in maps[len(maps) // 4 :]
            if v.op in ("Conv", "Add", "Relu", "Clip", "HardSwish", "Gelu", "Mul")
            and not (len(users.get(v.name, [])) == 1 and users[v.name][0] in _ACTIVATIONS)
        ]  # fmt: skip
        cuts = np.linspace(0, len(ends), _DEPTHS + 1).round().astype(int)
        parts = [ends[start:stop] for start, stop in pairwise(cuts) if stop > start]
        # The last of equals: it has seen the most of the image.
        return [max(reversed(part), key=lambda value: value.shape[0]).name for part in parts]


def _undropped(name: str, makers: Mapping[str, onnx.NodeProto], values: Mapping[str, Value]) -> str:
    """Return a value, or what it is a copy of."""
    while name in makers and makers[name].op_type in ("Dropout", "Identity", "Cast"):
        name = str(makers[name].input[0])
    return name if name in values else list(values)[-1]


def _is_standard(node: onnx.NodeProto) -> bool:
    """Tell the standard operators, and trees, from others."""
    tree = node.domain == TREES and node.op_type.startswith("TreeEnsemble")
    return node.domain in ("", "ai.onnx") or tree


def _opened(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return what was computed for several numbers of images, with that number left open."""
    first, last = values[0], values[-1]
    if first.shape != last.shape:  # one row for each image
        same = first.shape[1:] == last.shape[1:] and (first[:1] == last).all()
        if not same:
            raise ValueError("a value depends on the number of images")
        return first[:1]
    differs = first != last
    if differs.any():
        if first.ndim != 1 or differs.sum() != 1:
            raise ValueError("a size depends on the number of images in more than one way")
        first = first.copy()
        first[differs] = _OPEN
    return first


_ACTIVATIONS: Final = frozenset((
    "Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid", "LeakyRelu", "Gelu", "Erf", "PRelu",
))  # fmt: skip


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Return some names, evenly spread, the last among them."""
    if len(names) <= count:
        return list(names)
    places = np.linspace(0, len(names) - 1, count).round().astype(int)
    return [names[place] for place in places]
