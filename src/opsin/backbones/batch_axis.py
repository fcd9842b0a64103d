"""Along which axis of each value the images lie, in a network that was made for one of them.

A shape cannot tell: of one image that axis has size 1, or has merged with another. So it is
followed from the input on, operator by operator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import onnx

from opsin.onnx_files.onnx_graph import attribute

_REDUCTIONS: Final = frozenset((
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ArgMax", "ArgMin",
))  # fmt: skip

Shape = Sequence[int]


def batch_axes(
    nodes: Iterable[onnx.NodeProto],
    given: str,
    shapes: Mapping[str, Shape],
    constants: Mapping[str, Sequence[int]],
) -> dict[str, int]:
    """Return the axis of each value that depends on the images, as far as it can be followed."""
    found = {given: 0}
    for node in nodes:
        source = next((name for name in node.input if name in found), None)
        if source is None or source not in shapes:
            continue
        for output in node.output:
            if output in shapes:
                axis = _axis_after(node, found[source], shapes[source], shapes[output], constants)
                if axis is not None:
                    found[output] = axis
    return found


def _axis_after(
    node: onnx.NodeProto,
    axis: int,
    before: Shape,
    after: Shape,
    constants: Mapping[str, Sequence[int]],
) -> int | None:
    """Return where an operator leaves the images; ``None`` where that cannot be told."""
    match node.op_type:
        case "Reshape":
            return _reshaped_axis(axis, before, after)
        case "Transpose":
            turned = attribute(node, "perm", None) or range(len(before))[::-1]
            return list(turned).index(axis)
        case "Flatten":
            return 0 if axis < (attribute(node, "axis", 1) % (len(before) + 1)) else 1
        case "Gather":
            along = attribute(node, "axis", 0) % len(before)
            if along == axis:
                return None
            return axis + (len(after) - len(before) if along < axis else 0)
        case "Unsqueeze" if (axes := _axes_of(node, constants)) is not None:
            added = {each % len(after) for each in axes}
            return [at for at in range(len(after)) if at not in added][axis]
        case "Squeeze" if (axes := _axes_of(node, constants)) is not None:
            return _axis_without(axis, axes, before)
        case "Squeeze" | "Unsqueeze":
            return None
        case op if op in _REDUCTIONS and len(after) < len(before):
            axes = _axes_of(node, constants) or [attribute(node, "axis", 0)]
            return _axis_without(axis, axes, before)
    # Others keep their axes, or align shapes at their ends.
    moved = axis + len(after) - len(before)
    return moved if 0 <= moved < len(after) else None


def _axes_of(node: onnx.NodeProto, constants: Mapping[str, Sequence[int]]) -> Sequence[int] | None:
    """Return the axes that an operator is given, by attribute or as its second input."""
    given = constants.get(node.input[1]) if len(node.input) > 1 else None
    return attribute(node, "axes", None) or given


def _axis_without(axis: int, axes: Sequence[int], before: Shape) -> int | None:
    """Return where the images are once some axes are gone."""
    gone = {each % len(before) for each in axes}
    return None if axis in gone else axis - sum(each < axis for each in gone)


def _reshaped_axis(axis: int, before: Shape, after: Shape) -> int | None:
    """Return the axis that holds the images after a reshape, alone or merged with later ones."""
    ahead = math.prod(before[:axis])
    return next((at for at in range(len(after)) if math.prod(after[:at]) == ahead), None)
