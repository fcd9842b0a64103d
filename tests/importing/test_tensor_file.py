"""Weights by name, and the networks that they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from opsin.core.errors import ModelFileError
from opsin.importing.foreign_network import read_foreign
from opsin.importing.tensor_file import read_tensors
from tests.importing.made_keras import drawn


def write_safetensors(path: Path, tensors: dict[str, NDArray[Any]]) -> Path:
    """Write the file as the format says: a header in JSON, and the numbers behind it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, values in tensors.items():
        end = at + values.nbytes
        shape = list(values.shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    numbers = b"".join(values.tobytes() for values in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)
    return path


def chain() -> dict[str, NDArray[Any]]:
    """Return the weights of 16-8-3, as PyTorch has them."""
    return {
        "stack.0.weight": drawn(8, 16), "stack.0.bias": drawn(8, seed=1),
        "stack.2.weight": drawn(3, 8, seed=2), "stack.2.bias": drawn(3, seed=3),
    }  # fmt: skip


def test_safetensors_are_read(tmp_path: Path) -> None:
    found = read_tensors(write_safetensors(tmp_path / "w.safetensors", chain()))
    assert list(found) == list(chain())
    for name, values in chain().items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.torch
def test_checkpoints_of_pytorch_are_read(tmp_path: Path) -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    state = network.state_dict()
    torch.save(state, tmp_path / "plain.pt")
    whole = {"epoch": 3, "model_state_dict": state, "optimizer": optimizer.state_dict()}
    torch.save(whole, tmp_path / "whole.pt")
    turned = torch.arange(12.0).reshape(3, 4).T
    torch.save({"turned": turned, "part": turned[1:, :2]}, tmp_path / "views.pt")
    for file in ("plain.pt", "whole.pt"):
        found = read_tensors(tmp_path / file)
        assert list(found) == list(state)
        for name, values in state.items():
            np.testing.assert_array_equal(found[name], values.numpy())
    views = read_tensors(tmp_path / "views.pt")
    np.testing.assert_array_equal(views["turned"], turned.numpy())
    np.testing.assert_array_equal(views["part"], turned[1:, :2].numpy())
    torch.save(network, tmp_path / "module.pt")
    with pytest.raises(ModelFileError, match=r"more than weights.*torch\.save\(model\.state_dict"):
        read_tensors(tmp_path / "module.pt")


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
    held = [numpy_helper.from_array(np.zeros_like(v), name) for name, v in chain().items()]
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])], held,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    (tmp_path / "graph.onnx").write_bytes(model.SerializeToString())
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
