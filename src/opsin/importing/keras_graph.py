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
from opsin.onnx_files.refusal import quoted, refused

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
        """Return the error of something that the file asks for and the graph cannot do."""
        return refused(self.file, reason, advice)

    def fresh(self, name: str) -> str:
        """Return a name that no value has yet, which begins with this one."""
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}@{number}"
        self._names.add(found)
        return found

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
            raise self.refuse(f"one of its layers puts out {quoted(shown)} numbers")
        return KerasTensor(sizes, name)

    def of_plain(self, shape: Sequence[int], plain: str) -> KerasTensor:
        """The value that the graph has, so far, in Keras' order."""
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
        """Let the value of a layer, whose operators began at `since`, bear the layer's name."""
        own, named = self.nodes[since:], self.fresh(name)
        if any(value.name in node.output for node in own):
            rename_values(own, {value.name: named})
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
    words: str = ""  # its kind in the summary table; its class where a layer sets none
    parameters: int = field(default=0, init=False)
    fixed: int = field(default=0, init=False)  # parameters that training does not change
    multiply_adds: int = field(default=0, init=False)

    def refuse(self, reason: str) -> Exception:
        """Return the error of something that the layer asks for and is not possible here."""
        return self.to.refuse(f"layer {quoted(self.name)} ({self.kind}) {reason}")

    @property
    def values(self) -> list[KerasTensor]:
        """The values that it is given."""
        return tensors_in(self.given)

    @property
    def value(self) -> KerasTensor:
        """The one value that it is given."""
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
        """A value of the shape of the one that it is given."""
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
                has, needs = ("×".join(map(str, each)) or "one number" for each in pair)
                raise self.refuse(f"has a weight of {has} where {needs} is needed")
        self.parameters += sum(math.prod(shape) for shape in wanted)
        return [self.stored.read(number, self.name) for number in range(len(wanted))]

    def flag(self, name: str, default: bool) -> bool:
        """Return an option that is yes or no."""
        found = self.options.get(name, default)
        if not isinstance(found, bool):
            raise self.refuse(f"has no usable {name}")
        return found

    def number(self, name: str, default: float | None = None) -> float:
        """Return an option that is a finite number."""
        found = self.options.get(name, default)
        if isinstance(found, dict):  # as NumPy's numbers are written
            found = found.get("config", {}).get("value")
        if type(found) not in (int, float) or not math.isfinite(found):
            raise self.refuse(f"has no usable {name}")
        return float(found)

    def count(self, name: str, default: int | None = None) -> int:
        """Return an option that is a whole number from 1 on."""
        found = self.options.get(name, default)
        if type(found) is not int or not 1 <= found < 1 << 24:
            raise self.refuse(f"has no usable {name}")
        return found

    def sizes(self, name: str, default: int | Sequence[int], axes: int = 2) -> tuple[int, ...]:
        """Return an option that is a number from 1 on for each axis, or one for all."""
        found = self.options.get(name, default)
        found = default if found is None else found
        parts = [found] * axes if isinstance(found, int) else list(found)
        whole = all(isinstance(size, int) and 1 <= size < 1 << 20 for size in parts)
        if len(parts) != axes or not whole:
            raise self.refuse(f"has no usable {name}")
        return tuple(parts)

    def text(self, name: str, default: str, choices: Sequence[str]) -> str:
        """Return an option that is one of a few words."""
        found = self.options.get(name)
        found = default if found is None else found
        if found not in choices:
            raise self.refuse(f"has {name}={quoted(found)}, which is not known here")
        return str(found)


#: Writes a layer and returns what it puts out.
Writer = Callable[[LayerCall], KerasTensor]


def tensors_in(values: Any) -> list[KerasTensor]:
    """Return the values among what a layer is given, in their order."""
    if isinstance(values, KerasTensor):
        return [values]
    if isinstance(values, tuple):
        return [each for part in values for each in tensors_in(part)]
    return []
