"""A network's layers as a graph to click."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from nicegui.element import Element

from opsin.core.format import count, counted
from opsin.core.metadata import Layer, LayerOp
from opsin.studio.words import safe

CSS: Final = """
.op-graph { display: block; margin-bottom: .6rem; max-width: 100%;
  font: 12px system-ui, sans-serif; }
.op-graph-line { fill: none; stroke: var(--bar); stroke-width: 1.5; }
.op-graph-head { fill: var(--bar); }
.op-graph rect { fill: var(--paper); stroke: var(--bar); stroke-width: 1.2; }
.op-graph text { fill: var(--ink); font-weight: 600; }
.op-graph .op-graph-kind { fill: var(--muted); font-weight: 400; font-size: 11px; }
.op-graph .op-graph-weights rect { fill: var(--right-soft); stroke: var(--right); }
.op-graph a { cursor: pointer; outline: none; }
.op-graph a:hover rect, .op-graph a:focus-visible rect { stroke: var(--accent); stroke-width: 3; }
.op-graph a[aria-current] rect { fill: var(--accent); stroke: var(--accent); }
.op-graph a[aria-current] text { fill: var(--on-accent); }
"""

# Layers without a block that stand below each other.
_STACK: Final = 4


class NetworkGraph(Element, component="graph_old.js"):
    """Layers in the order of their work, blocks as columns, ways past a block drawn; each a link.

    Tab and the arrow keys go from layer to layer, Enter opens one.

    Args:
        layers: Those of a run's report.
        address: Returns where a layer, by its name, leads to; an address of ours.
        chosen: Name of the layer that is shown.
        label: What the graph is of, for those who cannot see it.

    Example:
        ``NetworkGraph(report.layers, lambda name: f"?layer={quote(name)}", chosen="head")``
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        address: Callable[[str], str],
        *,
        chosen: str | None = None,
        label: str = "The network, layer by layer",
    ) -> None:
        super().__init__()
        self._props["columns"] = [
            [_box(layer, address, skip=_joins(layer)) for layer in column]
            for column in columns_of(layers)
        ]
        self._props["chosen"] = chosen or ""
        self._props["label"] = safe(label)


def columns_of(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Return layers in columns: a block (``stage1.conv``, ``stage1.norm`` …) each, others by four.

    Example:
        >>> def layer(name):
        ...     return Layer(
        ...         name=name, kind="", shape=(), parameters=0, trainable=0, multiply_adds=0
        ...     )
        >>> names = ["input", "stage1.conv", "stage1.norm", "head"]
        >>> [len(column) for column in columns_of([layer(name) for name in names])]
        [1, 2, 1]
    """
    columns: list[list[Layer]] = []
    before: str | None = None
    for layer in layers:
        block = _block(layer)
        full = bool(columns) and not block and len(columns[-1]) >= _STACK
        if not columns or block != before or full:
            columns.append([])
        columns[-1].append(layer)
        before = block
    return columns


def _block(layer: Layer) -> str:
    block, dot, _ = layer.name.rpartition(".")
    return block if dot else ""


def _joins(layer: Layer) -> bool:
    """Tell whether what came into a block goes past its layers to this one."""
    return layer.op is LayerOp.ADD and bool(_block(layer))


def _box(layer: Layer, address: Callable[[str], str], *, skip: bool) -> dict[str, str | bool]:
    return {
        "id": layer.name,
        "name": safe(layer.name, 60),
        "kind": safe(layer.kind, 60),
        "title": in_words(layer),
        "href": address(layer.name),
        "weights": bool(layer.parameters),
        "skip": skip,
    }


def in_words(layer: Layer) -> str:
    """Say what a layer is.

    Example:
        >>> in_words(Layer(name="conv1", kind="Conv 3×3", shape=(64, 27, 27), parameters=4608,
        ...                trainable=4608, multiply_adds=0))
        'conv1: Conv 3×3, 64 maps of 27×27, 4,608 parameters'
    """
    shape = layer.shape
    if len(shape) == 3:
        size = f"{counted(shape[0], 'map')} of {shape[1]}×{shape[2]}"
    else:
        size = f"{'×'.join(map(str, shape))} numbers"
    weights = f", {count(layer.parameters)} parameters" if layer.parameters else ""
    return safe(f"{layer.name}: {layer.kind}, {size}{weights}")
