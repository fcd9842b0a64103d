"""The network in a classifier.onnx, layer by layer, with the time that each layer takes."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import onnxruntime

from opsin.core.arrays import Pixels
from opsin.core.metadata import Layer, LayerOp
from opsin.core.stored_json import JsonObject
from opsin.inspection.plain_data import PlainData
from opsin.onnx_files.onnx_graph import OnnxGraph, ReceptiveField
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import cpu_session, session_options

# Pixels and images of the batch that is timed: enough to measure, few enough for a fraction of
# a second.
_PIXELS, _IMAGES = 12_000, 16
# The first runs ask the system for memory; then runs are counted until they are enough or slow.
_WARM: Final = 2
_RUNS, _LEAST = 15, 3
_SECONDS: Final = 0.3
_KERNEL: Final = "_kernel_time"


class LayerRow(Layer):
    """One layer; time is of one image, and ``None`` if it was not measured."""

    parents: tuple[str, ...]  # the layers that it takes the output of, or ``images``
    seconds: float | None
    share: float | None  # of the time of all layers
    receptive_field: ReceptiveField | None  # the pixels that one place depends on; None: all

    def to_json(self) -> JsonObject:
        """Plain data; the receptive field as height and width, in pixels."""
        field = self.receptive_field
        seen = None if field is None else [field.height, field.width]
        return self.model_dump(mode="json") | {"receptive_field": seen}


@dataclass(frozen=True)
class NetworkSummary(PlainData):
    """All layers of a network in the order of their work, and their sums."""

    JSON: ClassVar = "layers=rows parameters trainable multiply_adds seconds bytes=file_bytes"
    rows: tuple[LayerRow, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    seconds: float | None
    file_bytes: int
    size: tuple[int, int]  # height and width of an image, in pixels


def summarise(classifier: Classifier, network: OnnxGraph, *, timed: bool = True) -> NetworkSummary:
    """Describe each layer of a classifier; time is measured on noise of the images' size."""
    preparation, content = classifier.metadata.preparation, classifier.content
    seconds: dict[str, float] = {}
    if timed:
        count = min(_IMAGES, max(1, _PIXELS // (preparation.height * preparation.width)))
        shape = (count, preparation.height, preparation.width, preparation.channels)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        seconds = layer_seconds(content, network.layers, noise)
    whole = sum(seconds.values())
    rows = tuple(
        LayerRow(
            **dict(layer),
            parents=(parents := network.parents(layer.name)),
            seconds=seconds.get(layer.name),
            share=seconds[layer.name] / whole if whole else None,
            # Flattening only lays the places of maps in a row.
            receptive_field=network.receptive_field(
                parents[0] if layer.op is LayerOp.FLATTEN else layer.name
            ),
        )
        for layer in network.layers
    )
    return NetworkSummary(
        rows, sum(row.parameters for row in rows), sum(row.trainable for row in rows),
        sum(row.multiply_adds for row in rows), whole if timed else None, len(content),
        (preparation.height, preparation.width),
    )  # fmt: skip


def layer_seconds(content: bytes, layers: Sequence[Layer], images: Pixels) -> dict[str, float]:
    """Seconds an image of each layer of a classifier.onnx, for images run as one batch."""
    graph = OnnxGraph(content, layers)
    nodes = graph.model.graph.node
    # The layer that each value leads to: operators are in the order of the work, so from the end
    # each use of a value comes first.
    leads_to: dict[str, str | None] = {layer.name: layer.name for layer in layers}
    owners: dict[str, str] = {}
    for number, node in reversed(list(enumerate(nodes))):
        node.name = f"n{number}"  # its name in the profile
        owner = next((leads_to[value] for value in node.output if leads_to.get(value)), None)
        if owner is not None:
            owners[node.name] = owner
        for value in node.input:
            leads_to[value] = leads_to.get(value) or owner
    durations = _durations(graph.model.SerializeToString(), images)
    seconds = dict.fromkeys((layer.name for layer in layers), 0.0)
    for operator, owner in owners.items():
        if durations.get(operator):
            # The quickest run: whatever else the machine does can only add to it.
            seconds[owner] += min(durations[operator]) * 1e-6 / len(images)
    return seconds


def _durations(content: bytes, images: Pixels) -> dict[str, list[int]]:
    """The microseconds of each operator, run by run, the first runs left out."""
    options = session_options(threads=1)  # so that the figures do not depend on what else runs
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    batch = np.ascontiguousarray(images)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = cpu_session(content, options)
        name = session.get_inputs()[0].name
        for _ in range(_WARM):
            session.run(None, {name: batch})
        began = time.perf_counter()
        for run in range(1, _RUNS + 1):
            session.run(None, {name: batch})
            if run >= _LEAST and time.perf_counter() - began > _SECONDS:
                break
        events = json.loads(Path(session.end_profiling()).read_bytes())
    durations: dict[str, list[int]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            operator = event["name"].removesuffix(_KERNEL)
            durations.setdefault(operator, []).append(event["dur"])
    return {operator: microseconds[_WARM:] for operator, microseconds in durations.items()}
