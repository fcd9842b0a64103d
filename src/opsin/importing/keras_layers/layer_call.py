"""One layer in one of its calls: its options, its weights, and the graph it is written into."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.importing.keras_file import WeightList
from opsin.importing.keras_graph import KerasGraph, KerasTensor
from opsin.onnx_files.refusal import quoted


@dataclass
class LayerCall:
    """A layer in one of its calls."""

    to: KerasGraph
    kind: str
    name: str
    options: Mapping[str, Any]
    stored: WeightList
    version: tuple[int, ...]  # of the Keras that saved it
    given: tuple[Any, ...]  # values, and constants among them
    named: Mapping[str, Any]
    words: str = ""  # its kind in the summary table; its class where a layer says nothing
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
        return self.to.constant(f"{self.name}.{part}", value, dtype)

    def weight(self, part: str, value: NDArray[np.float32]) -> str:
        """Store a weight as the graph has it."""
        return self.to.held(f"{self.name}.{part}", value)

    def plainly(self, shape: Sequence[int], name: str) -> KerasTensor:
        """Return a value that is in the graph in the shape that Keras has it in."""
        return self.to.tensor(shape, plain=name)

    def affine(self, value: str, factor: str | None, offset: str | None, part: str) -> str:
        """Write a product and a sum."""
        for kind, by in (("Mul", factor), ("Add", offset)):
            if by is not None:
                value = self.apply(kind, [value, by], part)
        return value

    def take(self, *shapes: tuple[int, ...] | None) -> list[NDArray[np.float32]]:
        """Read the layer's weights; ``None`` stands for one that the options leave out."""
        wanted = [shape for shape in shapes if shape is not None]
        if len(self.stored) < len(wanted):
            raise self.refuse(f"has {len(self.stored)} weights, and needs {len(wanted)}")
        for place, shape in enumerate(wanted):
            if self.stored.shape(place) != shape:
                has, needs = ("×".join(map(str, each)) or "one number"
                              for each in (self.stored.shape(place), shape))  # fmt: skip
                raise self.refuse(f"has a weight of {has} where {needs} is needed")
        self.parameters += sum(math.prod(shape) for shape in wanted)
        return [self.stored.read(place, self.name) for place in range(len(wanted))]

    def flag(self, name: str, default: bool) -> bool:
        """Return an option that is yes or no."""
        found = self.options.get(name, default)
        if not isinstance(found, bool):
            raise self.refuse(f"has no usable {name}")
        return found

    def number(self, name: str, default: float | None = None) -> float:
        """Return an option that is a number."""
        found = self.options.get(name, default)
        if isinstance(found, dict):  # as NumPy's numbers are written
            found = found.get("config", {}).get("value")
        usable = isinstance(found, int | float) and not isinstance(found, bool)
        if not usable or not math.isfinite(found):
            raise self.refuse(f"has no usable {name}")
        return float(found)

    def count(self, name: str, default: int | None = None) -> int:
        """Return an option that is a whole number from 1 on."""
        found = self.options.get(name, default)
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found < 1 << 24:
            raise self.refuse(f"has no usable {name}")
        return found

    def sizes(self, name: str, default: int | Sequence[int], axes: int = 2) -> tuple[int, ...]:
        """Return an option that is a number from 1 on for each axis, or one for all."""
        found = self.options.get(name, default)
        found = default if found is None else found
        parts = [found] * axes if isinstance(found, int) else list(found)
        whole = all(isinstance(each, int) and 1 <= each < 1 << 20 for each in parts)
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

    def check_order(self) -> None:
        """See that the layer has its channels where the whole network has them."""
        order = "channels_first" if self.to.channels_first else "channels_last"
        if self.options.get("data_format", order) not in (order, None):
            raise self.refuse("has its channels elsewhere than others do")


#: Writes a layer and returns what it puts out.
Writer = Callable[[LayerCall], KerasTensor]


def tensors_in(given: Any) -> list[KerasTensor]:
    """Return the values among what a layer is given, in their order."""
    if isinstance(given, KerasTensor):
        return [given]
    if isinstance(given, tuple):
        return [each for part in given for each in tensors_in(part)]
    return []
