"""The graph that a Keras network becomes, and one layer of it in one of its calls.

Values of three axes are images or maps: the graph has them channels first, as operators take them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.importing.keras_file import WeightList
from opsin.onnx_files.onnx_graph import rename_values
from opsin.onnx_files.postprocessing import GraphWriter
from opsin.runtime.onnx_scan import printable, refused

# Numbers of one value for one image; a shape may be a bomb.
_LARGEST: Final = 1 << 28


@dataclass(frozen=True)
class KerasTensor:
    """A value for one image: its shape as Keras knows it, and its name in the graph."""

    shape: tuple[int, ...]
    name: str


@dataclass
class KerasGraph(GraphWriter):
    """Collects the operators that layers become."""

    file: str = ""
    _stored: set[str] = field(default_factory=set)
    _names: set[str] = field(default_factory=set)

    def refuse(self, reason: str, advice: str = "") -> Exception:
        """Return the error for something that the graph cannot express."""
        return refused(self.file, reason, advice)

    def fresh(self, name: str) -> str:
        """Return an unused name that begins with this one."""
        candidate, number = name, 1
        while candidate in self._names:
            number += 1
            candidate = f"{name}@{number}"
        self._names.add(candidate)
        return candidate

    def stored(self, name: str, value: Any) -> str:
        """Store a weight once, however often its layer is used, and return its name."""
        if name not in self._stored:
            self._stored.add(name)
            self.weight(name, value, np.float32)
        return name

    def apply(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add an operator whose output gets a fresh name."""
        return self.node(kind, inputs, self.fresh(name), **attributes)

    def tensor(self, shape: Sequence[int], name: str) -> KerasTensor:
        """A value of the graph; larger ones than any network's are refused."""
        sizes = tuple(int(size) for size in shape)
        if any(size < 1 for size in sizes) or math.prod(sizes) > _LARGEST:
            shown = "×".join(map(str, sizes))
            raise self.refuse(f"one of its layers puts out {printable(shown)} numbers")
        return KerasTensor(sizes, name)

    def of_plain(self, shape: Sequence[int], plain: str) -> KerasTensor:
        """Turn a value in Keras' order into one in the graph's."""
        self.tensor(shape, plain)
        if len(shape) == 3:
            plain = self.apply("Transpose", [plain], f"{plain}.maps", perm=[0, 3, 1, 2])
        return self.tensor(shape, plain)

    def plain(self, value: KerasTensor) -> str:
        """The name of a value in Keras' order."""
        if len(value.shape) != 3:
            return value.name
        return self.apply("Transpose", [value.name], f"{value.name}.last", perm=[0, 2, 3, 1])

    def sizes(self, value: KerasTensor) -> tuple[int, int, int]:
        """Height, width and channels of an image or of maps."""
        if len(value.shape) != 3:
            raise self.refuse(f"a layer for images is given a value of {len(value.shape)} axes")
        height, width, channels = value.shape
        return height, width, channels

    def show(self, value: KerasTensor, name: str, since: int) -> KerasTensor:
        """Name the value of a layer, whose operators began at `since`, after the layer."""
        nodes, named = self.nodes[since:], self.fresh(name)
        if any(value.name in node.output for node in nodes):
            rename_values(nodes, {value.name: named})
        else:
            self.node("Identity", [value.name], named)
        return KerasTensor(value.shape, named)


@dataclass
class LayerCall:
    """A layer in one of its calls: its options, its weights, and the graph it is written into."""

    to: KerasGraph
    kind: str
    name: str
    options: Mapping[str, Any]
    stored: WeightList
    version: tuple[int, ...]  # of the Keras that saved it
    given: tuple[Any, ...]  # values, and constants among them
    named: Mapping[str, Any]
    words: str = ""  # its kind in the summary table; its class by default
    parameters: int = field(default=0, init=False)
    fixed: int = field(default=0, init=False)  # parameters that training does not change
    multiply_adds: int = field(default=0, init=False)

    def refuse(self, reason: str) -> Exception:
        """Return the error for something the layer needs that is not supported."""
        return self.to.refuse(f"layer {printable(self.name)} ({self.kind}) {reason}")

    @property
    def values(self) -> list[KerasTensor]:
        """The input tensors."""
        return tensors_in(self.given)

    @property
    def value(self) -> KerasTensor:
        """The only input tensor."""
        values = self.values
        if len(values) != 1:
            raise self.refuse(f"is given {len(values)} values")
        return values[0]

    def apply(self, kind: str, inputs: Sequence[str], part: str = "value", **further: Any) -> str:
        """Add an operator and return the name of its output."""
        return self.to.apply(kind, inputs, f"{self.name}.{part}", **further)

    def constant(self, part: str, value: Any, dtype: type[np.generic] = np.float32) -> str:
        """Store numbers that are no weights."""
        return self.to.weight(self.to.fresh(f"{self.name}.{part}"), value, dtype)

    def weight(self, part: str, value: NDArray[np.float32]) -> str:
        """Store a weight as the graph has it."""
        return self.to.stored(f"{self.name}.{part}", value)

    def same(self, name: str) -> KerasTensor:
        """A value of the input's shape."""
        return KerasTensor(self.value.shape, name)

    def affine(self, value: str, factor: str | None, offset: str | None, part: str) -> str:
        """Write a product and a sum."""
        for kind, by in (("Mul", factor), ("Add", offset)):
            if by is not None:
                value = self.apply(kind, [value, by], part)
        return value

    def take(self, *shapes: tuple[int, ...] | None) -> list[NDArray[np.float32]]:
        """Read the layer's weights; ``None`` stands for one that the options leave out."""
        wanted = [shape for shape in shapes if shape is not None]
        stored = self.stored.shapes
        if len(stored) < len(wanted):
            raise self.refuse(f"has {len(stored)} weights, and needs {len(wanted)}")
        for pair in zip(stored, wanted, strict=False):
            if pair[0] != pair[1]:
                has, needs = ("×".join(map(str, shape)) or "one number" for shape in pair)
                raise self.refuse(f"has a weight of {has} where {needs} is needed")
        self.parameters += sum(math.prod(shape) for shape in wanted)
        return [self.stored.read(number, self.name) for number in range(len(wanted))]

    def flag(self, name: str, default: bool) -> bool:
        """Return an option that is yes or no."""
        value = self.options.get(name, default)
        if not isinstance(value, bool):
            raise self.refuse(f"has no usable {name}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return an option that is a finite number."""
        value = self.options.get(name, default)
        if isinstance(value, dict):  # as NumPy's numbers are written
            value = value.get("config", {}).get("value")
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.refuse(f"has no usable {name}")
        return float(value)

    def count(self, name: str, default: int | None = None) -> int:
        """Return an option that is a whole number from 1 on."""
        value = self.options.get(name, default)
        if type(value) is not int or not 1 <= value < 1 << 24:
            raise self.refuse(f"has no usable {name}")
        return value

    def sizes(self, name: str, default: int | Sequence[int]) -> tuple[int, ...]:
        """Return an option that is a number from 1 on for each axis, or one for all."""
        value = self.options.get(name, default)
        value = default if value is None else value
        parts = [value, value] if isinstance(value, int) else list(value)
        whole = all(isinstance(size, int) and 1 <= size < 1 << 20 for size in parts)
        if len(parts) != 2 or not whole:
            raise self.refuse(f"has no usable {name}")
        return tuple(parts)

    def text(self, name: str, default: str, choices: Sequence[str]) -> str:
        """Return an option that is one of a few words."""
        value = self.options.get(name)
        value = default if value is None else value
        if value not in choices:
            raise self.refuse(f"has {name}={printable(value)}, which is not known here")
        return str(value)


#: Writes a layer and returns what it puts out.
Writer = Callable[[LayerCall], KerasTensor]


def tensors_in(values: Any) -> list[KerasTensor]:
    """Return the tensors among a layer's inputs, in order."""
    if isinstance(values, KerasTensor):
        return [values]
    if isinstance(values, tuple):
        return [tensor for part in values for tensor in tensors_in(part)]
    return []
