"""Features of images from a pretrained network, as the file will compute them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from onnxruntime import InferenceSession

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import FeatureGraph, View, layer_table
from opsin.core.arrays import Floats, Pixels
from opsin.core.metadata import BackboneFacts, Layer
from opsin.onnx_files.postprocessing import IMAGES
from opsin.runtime.providers import cpu_session

# Images computed at once.
_BATCH: Final = 8


@dataclass(frozen=True)
class BackboneFeatures:
    """The mean over views of a pretrained network's features."""

    backbone: Backbone = field(repr=False)
    shape: tuple[int, int, int]  # height, width and channels of the prepared images
    at: tuple[str, ...]  # the values of it that are taken
    views: tuple[View, ...]  # how an image is looked at

    @property
    def facts(self) -> BackboneFacts:
        """The file's description of the network inside it."""
        return self.backbone.facts(self.at)

    @cached_property
    def graph(self) -> FeatureGraph:
        """The operators that compute the features."""
        return FeatureGraph(self.backbone, self.shape, self.views, self.at)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Features at each depth."""
        return self.backbone.units[: len(self.at)]

    @property
    def features(self) -> int:
        """Numbers of an image."""
        return self.graph.units

    @cached_property
    def _session(self) -> InferenceSession:
        return cpu_session(self.graph.content())

    def rows_of(self, images: Pixels) -> Floats:
        """The numbers of some images, ``float32[N, features]``."""
        parts = [np.zeros((0, self.features), np.float32)]
        for start in range(0, len(images), _BATCH):
            values = self._session.run(self.graph.outputs, {IMAGES: images[start : start + _BATCH]})
            parts.append(np.mean(values, axis=0, dtype=np.float32))
        return np.concatenate(parts)

    def layers(self) -> list[Layer]:
        """The network's layers by their names in its file."""
        shapes = {value.name: value.shape for value in self.backbone.probed.values}
        nodes, weights = self.graph.nodes, self.backbone.graph.weights
        return layer_table(nodes, weights, shapes, times=len(self.views))
