"""A network that Keras saved becomes a graph of standard operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from onnx import ModelProto

from opsin.importing.keras_config import (
    Call,
    LayerConfig,
    NetworkConfig,
    Reference,
    read_network,
)
from opsin.importing.keras_file import KerasFile, open_keras
from opsin.importing.keras_graph import KerasGraph, KerasTensor
from opsin.importing.keras_layers import (
    activations,
    attention,
    dense_and_convolution,
    normalisation,
    shapes,
)
from opsin.importing.keras_layers.layer_call import LayerCall, Writer, tensors_in
from opsin.onnx_files.refusal import quoted, refused

_LAYERS: Final[dict[str, Writer]] = {
    **activations.LAYERS,
    **dense_and_convolution.LAYERS,
    **normalisation.LAYERS,
    **shapes.LAYERS,
    **attention.LAYERS,
}
# Layers that run code which the file holds.
_CODE: Final = frozenset(("Lambda", "TFOpLambda", "TensorFlowOpLayer", "SlicingOpLambda"))
# Layers that bring pixels to the numbers that a network was trained on, before any that learns.
_SCALING: Final = frozenset(("Rescaling", "Normalization", "BatchNormalization"))
_BEFORE: Final = frozenset(("InputLayer", "Reshape", "Resizing", "CenterCrop", "ZeroPadding2D"))


@dataclass(frozen=True)
class ConvertedLayer:
    """A layer of the network, as the summary table shows it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int


@dataclass(frozen=True)
class Converted:
    """A network of standard operators."""

    model: ModelProto
    layers: tuple[ConvertedLayer, ...]
    maker: str
    network: str
    scales: str | None


def convert(path: Path, *, side: int | None = None, output: str | None = None) -> Converted:
    """Read a network that Keras saved."""
    with open_keras(path) as file:
        return _Conversion(file, side, output).result()


class _Conversion:
    def __init__(self, file: KerasFile, side: int | None, output: str | None) -> None:
        self._file, self._side, self._output = file, side, output
        self._network = read_network(file.name, file.config)
        first = any(
            layer.config.get("data_format") == "channels_first"
            for layer in _all_layers(self._network)
        )
        self._to = KerasGraph(file=file.name, channels_first=first)
        self._rows: list[ConvertedLayer] = []
        self._names: set[str] = set()

    def result(self) -> Converted:
        network = self._network
        if len(network.inputs) != 1:
            raise refused(self._file.name, f"it has {len(network.inputs)} inputs")
        image = self._to.tensor(self._input_shape(network), plain=self._to.fresh("pixels"))
        known = {network.inputs[0]: image}
        self._walk(network, known, ())
        answer = known[self._chosen(network)]
        version = ".".join(map(str, self._file.version))
        return Converted(
            self._to.model(image, answer),
            tuple(self._rows),
            f"Keras {version}",
            network.name,
            self._scaling(network),
        )

    def _chosen(self, network: NetworkConfig) -> Reference:
        """Return the output that answers."""
        names = [each.layer for each in network.outputs]
        if self._output is not None:
            found = [each for each in network.outputs if each.layer == self._output]
            if not found:
                raise refused(
                    self._file.name,
                    f"it has no output {quoted(self._output)}",
                    f"Choose among {quoted(', '.join(names))}.",
                )
            return found[0]
        if len(names) != 1:
            raise refused(
                self._file.name,
                f"it has {len(names)} outputs",
                f"Say which one answers: --output with one of {quoted(', '.join(names))}.",
            )
        return network.outputs[0]

    def _input_shape(self, network: NetworkConfig) -> tuple[int, ...]:
        """Return the shape of an image, open sides filled in."""
        given = _stated_shape(network, self._file.config)
        if given is None:
            raise refused(
                self._file.name,
                "it does not say which images it takes",
                "Begin it with keras.Input((height, width, channels)), and save it again.",
            )
        if len(given) == 3 and None in given:
            if self._side is None:
                raise refused(
                    self._file.name,
                    "it takes images of any size",
                    "Say the size that it is for: --size 224.",
                )
            given = [self._side if each is None else each for each in given]
        whole = all(isinstance(each, int) and 0 < each <= 1 << 24 for each in given)
        if not given or len(given) > 3 or not whole:
            raise refused(self._file.name, f"its input {quoted(given)} is no image")
        return tuple(given)

    def _scaling(self, network: NetworkConfig) -> str | None:
        """Return the layer that scales the pixels, if one does before any other that computes."""
        for call in network.calls:
            layer = call.layer
            if layer.kind in _SCALING:
                return layer.name
            if layer.inner is not None:
                return self._scaling(layer.inner)
            if layer.kind not in _BEFORE and _LAYERS.get(layer.kind) is not _LAYERS["Dropout"]:
                return None
        return None

    def _walk(
        self,
        network: NetworkConfig,
        known: dict[Reference, KerasTensor],
        trail: tuple[LayerConfig, ...],
    ) -> None:
        """Write the calls of a network; ``known`` is filled with what they put out."""
        for call in network.calls:
            given = _replaced(call.given, known)
            named = _replaced(dict(call.named), known)
            if call.layer.inner is None:
                known[Reference(call.layer.name, call.number, 0)] = self._layer(
                    call, given, named, trail
                )
            else:
                self._inner(call, call.layer.inner, given, known, trail)

    def _inner(
        self,
        call: Call,
        network: NetworkConfig,
        given: Any,
        known: dict[Reference, KerasTensor],
        trail: tuple[LayerConfig, ...],
    ) -> None:
        """Write a network in the place of a layer."""
        values = tensors_in(given)
        if len(values) != len(network.inputs):
            raise refused(self._file.name, f"{quoted(network.name)} is given {len(values)} values")
        own = dict(zip(network.inputs, values, strict=True))
        self._walk(network, own, (*trail, call.layer))
        for place, output in enumerate(network.outputs):
            known[Reference(call.layer.name, call.number, place)] = own[output]

    def _layer(
        self, call: Call, given: Any, named: Any, trail: tuple[LayerConfig, ...]
    ) -> KerasTensor:
        layer = call.layer
        write = _LAYERS.get(layer.kind)
        if layer.kind in _CODE:
            raise refused(
                self._file.name,
                f"layer {quoted(layer.name)} ({layer.kind}) is a program inside the file, which is "
                "never run",
                "Export it to ONNX from the program that made it: model.export(…).",
            )
        if write is None:
            raise refused(
                self._file.name,
                f"layer {quoted(layer.name)} is of the kind {quoted(layer.kind)}, which is not "
                "known here",
                "Export it to ONNX from the program that made it: model.export(…).",
            )
        name = self._own_name(layer, trail)
        since = len(self._to.nodes)
        stored = self._file.weights.of((*trail, layer))
        written = LayerCall(
            self._to, layer.kind, name, layer.config, stored, self._file.version, given, named
        )
        try:
            made = write(written)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise written.refuse("has options that are none of Keras'") from error
        shown = self._to.show(made, name, since)
        shape = self._to.sizes(shown) if shown.maps is not None else shown.shape
        self._rows.append(
            ConvertedLayer(
                self._to.native(shown),
                str(written.words or layer.kind),
                (shape[2], *shape[:2]) if shown.maps is not None else shape,
                written.parameters if call.number == 0 else 0,
                written.parameters - written.fixed if call.number == 0 else 0,
                written.multiply_adds,
            )
        )
        return shown

    def _own_name(self, layer: LayerConfig, trail: tuple[LayerConfig, ...]) -> str:
        """Return what a layer is called: by the network within the network where names meet."""
        taken = {each.name for each in self._network.layers}
        if not trail or layer.name not in taken:
            return layer.name
        return "/".join((*(each.name for each in trail), layer.name))


def _all_layers(network: NetworkConfig) -> Iterator[LayerConfig]:
    for layer in network.layers:
        yield layer
        if layer.inner is not None:
            yield from _all_layers(layer.inner)


def _stated_shape(network: NetworkConfig, config: Mapping[str, Any]) -> list[Any] | None:
    """Return the shape of an image as one of several places states it."""
    first = next((each for each in network.layers if each.name == network.inputs[0].layer), None)
    if first is None and network.layers:
        first = network.layers[0]
    if first is not None and first.inner is not None:
        return _stated_shape(first.inner, {})
    stated = None
    if first is not None:
        stated = first.config.get("batch_shape") or first.config.get("batch_input_shape")
    if stated is None:
        options = config.get("config")
        inner = options.get("build_input_shape") if isinstance(options, dict) else None
        built = config.get("build_config")
        stated = inner or (built.get("input_shape") if isinstance(built, dict) else None)
    return list(stated[1:]) if isinstance(stated, list) and len(stated) > 1 else None


def _replaced(given: Any, known: Mapping[Reference, KerasTensor]) -> Any:
    if isinstance(given, Reference):
        return known[given]
    if isinstance(given, tuple):
        return tuple(_replaced(each, known) for each in given)
    if isinstance(given, dict):
        return {key: _replaced(each, known) for key, each in given.items()}
    return given
