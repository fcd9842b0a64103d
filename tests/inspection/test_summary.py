"""The summary tells of each layer what the file holds."""

from __future__ import annotations

import json
from pathlib import Path

from opsin.core.stored_json import plain_data
from opsin.inspection.summary import summarise
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier


def test_a_file_without_pytorch_is_summarised(nearest_mean: Path) -> None:
    classifier = Classifier(nearest_mean)
    layers = classifier.metadata.layers
    summary = summarise(classifier, OnnxGraph(nearest_mean.read_bytes(), layers))
    assert [row.name for row in summary.rows] == [layer.name for layer in layers]
    assert summary.parameters == sum(layer.parameters for layer in layers)
    assert summary.trainable == sum(layer.trainable for layer in layers)
    assert summary.multiply_adds == sum(layer.multiply_adds for layer in layers)
    assert summary.file_bytes == nearest_mean.stat().st_size
    assert [row.parents for row in summary.rows] == [("images",), ("input",), ("flatten",)]
    said = json.loads(json.dumps(plain_data(summary)))
    assert said["layers"][2] == {
        "name": "head", "kind": "head", "shape": [10], "parents": ["flatten"], "parameters": 0,
        "trainable": 0, "multiply_adds": 0, "receptive_field": None,
    }  # fmt: skip
