"""A graph of ONNX operators as a PyTorch module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from opsin.core.arrays import Floats
from opsin.core.errors import MissingExtraError, ModelFileError

try:
    import onnx
    import torch
    from torch import Tensor, nn

    from opsin.models.torch_operators import COMPUTED, VALUES, held
    from opsin.onnx_files.onnx_graph import OnnxGraph, attributes
    from opsin.onnx_files.operators import OPERATORS
    from opsin.onnx_files.postprocessing import IMAGES, LOGITS
except ImportError as error:
    raise MissingExtraError("gradients of a classifier", "train") from error

# A bias is learnt in multiples of this share of its size.
_BIAS: Final = 0.15


class TorchNetwork(nn.Module):
    """The operators of a file, from a value to another, with its own weights, which may learn."""

    def __init__(
        self, content: bytes, *, source: str = IMAGES, target: str = LOGITS, learns: bool = False
    ) -> None:
        super().__init__()
        graph = OnnxGraph(content)
        nodes = graph.leading_to([target])
        check_gradients(nodes)
        self._source, self._target = source, target
        self._steps = nn.ModuleList(_Step(node) for node in nodes)
        self._wiring = [(list(node.input), list(node.output)) for node in nodes]
        self._last = {name: at for at, (names, _) in enumerate(self._wiring) for name in names}
        # Weights by number: names in files need not be names of attributes.
        self._places: dict[str, str] = {}
        self._scales: dict[str, str] = {}
        self._constants: dict[str, Tensor] = {}
        learnt = _learnt(nodes, graph.weights) if learns else set()
        for name in dict.fromkeys(name for names, _ in self._wiring for name in names):
            if name in graph.weights:
                self._hold(name, held(graph.weights[name]), learnt=name in learnt)
        self.eval()

    def _hold(self, name: str, value: Tensor, *, learnt: bool) -> None:
        if not value.is_floating_point() or not value.ndim:  # sizes, axes, bounds
            self._constants[name] = value
            return
        number = len(self._places)
        self._places[name] = f"weight{number}"
        if learnt:
            scale = _size_of(value)
            self._scales[name] = f"scale{number}"
            self.register_buffer(self._scales[name], scale, persistent=False)
            value = value / scale
        self.register_parameter(self._places[name], nn.Parameter(value, requires_grad=learnt))

    def _weight(self, name: str) -> Tensor:
        value = self.get_parameter(self._places[name])
        scale = self._scales.get(name)
        return value if scale is None else value * self.get_buffer(scale)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return its target: of a classifier.onnx the uncalibrated logits, ``float32[N, K]``."""
        tensors: dict[str, Any] = {"": None, self._source: pixels, **self._constants}
        tensors |= {name: self._weight(name) for name in self._places}
        for at, (step, (inputs, outputs)) in enumerate(zip(self._steps, self._wiring, strict=True)):
            made = step(*(tensors[name] for name in inputs))
            tensors.update(zip(outputs, made if isinstance(made, tuple) else (made,), strict=False))
            for name in inputs:  # so that no more is held than is needed
                if self._last[name] == at and name and name != self._target:
                    tensors.pop(name, None)
        target: Tensor = tensors[self._target]
        return target

    def layer(self, name: str) -> nn.Module:
        """The module whose output is the layer's; ``KeyError`` if there is none."""
        steps = zip(self._steps, self._wiring, strict=True)
        return {output: step for step, (_, outputs) in steps for output in outputs}[name]

    def learnt(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by their names in the file, in the order of the work."""
        weights = {name: self.get_parameter(key) for name, key in self._places.items()}
        return {name: value for name, value in weights.items() if value.requires_grad}

    def weights(self) -> dict[str, Floats]:
        """Return the trained weights as they are now, by their names in the file."""
        return {name: self._weight(name).detach().cpu().numpy() for name in self.learnt()}

    def take(self, weights: Mapping[str, Floats]) -> None:
        """Take over weights as `weights` returns them."""
        with torch.no_grad():
            for name, value in weights.items():
                held = self.get_parameter(self._places[name])
                scale = self.get_buffer(self._scales[name])
                held.copy_(torch.from_numpy(value).to(held.device) / scale)


def check_gradients(nodes: Sequence[onnx.NodeProto]) -> None:
    """Refuse operators that have no counterpart in PyTorch here."""
    steps = [
        node.op_type
        for node in nodes
        if node.op_type not in COMPUTED
        or any(
            node.op_type == op
            and attributes(node).get(name, values[0]) not in values
            and mode in ("", attributes(node).get("mode", "nearest"))
            for op, name, values, mode in VALUES
        )
    ]
    if steps or not nodes:
        reason = f"its operator {steps[0]} has none" if steps else "it has no logits"
        advice = "Look at its occlusion map, which needs none."
        raise ModelFileError(f"The model's answers have no gradients: {reason}", advice)


def _size_of(value: Tensor) -> Tensor:
    axes = tuple(range(1, value.ndim)) if value.ndim > 2 else tuple(range(value.ndim))
    sizes = value.square().mean(dim=axes, keepdim=True).sqrt()
    if value.ndim == 1:
        sizes = _BIAS * sizes
    whole = sizes.mean().item() or 1.0
    return sizes.clamp(min=0.01 * whole)  # so that zeros can become something


def _learnt(nodes: Sequence[onnx.NodeProto], weights: dict[str, NDArray[Any]]) -> set[str]:
    """Return the names of weights that training may change, by their inputs' positions."""
    learnt: set[str] = set()
    fixed: set[str] = set()
    for node in nodes:
        places = OPERATORS[node.op_type].learnt if node.op_type in OPERATORS else ()
        for index, name in enumerate(node.input):
            if name in weights and weights[name].dtype.kind == "f" and weights[name].size > 1:
                (learnt if index in places else fixed).add(name)
    return learnt - fixed


class _Step(nn.Module):
    def __init__(self, node: onnx.NodeProto) -> None:
        super().__init__()
        self._run = COMPUTED[node.op_type]
        self._attributes = attributes(node)

    def forward(self, *inputs: Tensor | None) -> Any:
        return self._run(*inputs, **self._attributes)
