"""How long each layer takes, measured."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError
from opsin.core.metadata import Layer
from opsin.runtime.providers import cpu_session, session_options

try:
    import onnx

    from opsin.onnx_files.onnx_graph import OnnxGraph
except ImportError as error:
    raise MissingExtraError("looking inside a network", "evaluate") from error

# The first runs ask the system for memory; then runs are counted until they are enough or slow.
_WARM: Final = 2
_RUNS, _LEAST = 15, 3
_SECONDS: Final = 0.3
_KERNEL: Final = "_kernel_time"


def layer_seconds(
    content: bytes, layers: Sequence[Layer], images: NDArray[np.uint8]
) -> dict[str, float]:
    """Measure how long each layer of a classifier.onnx takes for one image.

    The time of each operator is what ONNX Runtime's profile says, the quickest of several runs on
    one thread. An operator counts for the layer whose output it leads to; what lies behind the
    last layer (softmax, OOD score) counts for none.

    For this every operator runs by itself. When a classifier answers, ONNX Runtime folds
    BatchNorm and activations into the convolutions before them, and convolutions use a faster
    order of the numbers in memory; all is then quicker, and cheap layers next to free. So compare
    layers by these seconds, and do not add them up to the time of an answer.

    Args:
        content: The bytes of the file.
        layers: Its layers, as its metadata has them.
        images: At least one prepared image, ``uint8[N, H, W, C]``, run as one batch.

    Returns:
        Seconds an image by the layer's name.

    Example:
        >>> model = onnx.parser.parse_model('''
        ...     <ir_version: 9, opset_import: ["" : 20]>
        ...     network (uint8[n, 4] images) => (float[n, 4] head) {
        ...         input = Cast <to = 1> (images)
        ...         head = Tanh (input)
        ...     }''')
        >>> kinds = {"input": "Cast", "head": "Tanh"}
        >>> layers = [Layer(name=name, kind=kind, shape=(4,), parameters=0, trainable=0,
        ...                 multiply_adds=0) for name, kind in kinds.items()]
        >>> seconds = layer_seconds(model.SerializeToString(), layers, np.ones((9, 4), np.uint8))
        >>> list(seconds), max(seconds.values()) < 0.01
        (['input', 'head'], True)
    """
    model = OnnxGraph(content, layers).model
    owners = _owners(model.graph, {layer.name for layer in layers})
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"  # by which the profile calls it
    durations = _durations(model.SerializeToString(), images)
    seconds = dict.fromkeys((layer.name for layer in layers), 0.0)
    for number, owner in enumerate(owners):
        measured = durations.get(f"n{number}")
        if owner is not None and measured:
            # The quickest run: whatever else the machine does can only add to it.
            seconds[owner] += min(measured) * 1e-6 / len(images)
    return seconds


def _owners(graph: onnx.GraphProto, names: set[str]) -> list[str | None]:
    """Return for each operator the layer that it is a part of."""
    leads_to: dict[str, str | None] = {name: name for name in names}
    owners: list[str | None] = []
    # Operators are in the order of the work, so from the end each use of a value comes first.
    for node in reversed(graph.node):
        owner = next((leads_to[value] for value in node.output if leads_to.get(value)), None)
        owners.append(owner)
        for value in node.input:
            leads_to[value] = leads_to.get(value) or owner
    return owners[::-1]


def _durations(content: bytes, images: NDArray[np.uint8]) -> dict[str, list[int]]:
    """Return the microseconds of each operator, run by run, the first runs left out."""
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
    return {operator: each[_WARM:] for operator, each in durations.items()}
