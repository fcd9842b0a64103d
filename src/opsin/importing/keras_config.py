"""A network's configuration as Keras writes it: its layers and their inputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, NamedTuple

from opsin.runtime.onnx_scan import printable, refused

# Networks, which may also stand where a layer stands.
_NETWORKS: Final = frozenset(("Sequential", "Functional", "Model"))
_EXPORT: Final = "Export it to ONNX from the program that defines it: model.export(…)."
# More than any network that people use.
_MOST_LAYERS: Final = 5_000
_DEEPEST: Final = 8
# Arithmetic between layers, as TensorFlow's Keras wrote it: names, of which none is looked up.
_ARITHMETIC: Final = {
    "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract",
    "math.multiply": "Multiply", "math.truediv": "Divide", "math.divide": "Divide",
    "nn.relu": "ReLU", "nn.relu6": "ReLU6",
}  # fmt: skip
# Modules of Keras' own layers; classes from elsewhere are somebody's code.
_KERAS: Final = re.compile(r"(keras|tf_keras|tensorflow\.(python\.)?keras)(\.|$)")


class Reference(NamedTuple):
    """One output of one call of a layer."""

    layer: str
    call: int
    output: int


@dataclass(frozen=True)
class LayerConfig:
    """A layer, or a network in the place of one."""

    kind: str
    name: str
    key: str  # what a ``.keras`` file calls its weights
    config: Mapping[str, Any] = field(repr=False)
    inner: NetworkConfig | None


@dataclass(frozen=True)
class Call:
    """A call of a layer, and its inputs: references and plain values."""

    layer: LayerConfig
    number: int
    given: tuple[Any, ...]
    named: Mapping[str, Any]


@dataclass(frozen=True)
class NetworkConfig:
    """The layers of a network and their calls, each after those that it needs."""

    name: str
    layers: tuple[LayerConfig, ...]
    calls: tuple[Call, ...]
    inputs: tuple[Reference, ...]
    outputs: tuple[Reference, ...]


def read_network(file: str, config: Mapping[str, Any]) -> NetworkConfig:
    """Read the configuration of a network."""
    try:
        return _Reader(file).network(config, _DEEPEST)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise refused(file, "its configuration is not that of a network") from error


class _Reader:
    def __init__(self, file: str) -> None:
        self._file, self._left = file, _MOST_LAYERS

    def network(self, stated: Mapping[str, Any], depth: int) -> NetworkConfig:
        kind, config = self._kind(stated), stated["config"]
        if kind not in _NETWORKS or depth < 0:
            reason = f"its network is of the class {printable(kind)}, which is a program of its own"
            reason = reason if depth else "networks lie within networks within networks"
            raise refused(self._file, reason, _EXPORT)
        listed = config if isinstance(config, list) else config["layers"]
        name = "sequential" if isinstance(config, list) else str(config.get("name", "network"))
        self._left -= len(listed)
        if self._left < 0:
            raise refused(self._file, f"it has more than {_MOST_LAYERS:,} layers")
        layers = tuple(
            self._layer(row, key, depth) for row, key in zip(listed, _keys(listed), strict=True)
        )
        if not layers:
            raise refused(self._file, "it has no layers")
        if kind == "Sequential":
            return _in_a_row(name, layers)
        calls = [
            call
            for row, layer in zip(listed, layers, strict=True)
            for call in _calls(layer, row.get("inbound_nodes", []))
        ]
        inputs, outputs = _references(config["input_layers"]), _references(config["output_layers"])
        if not {layer.name for layer in layers} >= {ref.layer for ref in (*inputs, *outputs)}:
            raise refused(self._file, "its configuration names a layer that is not there")
        ordered = _in_order(_as_counted(calls, outputs), inputs)
        if ordered is None:
            reason = "its layers wait for one another, or for one that is not there"
            raise refused(self._file, reason)
        return NetworkConfig(name, layers, ordered, inputs, outputs)

    def _kind(self, stated: Mapping[str, Any]) -> str:
        kind = str(stated["class_name"])
        module, registered = stated.get("module"), stated.get("registered_name")
        foreign = isinstance(module, str) and not _KERAS.match(module)
        foreign |= isinstance(registered, str) and registered not in (kind, f"Keras>{kind}")
        foreign |= not re.fullmatch(r"\w{1,100}", kind)
        if foreign:
            name = registered or (f"{module}.{kind}" if module else kind)
            reason = f"{printable(name)} is no layer of Keras, but a program of somebody's"
            raise refused(self._file, reason, _EXPORT)
        return kind

    def _layer(self, stated: Mapping[str, Any], key: str, depth: int) -> LayerConfig:
        kind, config = self._kind(stated), stated["config"]
        if kind in _NETWORKS:
            inner = self.network(stated, depth - 1)
            return LayerConfig(kind, inner.name[:200], key, {}, inner)
        if not isinstance(config, dict):
            raise TypeError("options of a layer")
        if kind == "TFOpLambda":
            kind = _ARITHMETIC.get(str(config.get("function")), kind)
        name = str(stated.get("name") or config.get("name") or key)
        return LayerConfig(kind, name[:200], key, config, None)


def _keys(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each layer's name in a ``.keras`` file: its class and a running number."""
    seen: Counter[str] = Counter()
    keys = []
    for layer in layers:
        if str(layer.get("module", "")).startswith("keras.src.ops"):  # arithmetic holds nothing
            keys.append("")
            continue
        name = re.sub(r"\W+", "", str(layer["class_name"]).rsplit(">", 1)[-1])
        name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
        name = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
        keys.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return keys


def _in_a_row(name: str, layers: tuple[LayerConfig, ...]) -> NetworkConfig:
    first = layers[0]
    start = before = Reference(first.name if first.kind == "InputLayer" else "", 0, 0)
    calls = []
    for layer in layers:
        if layer.kind != "InputLayer":
            calls.append(Call(layer, 0, (before,), {}))
        before = Reference(layer.name, 0, 0)
    return NetworkConfig(name, layers, tuple(calls), (start,), (before,))


def _references(ends: Any) -> tuple[Reference, ...]:
    if isinstance(ends, dict):
        return tuple(ref for part in ends.values() for ref in _references(part))
    if len(ends) == 3 and isinstance(ends[0], str) and isinstance(ends[1], int):
        return (Reference(ends[0], ends[1], int(ends[2])),)
    return tuple(ref for part in ends for ref in _references(part))


def _calls(layer: LayerConfig, nodes: Any) -> list[Call]:
    """Return the calls of a layer; Keras 3 writes them as arguments, earlier ones as rows."""
    calls = []
    for number, node in enumerate(nodes):
        if isinstance(node, dict):
            values = tuple(_argument(value) for value in node.get("args", ()))
            named = {str(key): _argument(value) for key, value in node.get("kwargs", {}).items()}
        else:
            rows = node if node and isinstance(node[0], list) else [node]
            values = tuple(Reference(str(row[0]), int(row[1]), int(row[2])) for row in rows)
            further = [row[3] for row in rows if len(row) > 3]
            named = {str(key): _row_argument(item) for row in further for key, item in row.items()}
        calls.append(Call(layer, number, values, named))
    return calls


def _argument(stated: Any) -> Any:
    if isinstance(stated, dict):
        if stated.get("class_name") == "__keras_tensor__":
            name, call, output = stated["config"]["keras_history"]
            return Reference(str(name), int(call), int(output))
        if stated.get("class_name") == "__tuple__":
            return tuple(_argument(item) for item in stated["items"])
        raise ValueError("an argument that is no value")
    return tuple(_argument(item) for item in stated) if isinstance(stated, list) else stated


def _row_argument(stated: Any) -> Any:
    match stated:
        case [str(name), int(call), int(output)]:
            return Reference(name, call, output)
    return stated


def _as_counted(calls: Sequence[Call], outputs: Sequence[Reference]) -> list[Call]:
    """Number the calls of networks in the place of layers as those that need them do."""
    listed = Counter(call.layer.name for call in calls)
    last = {name: count - 1 for name, count in listed.items()}
    for ref in (*(ref for call in calls for ref in _needs(call)), *outputs):
        last[ref.layer] = max(last.get(ref.layer, 0), ref.call)
    return [
        replace(call, number=call.number + last[call.layer.name] - listed[call.layer.name] + 1)
        if call.layer.inner is not None
        else call
        for call in calls
    ]


def _needs(values: Any) -> list[Reference]:
    if isinstance(values, Call):
        return [*_needs(values.given), *_needs(values.named)]
    if isinstance(values, Reference):
        return [values]
    if isinstance(values, Mapping):
        values = tuple(values.values())
    return [ref for part in values for ref in _needs(part)] if isinstance(values, tuple) else []


def _in_order(calls: Sequence[Call], inputs: Sequence[Reference]) -> tuple[Call, ...] | None:
    """Sort calls behind those that they need; ``None`` if that is impossible."""
    known = {ref[:2] for ref in inputs}
    made = {(call.layer.name, call.number): call for call in calls}
    needs = {
        key: [ref[:2] for ref in _needs(call) if ref[:2] not in known] for key, call in made.items()
    }
    if len(made) < len(calls) or not made.keys() >= {
        ref for refs in needs.values() for ref in refs
    }:
        return None
    try:
        return tuple(made[key] for key in TopologicalSorter(needs).static_order())
    except CycleError:
        return None
