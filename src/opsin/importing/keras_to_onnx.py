"""A network that Keras saved becomes a graph of standard operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from onnx import TensorProto

from opsin.core.metadata import Layer
from opsin.importing.answers import Converted
from opsin.importing.keras_config import Call, LayerConfig, NetworkConfig, Reference, read_network
from opsin.importing.keras_file import KerasFile, open_keras
from opsin.importing.keras_graph import KerasGraph, KerasTensor, LayerCall, Writer, tensors_in
from opsin.importing.keras_layers import LAYERS
from opsin.importing.keras_numbers import NUMBERS
from opsin.onnx_files.postprocessing import model_of
from opsin.runtime.onnx_scan import printable

# The layers by the names of their classes.
_LAYERS: Final[dict[str, Writer]] = {**NUMBERS, **LAYERS}
# Layers that run code which the file holds.
_CODE: Final = frozenset(("Lambda", "TFOpLambda", "TensorFlowOpLayer", "SlicingOpLambda"))
# Layers that bring pixels to the numbers that a network was trained on, before any that learns.
_SCALING: Final = frozenset(("Rescaling", "Normalization", "BatchNormalization"))
_BEFORE: Final = frozenset(("InputLayer", "Reshape", "Resizing", "ZeroPadding2D"))
_ELSEWHERE: Final = "Export it to ONNX from the program that made it: model.export(…)."


def convert(path: Path, *, side: int | None = None, output: str | None = None) -> Converted:
    """Read a network that Keras saved, in a ``.keras``, ``.h5`` or ``.hdf5`` file."""
    with open_keras(path) as file:
        return _Conversion(file).result(side, output)


class _Conversion:
    def __init__(self, file: KerasFile) -> None:
        self._file = file
        self._network = read_network(file.name, file.config)
        self._to = KerasGraph(file=file.name)
        self._rows: list[Layer] = []

    def result(self, side: int | None, output: str | None) -> Converted:
        network, to = self._network, self._to
        if len(network.inputs) != 1:
            raise to.refuse(f"it has {len(network.inputs)} inputs")
        pixels, shape = to.fresh("pixels"), self._input_shape(side)
        known = {network.inputs[0]: to.of_plain(shape, pixels)}
        self._walk(network, known, ())
        answer = known[self._chosen(output)]
        outputs, kind = (to.plain(answer), TensorProto.FLOAT, answer.shape), TensorProto.FLOAT
        model = model_of(to, "keras", (pixels, kind, shape), outputs)
        maker, rows = f"Keras {'.'.join(map(str, self._file.version))}", tuple(self._rows)
        return Converted(model, maker, network.name, rows, scales=_scaling(network))

    def _chosen(self, output: str | None) -> Reference:
        outputs = self._network.outputs
        names = printable(", ".join(reference.layer for reference in outputs))
        if output is None and len(outputs) != 1:
            advice = f"Say which one answers: --output with one of {names}."
            raise self._to.refuse(f"it has {len(outputs)} outputs", advice)
        matches = [reference for reference in outputs if output in (None, reference.layer)]
        if not matches:
            raise self._to.refuse(f"it has no output {printable(output)}", f"Choose among {names}.")
        return matches[0]

    def _input_shape(self, side: int | None) -> tuple[int, ...]:
        shape = _stated_shape(self._network, self._file.config)
        if shape is None:
            raise self._to.refuse(
                "it does not say which images it takes",
                "Begin it with keras.Input((height, width, channels)), and save it again.",
            )
        if len(shape) == 3 and None in shape:
            if side is None:
                advice = "Say the size that it is for: --size 224."
                raise self._to.refuse("it takes images of any size", advice)
            shape = [side if size is None else size for size in shape]
        whole = all(isinstance(size, int) and 0 < size <= 1 << 24 for size in shape)
        if not shape or len(shape) > 3 or not whole:
            raise self._to.refuse(f"its input {printable(shape)} is no image")
        return tuple(shape)

    def _walk(
        self,
        network: NetworkConfig,
        known: dict[Reference, KerasTensor],
        trail: tuple[LayerConfig, ...],
    ) -> None:
        """Write the calls of a network; their outputs are added to ``known``."""
        for call in network.calls:
            inputs = _replaced(call.given, known)
            if call.layer.inner is None:
                named = _replaced(dict(call.named), known)
                made = self._layer(call, inputs, named, trail)
                known[Reference(call.layer.name, call.number, 0)] = made
                continue
            inner, values = call.layer.inner, tensors_in(inputs)
            if len(values) != len(inner.inputs):
                raise self._to.refuse(f"{printable(inner.name)} is given {len(values)} values")
            inner_known = dict(zip(inner.inputs, values, strict=True))
            self._walk(inner, inner_known, (*trail, call.layer))
            for index, output in enumerate(inner.outputs):
                known[Reference(call.layer.name, call.number, index)] = inner_known[output]

    def _layer(
        self, call: Call, inputs: Any, named: Any, trail: tuple[LayerConfig, ...]
    ) -> KerasTensor:
        layer, to = call.layer, self._to
        write = _LAYERS.get(layer.kind)
        if layer.kind in _CODE:
            what = f"({layer.kind}) is a program inside the file, which is never run"
            raise to.refuse(f"layer {printable(layer.name)} {what}", _ELSEWHERE)
        if write is None:
            what = f"is of the kind {printable(layer.kind)}, which is not known here"
            raise to.refuse(f"layer {printable(layer.name)} {what}", _ELSEWHERE)
        if layer.config.get("data_format") == "channels_first":
            what = "has its channels first, which is not known here"
            raise to.refuse(f"layer {printable(layer.name)} ({layer.kind}) {what}", _ELSEWHERE)
        name, since = layer.name, len(to.nodes)
        if trail and name in {outer.name for outer in self._network.layers}:
            name = "/".join((*(outer.name for outer in trail), name))
        stored = self._file.weights.of((*trail, layer))
        written = LayerCall(
            to, layer.kind, name, layer.config, stored, self._file.version, inputs, named
        )
        try:
            made = write(written)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise written.refuse("has options that are none of Keras'") from error
        shown = to.show(made, name, since)
        *sides, channels = shown.shape
        shape = (channels, *sides) if len(sides) == 2 else shown.shape
        held = written.parameters if call.number == 0 else 0
        self._rows.append(
            Layer(
                name=shown.name,
                kind=str(written.words or layer.kind),
                shape=shape,
                parameters=held,
                trainable=held and held - written.fixed,
                multiply_adds=written.multiply_adds,
            )
        )
        return shown


def _scaling(network: NetworkConfig) -> str | None:
    """Return the layer that scales the pixels before any other computes, if any."""
    for call in network.calls:
        layer = call.layer
        if layer.kind in _SCALING:
            return layer.name
        if layer.inner is not None:
            return _scaling(layer.inner)
        if layer.kind not in _BEFORE and _LAYERS.get(layer.kind) is not _LAYERS["Dropout"]:
            return None
    return None


def _stated_shape(network: NetworkConfig, config: Mapping[str, Any]) -> list[Any] | None:
    """Return the shape of an image from wherever the file states it."""
    start = network.inputs[0].layer
    first = next((layer for layer in network.layers if layer.name == start), network.layers[0])
    if first.inner is not None:
        return _stated_shape(first.inner, {})
    stated = first.config.get("batch_shape") or first.config.get("batch_input_shape")
    if stated is None:
        options, built = config.get("config"), config.get("build_config")
        stated = options.get("build_input_shape") if isinstance(options, dict) else None
        if not stated and isinstance(built, dict):
            stated = built.get("input_shape")
    return list(stated[1:]) if isinstance(stated, list) and len(stated) > 1 else None


def _replaced(value: Any, known: Mapping[Reference, KerasTensor]) -> Any:
    if isinstance(value, Reference):
        return known[value]
    if isinstance(value, tuple):
        return tuple(_replaced(item, known) for item in value)
    if isinstance(value, dict):
        return {key: _replaced(item, known) for key, item in value.items()}
    return value
