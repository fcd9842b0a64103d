"""The summary tells of each layer what the file holds and what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opsin.inspection.summary import NetworkSummary, summarise
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier


def summary_of(path: Path, *, timed: bool = True) -> NetworkSummary:
    classifier = Classifier(path)
    network = OnnxGraph(path.read_bytes(), classifier.metadata.layers)
    return summarise(classifier, network, timed=timed)


def check_sums(summary: NetworkSummary, path: Path) -> None:
    layers = Classifier(path).metadata.layers
    assert [row.name for row in summary.rows] == [layer.name for layer in layers]
    assert summary.parameters == sum(layer.parameters for layer in layers)
    assert summary.trainable == sum(layer.trainable for layer in layers)
    assert summary.multiply_adds == sum(layer.multiply_adds for layer in layers)
    assert summary.file_bytes == path.stat().st_size
    shares = [row.share for row in summary.rows if row.share is not None]
    assert len(shares) == len(layers)
    assert sum(shares) == pytest.approx(1)
    assert summary.seconds == pytest.approx(sum(row.seconds or 0 for row in summary.rows))
    assert json.loads(json.dumps(summary.to_json())) == summary.to_json()


def test_a_file_without_pytorch_is_summarised(nearest_mean: Path) -> None:
    summary = summary_of(nearest_mean)
    check_sums(summary, nearest_mean)
    assert [row.parents for row in summary.rows] == [("images",), ("input",), ("flatten",)]
    said = json.loads(json.dumps(summary.to_json()))
    assert said["layers"][2] | {"seconds": 0, "share": 0} == {
        "name": "head", "kind": "head", "shape": [10], "parents": ["flatten"], "parameters": 0,
        "trainable": 0, "multiply_adds": 0, "seconds": 0, "share": 0, "receptive_field": None,
    }  # fmt: skip
