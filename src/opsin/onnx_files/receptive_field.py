"""The part of the image that one place of a layer depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper

from opsin.onnx_files.operators import OPERATORS
from opsin.onnx_files.postprocessing import IMAGES


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the image that one place of a map can see."""

    height: int
    width: int
    step: tuple[int, int]
    start: tuple[int, int]

    def box(self, y: int, x: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return what place (y, x) of the map sees: top, left, bottom, right, the ends left out."""
        top, left = self.start[0] + y * self.step[0], self.start[1] + x * self.step[1]
        return (
            min(max(top, 0), size[0] - 1),
            min(max(left, 0), size[1] - 1),
            max(min(top + self.height, size[0]), 1),
            max(min(left + self.width, size[1]), 1),
        )

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """Return the smallest field that covers both, which have one step."""
        top = min(self.start[0], other.start[0])
        left = min(self.start[1], other.start[1])
        bottom = max(self.start[0] + self.height, other.start[0] + other.height)
        right = max(self.start[1] + self.width, other.start[1] + other.width)
        return ReceptiveField(bottom - top, right - left, self.step, (top, left))


def receptive_fields(
    nodes: Sequence[onnx.NodeProto], weights: Mapping[str, NDArray[Any]]
) -> dict[str, ReceptiveField | None]:
    """Return what a place of each value sees."""
    fields: dict[str, ReceptiveField | None] = {IMAGES: ReceptiveField(1, 1, (1, 1), (0, 0))}
    for node in nodes:
        before = [fields[value] for value in node.input if value in fields]
        if not before:
            continue
        field = before[0]
        for other in before[1:]:
            field = None if field is None or other is None else field.joined(other)
        operator = OPERATORS.get(node.op_type)
        sees = "all" if operator is None else operator.sees
        if field is not None and sees == "window":
            field = _through_window(field, node, weights)
        elif field is not None and node.op_type == "Pad":
            field = _padded(field, weights.get(node.input[1]), len(node.input))
        elif field is not None and node.op_type == "Reshape":
            field = _squares(weights[node.input[1]].tolist())
        elif sees != "place":
            field = None
        fields.update(dict.fromkeys(node.output, field))
    return fields


def _squares(shape: Sequence[int]) -> ReceptiveField | None:
    """Return the squares of pixels whose mean a model without layers begins with."""
    if len(shape) != 6:
        return None
    return ReceptiveField(shape[2], shape[4], (shape[2], shape[4]), (0, 0))


def _padded(field: ReceptiveField, pads: NDArray[Any] | None, inputs: int) -> ReceptiveField | None:
    """Return what a place sees behind rows and columns that are added to maps."""
    if pads is None or len(pads) != 8 or inputs > 3:
        return None
    (top, left), (down, across) = field.start, field.step
    return replace(field, start=(top - int(pads[2]) * down, left - int(pads[3]) * across))


def _through_window(
    field: ReceptiveField, node: onnx.NodeProto, weights: Mapping[str, NDArray[Any]]
) -> ReceptiveField | None:
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    weight = weights.get(node.input[1]) if len(node.input) > 1 else None
    kernel = list(given.get("kernel_shape", () if weight is None else weight.shape[2:]))
    if len(kernel) != 2:
        return None
    stride = list(given.get("strides", (1, 1)))
    dilation = list(given.get("dilations", (1, 1)))
    pads = list(given.get("pads", (0, 0, 0, 0)))
    if (automatic := given.get("auto_pad", b"")).startswith(b"SAME"):
        # As many as there are where the maps' sides are multiples of the stride, as is usual.
        total = [max(0, (side - 1) * apart + 1 - step)
                 for side, apart, step in zip(kernel, dilation, stride, strict=True)]  # fmt: skip
        pads = [(each + (automatic == b"SAME_LOWER")) // 2 for each in total]
    reach = [(kernel[side] - 1) * dilation[side] * field.step[side] for side in (0, 1)]
    return ReceptiveField(
        field.height + reach[0],
        field.width + reach[1],
        (field.step[0] * stride[0], field.step[1] * stride[1]),
        (field.start[0] - pads[0] * field.step[0], field.start[1] - pads[1] * field.step[1]),
    )
