"""Packed weights become numbers of 32 bits under the same names."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from opsin.backbones.backbone import Backbone, open_backbone, trainable
from opsin.core.errors import RecipeError
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.backbones.small_networks import SIDE, network


def opened(content: bytes, folder: Path) -> Backbone:
    file = folder / "network.onnx"
    file.write_bytes(content)
    return open_backbone(file, prepare="-1..1")


def features(content: bytes) -> np.ndarray:
    pixels = np.random.default_rng(0).random((2, 3, SIDE, SIDE), np.float32)
    session = onnxruntime.InferenceSession(
        OnnxGraph(content, layers=()).up_to(["flat"]), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(["flat"], {"pixels": pixels})[0]
    return found


def test_halves_are_not_trained(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"16 bits.*in 32 bits"):
        trainable(opened(network(half=True), tmp_path))


def test_bytes_are_unpacked_and_layers_keep_their_names(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(network())
    graph = model.graph
    place = next(at for at, weight in enumerate(graph.initializer) if weight.name == "w2")
    value = numpy_helper.to_array(graph.initializer[place])
    scale = np.abs(value).max(axis=(1, 2, 3)) / 127
    whole = np.round(value / scale[:, None, None, None]).astype(np.int8)
    del graph.initializer[place]
    for name, array in (("packed", whole), ("scales", scale.astype(np.float32))):
        graph.initializer.append(numpy_helper.from_array(array, name))
    graph.node.insert(0, helper.make_node("DequantizeLinear", ["packed", "scales"], ["w2"], axis=0))
    packed = opened(model.SerializeToString(), tmp_path)
    wide = trainable(packed)
    assert "DequantizeLinear" not in {node.op_type for node in wide.graph.nodes}
    assert wide.graph.weights["w2"].dtype == np.float32
    assert {"conv1", "relu2", "flat"} <= wide.graph.values()
    expected, found = features(packed.content), features(wide.content)
    np.testing.assert_allclose(found, expected, atol=1e-5)
