"""Images become the features of a pretrained network, as the file will compute them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import FeatureGraph, View
from opsin.backbones.features import session_of
from opsin.core.metadata import BackboneFacts, Layer, LayerOp
from opsin.onnx_files.onnx_graph import attribute
from opsin.onnx_files.postprocessing import IMAGES

# Images computed at once.
_BATCH: Final = 8


@dataclass(frozen=True)
class BackboneFeatures:
    """The mean over views of what a pretrained network says of an image.

    Args:
        backbone: The network.
        shape: Height, width and channels of the prepared images.
        at: The values of it that are taken.
        views: How an image is looked at.
    """

    backbone: Backbone = field(repr=False)
    shape: tuple[int, int, int]
    at: tuple[str, ...]
    views: tuple[View, ...]

    @property
    def facts(self) -> BackboneFacts:
        """What the file says of the network inside it."""
        return self.backbone.facts(self.at)

    @cached_property
    def graph(self) -> FeatureGraph:
        """The operators that compute it."""
        return FeatureGraph(self.backbone, self.shape, self.views, self.at)

    @property
    def features(self) -> int:
        """Numbers of an image."""
        return self.graph.units

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return session_of(self.graph.content())

    def rows_of(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the numbers of some images, ``float32[N, features]``.

        Args:
            images: Prepared images, ``uint8[N, H, W, C]``.
        """
        parts = [np.zeros((0, self.features), np.float32)]
        for start in range(0, len(images), _BATCH):
            values = self._session.run(self.graph.outputs, {IMAGES: images[start : start + _BATCH]})
            parts.append(np.mean(values, axis=0, dtype=np.float32))
        return np.concatenate(parts)

    def layers(self) -> list[Layer]:
        """Return the network's layers, by their names in its file, with what each costs."""
        weights = self.backbone.graph.weights
        shapes = {value.name: value.shape for value in self.backbone.probed.values}
        rows = []
        for node in self.graph.nodes:
            name = node.output[0]
            if name not in shapes:
                continue
            held = [weights[each] for each in node.input if each in weights]
            rows.append(
                Layer(
                    name=name,
                    kind=_kind(node, held, shapes.get(node.input[0])),
                    shape=shapes[name],
                    parameters=sum(each.size for each in held if each.dtype.kind == "f"),
                    trainable=0,
                    multiply_adds=len(self.views) * _work(node, held, shapes[name]),
                )
            )
        return rows


def _kind(node: Any, held: list[NDArray[Any]], before: tuple[int, ...] | None) -> str:
    """Return what a layer is, in the words of the summary table."""
    match node.op_type:
        case "Conv":
            sides = "×".join(map(str, attribute(node, "kernel_shape", held[0].shape[2:])))
            groups = attribute(node, "group", 1)
            each = " depthwise" if groups > 1 and before and groups == before[0] else ""
            return f"{LayerOp.CONV} {sides}{each}"
        case "Gemm" | "MatMul" if held:
            return LayerOp.DENSE
        case "Clip":
            return f"{LayerOp.RELU} up to 6" if len(held) == 2 and held[1] == 6 else "Clip"
        case "GlobalAveragePool" | "ReduceMean" | "AveragePool":
            return f"{LayerOp.MEAN} over places"
        case "BatchNormalization":
            return LayerOp.BATCH_NORM
    named = {"Relu": LayerOp.RELU, "Add": LayerOp.ADD, "Flatten": LayerOp.FLATTEN}
    return str(named.get(node.op_type, node.op_type))


def _work(node: Any, held: list[NDArray[Any]], shape: tuple[int, ...]) -> int:
    """Return how many multiplications with an addition a layer takes."""
    if node.op_type == "Conv" and held:
        return math.prod(shape) * math.prod(held[0].shape[1:])
    if node.op_type in ("Gemm", "MatMul") and held:
        tokens = math.prod(shape[:-1])
        return tokens * int(held[0].size)
    return 0
