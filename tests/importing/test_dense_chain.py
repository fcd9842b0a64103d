"""Networks of weights alone, and graphs that get weights by name."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from opsin.core.errors import ModelFileError
from opsin.importing.foreign_network import read_foreign
from tests.importing.made_keras import drawn
from tests.onnx_files.made_files import model_file
from tests.onnx_files.test_tensor_file import chain, write_safetensors


def test_a_chain_of_dense_layers(tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "w.safetensors", chain())
    network = read_foreign(file, architecture="mlp")
    assert network.probed.side == (4, 4)
    assert network.answers.classes == 3
    assert network.probed.features == "stack.0.relu"
    with pytest.raises(ModelFileError, match=r"weights alone.*--as mlp.*--graph"):
        read_foreign(file)
    odd = {**chain(), "conv.weight": drawn(2, 3, 3, 3)}
    with pytest.raises(ModelFileError, match=r"conv is no dense layer.*--graph"):
        read_foreign(write_safetensors(tmp_path / "o.safetensors", odd), architecture="mlp")


def test_a_graph_gets_weights_by_name(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "stack.0.weight", "stack.0.bias"], ["hidden"], transB=1),
        helper.make_node("Tanh", ["hidden"], ["bent"]),
        helper.make_node("Gemm", ["bent", "stack.2.weight", "stack.2.bias"], ["y"], transB=1),
    ]
    empty = {name: np.zeros_like(values) for name, values in chain().items()}
    given = ("x", TensorProto.FLOAT, ["N", 1, 4, 4])
    (tmp_path / "graph.onnx").write_bytes(model_file(nodes, empty, given, {"y": ["N", 3]}))
    file = write_safetensors(tmp_path / "w.safetensors", chain())
    network = read_foreign(file, graph=tmp_path / "graph.onnx")
    found = {
        weight.name: numpy_helper.to_array(weight)
        for weight in onnx.load_model_from_string(network.content).graph.initializer
    }
    for name, values in chain().items():
        np.testing.assert_array_equal(found[name], values)
    other = write_safetensors(tmp_path / "o.safetensors", {"stack.0.weight": drawn(8, 15)})
    with pytest.raises(ModelFileError, match="8×15, and the graph needs 8×16"):
        read_foreign(other, graph=tmp_path / "graph.onnx")
    none = write_safetensors(tmp_path / "n.safetensors", {"other": drawn(3)})
    with pytest.raises(ModelFileError, match="none of its weights"):
        read_foreign(none, graph=tmp_path / "graph.onnx")
