"""The graph that a Keras network becomes, its images kept channels first wherever that is free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.refusal import quoted, refused

# Numbers of one value for one image; a shape may be a bomb.
_LARGEST: Final = 1 << 28


@dataclass
class KerasTensor:
    """A value for one image, as Keras knows it, and what it is called in the graph."""

    shape: tuple[int, ...]  # as Keras has it, without the axis of images
    plain: str | None = None  # the value in that shape
    maps: str | None = None  # the same as [C, H, W], for shapes of three axes


@dataclass
class KerasGraph(GraphWriter):
    """Collects operators; values that are images are turned only where an operator asks for it."""

    file: str = ""
    channels_first: bool = False
    _held: set[str] = field(default_factory=set)
    _made: set[str] = field(default_factory=set)

    def refuse(self, reason: str, advice: str = "") -> Exception:
        """Return the error of something that the file asks for and the graph cannot do."""
        return refused(self.file, reason, advice)

    def fresh(self, name: str) -> str:
        """Return a name that no value has yet, which begins as given."""
        found, number = name, 1
        while found in self._made:
            number += 1
            found = f"{name}@{number}"
        self._made.add(found)
        return found

    def held(self, name: str, value: Any, dtype: type[np.generic] = np.float32) -> str:
        """Store a weight once, however often its layer is used, and return its name."""
        if name not in self._held:
            self._held.add(name)
            self.weight(name, value, dtype)
        return name

    def constant(self, name: str, value: Any, dtype: type[np.generic] = np.float32) -> str:
        """Store a constant of an operator under a name of its own."""
        return self.weight(self.fresh(name), value, dtype)

    def apply(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add an operator whose output gets a name of its own, which begins as given."""
        return self.node(kind, inputs, self.fresh(name), **attributes)

    def tensor(
        self, shape: Sequence[int], *, plain: str | None = None, maps: str | None = None
    ) -> KerasTensor:
        """Return a value of the graph; larger ones than any network's are refused."""
        sizes = tuple(int(size) for size in shape)
        if any(size < 1 for size in sizes) or math.prod(sizes) > _LARGEST:
            shown = "×".join(map(str, sizes))
            raise self.refuse(f"one of its layers puts out {quoted(shown)} numbers")
        return KerasTensor(sizes, plain, maps)

    def of_maps(self, sizes: tuple[int, int, int], maps: str) -> KerasTensor:
        """Return a value ``[N, C, H, W]`` of the graph, of this height, width and channels."""
        height, width, channels = sizes
        if self.channels_first:
            return self.tensor((channels, height, width), plain=maps, maps=maps)
        return self.tensor(sizes, maps=maps)

    def sizes(self, value: KerasTensor) -> tuple[int, int, int]:
        """Return height, width and channels of an image or of maps."""
        if len(value.shape) != 3:
            raise self.refuse(f"a layer for images is given a value of {len(value.shape)} axes")
        first, second, third = value.shape
        return (second, third, first) if self.channels_first else (first, second, third)

    def maps(self, value: KerasTensor) -> str:
        """Return the name of an image or of maps as ``[N, C, H, W]``."""
        self.sizes(value)
        if value.maps is None:
            value.maps = plain = str(value.plain)
            if not self.channels_first:
                value.maps = self.apply("Transpose", [plain], f"{plain}.maps", perm=[0, 3, 1, 2])
        return value.maps

    def plain(self, value: KerasTensor) -> str:
        """Return the name of a value in the shape that Keras has it in."""
        if value.plain is None:
            maps = str(value.maps)
            value.plain = self.apply("Transpose", [maps], f"{maps}.last", perm=[0, 2, 3, 1])
        return value.plain

    def native(self, value: KerasTensor) -> str:
        """Return the name of a value in whichever order it is in already."""
        return value.maps if value.maps is not None else str(value.plain)

    def like(self, value: KerasTensor, name: str) -> KerasTensor:
        """Return a value of the same shape in the same order, which `native` was made into."""
        if value.maps is None:
            return KerasTensor(value.shape, name)
        return KerasTensor(value.shape, name if self.channels_first else None, name)

    def show(self, value: KerasTensor, name: str, since: int) -> KerasTensor:
        """Let the value of a layer, whose operators began at `since`, bear the layer's name."""
        if len(value.shape) == 3 and value.maps is None and not self.channels_first:
            self.maps(value)
        shown = self.native(value)
        if not any(shown in node.output for node in self.nodes[since:]):
            named = self.apply("Identity", [shown], name)
        else:
            named = self.fresh(name)
            for node in self.nodes[since:]:
                for part in (node.input, node.output):
                    part[:] = [named if each == shown else each for each in part]
        if value.maps is None:
            return KerasTensor(value.shape, named)
        return KerasTensor(value.shape, named if value.plain == shown else value.plain, named)
