"""What the programs that made a network noted in its file, which is not needed to run it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx


def without_notes(content: bytes) -> bytes:
    """Return a classifier.onnx without notes of other programs: they often hold paths and code."""
    model = onnx.load_model_from_string(content)
    model.ClearField("doc_string")
    for part in _parts(model.graph):
        for noted in ("doc_string", "metadata_props"):
            if noted in part.DESCRIPTOR.fields_by_name:
                part.ClearField(noted)
    changed: bytes = model.SerializeToString()
    return changed


def _parts(graph: onnx.GraphProto) -> Iterator[Any]:
    """Yield a graph and all that is in it, graphs inside operators left out: there are none."""
    yield graph
    for parts in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        for part in parts:
            yield part
            yield from getattr(part, "attribute", ())
