"""A network as a column of blocks, which unfold to their layers."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nicegui.element import Element

from opsin.core.format import count, counted
from opsin.core.metadata import Layer, LayerOp
from opsin.studio.words import safe

# Most convolutions that are blocks of their own; deeper networks are shown in stages.
_MOST: Final = 12
_WEIGHTS: Final = (LayerOp.CONV, LayerOp.DENSE, LayerOp.PCA)
# Layers that only pass on what a block has computed.
_PASS_ON: Final = (LayerOp.DROPOUT, LayerOp.FLATTEN, LayerOp.IDENTITY)
_READABLE: Final = (
    LayerOp.RELU, LayerOp.GELU, LayerOp.SILU, LayerOp.SIGMOID, LayerOp.TANH, LayerOp.MAX_POOL,
)  # fmt: skip
_WORDS: Final = {
    LayerOp.ADD: "Sum", LayerOp.BATCH_NORM: "Batch norm", LayerOp.CONV: "Convolution",
    LayerOp.MAX_POOL: "Max pooling", LayerOp.NORMALISE: "Prepare pixels",
    LayerOp.SCALE: "Prepare pixels",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Layers that work together, under a name that people read."""

    title: str
    layers: Sequence[Layer]

    @property
    def result(self) -> Layer:
        """The layer that shows what the block has computed."""
        kept = [layer for layer in self.layers if layer.op not in _PASS_ON] or self.layers
        if _side(kept[-1]) > 1:  # what is never below 0 is easier to read
            kept = [layer for layer in kept if layer.op in _READABLE] or kept
        return kept[-1]


class NetworkGraph(Element, component="graph.js"):
    """The blocks of a network; arrow keys move, Enter shows a layer, whose name is handed on."""

    def __init__(
        self, blocks: Sequence[Block], chosen: str, on_choose: Callable[[str], Awaitable[object]]
    ) -> None:
        super().__init__()
        largest = max(_side(block.result) for block in blocks)
        self.props["blocks"] = [
            {
                "title": safe(block.title, 40),
                "note": shape_in_words(block.result),
                "id": block.result.name,
                "side": round(6 + 22 * (_side(block.result) / largest) ** 0.5),
                "layers": [
                    {"id": layer.name, "title": title_of(layer), "note": safe(layer.name, 40)}
                    for layer in block.layers
                ],
            }
            for block in blocks
        ]
        self.choose(chosen)
        names = {layer.name for block in blocks for layer in block.layers}
        self.on("choose", lambda event: on_choose(event.args) if event.args in names else None)

    def choose(self, name: str) -> None:
        """Mark another layer as the one that is shown."""
        self.props["chosen"] = name


def blocks_of(layers: Sequence[Layer]) -> list[Block]:
    """Put layers together to blocks: one for each convolution, or stages of a deep network."""
    if _convolutions(layers) > _MOST:
        return _stages(layers)
    parts: list[list[Layer]] = []
    for layer in layers:
        if not parts or layer.op in _WEIGHTS or (layer.op is LayerOp.OTHER and layer.parameters):
            parts.append([])
        parts[-1].append(layer)
    words, numbers = {LayerOp.CONV: "Conv", LayerOp.DENSE: "Dense"}, Counter[str]()
    blocks: list[Block] = []
    for part in parts:
        first, others = part[0], len(parts) > 1
        word = words.get(first.op, "")
        numbers[word] += 1
        title = f"{word} {numbers[word]}" if word else first.kind or first.name
        if others and part is parts[-1] and first.op is LayerOp.DENSE:
            title = "Head"
        elif others and not blocks and not word:
            title = "Input"
        blocks.append(Block(title, part))
    return blocks


def _stages(layers: Sequence[Layer]) -> list[Block]:
    """Stages of a deep network: what gives maps of one size belongs together."""

    def part_of(layer: Layer) -> str:  # the start of its name, as of what works beside it: block3
        match = re.match(r".*?\d+(?=[._/]|$)", layer.name)
        return match[0] if match else layer.name.partition(".")[0]

    def merged(key: Callable[[Layer], object]) -> list[list[Layer]]:
        alike = itertools.groupby(maps, lambda part: key(part[-1]))
        return [list(itertools.chain(*parts)) for _, parts in alike]

    maps: list[list[Layer]] = []
    head: list[Layer] = []  # what comes after the last maps
    for _, part in itertools.groupby(layers, part_of):
        head += part
        if _side(head[-1]) > 1:
            maps.append(head)
            head = []
    groups = merged(lambda layer: layer.shape)
    if len(groups) > _MOST:
        groups = merged(lambda layer: layer.shape[1:])
    size = max(1, -(-len(groups) // _MOST))
    groups = [list(itertools.chain(*groups[at : at + size])) for at in range(0, len(groups), size)]
    if len(groups) > 1 and _convolutions(groups[-1]) == 1:
        head = groups.pop() + head
    titles = [f"Block {number}" for number in range(1, len(groups) + 1)]
    if groups and _convolutions(groups[0]) <= 1:
        titles = ["Stem", *titles[:-1]]
    return [*map(Block, titles, groups), *([Block("Head", head)] if head else [])]


def _convolutions(layers: Sequence[Layer]) -> int:
    return sum(layer.op is LayerOp.CONV for layer in layers)


def _side(layer: Layer) -> int:
    return layer.shape[1] if len(layer.shape) == 3 else 1


def title_of(layer: Layer) -> str:
    """A layer's kind in words: ``Convolution 3×3 same``."""
    word, _, rest = layer.kind.partition(" ")
    return safe(f"{_WORDS.get(layer.op, word)} {rest}".strip() or layer.name, 60)


def shape_in_words(layer: Layer) -> str:
    """A layer's output: ``64 maps, 27×27``, or ``10 numbers``."""
    if len(layer.shape) == 3:
        return f"{counted(layer.shape[0], 'map')}, {layer.shape[2]}×{layer.shape[1]}"
    return f"{'×'.join(map(count, layer.shape))} numbers"
