"""Half the space, the same layers, and answers that differ by rounding alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.quantize.fp16 import to_fp16
from tests.onnx_files.quantize.made_files import images, made, opened

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_every_layer_is_there_and_nearly_the_same(name: str, tmp_path: Path) -> None:
    content = made(name)
    smaller = to_fp16(content)
    assert len(smaller) < 0.6 * len(content)
    before, after = opened(content, tmp_path), opened(smaller, tmp_path, "fp16.onnx")
    assert after.metadata == before.metadata.model_copy(update={"precision": "float16"})
    names = [layer.name for layer in before.metadata.layers] + ["probabilities", "ood_score"]
    old, new = before.layers(images(), names), after.layers(images(), names)
    for layer in names:
        assert new[layer].dtype == np.float32
        scale = float(np.abs(old[layer]).max()) or 1.0
        assert np.abs(new[layer] - old[layer]).max() < 5e-3 * scale, layer


def test_weights_too_large_for_float16_stay_as_they_are(tmp_path: Path) -> None:
    graph = OnnxGraph(made("mlp"))
    graph.weights["dense1.weight"] = graph.weights["dense1.weight"] * np.float32(1e8)
    large = graph.content(graph.metadata)
    smaller = to_fp16(large)
    kept = {weight.name: numpy_helper.to_array(weight).dtype
            for weight in OnnxGraph(smaller).model.graph.initializer}  # fmt: skip
    assert kept["dense1.weight"] == np.float32
    assert kept["head.weight.float16"] == np.float16
    assert np.isfinite(opened(smaller, tmp_path).probabilities(images())).all()
