"""The file answers as the network does, and every layer can be fetched from it by name."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import opsin
from opsin.core.metadata import Metadata
from opsin.models import build_network
from opsin.models.onnx_network import TorchNetwork
from opsin.models.torch_layers import Normalise
from opsin.training import torch_to_onnx
from tests.onnx_files.made_files import SHAPE, trained

pytestmark = pytest.mark.torch


def opened(content: bytes) -> opsin.Classifier:
    return opsin.Classifier.of_content(Path("classifier.onnx"), content, most=None)


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (64, *SHAPE), np.uint8)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_file_and_network_agree(name: str, activation: str, images: NDArray[np.uint8]) -> None:
    network, metadata = trained(name, activation=activation, dropout=0.3)
    content = torch_to_onnx.to_onnx(network, metadata)
    assert torch_to_onnx.check_parity(opened(content), network, images) < 1e-5


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_every_layer_can_be_fetched(name: str, images: NDArray[np.uint8], tmp_path: Path) -> None:
    network, metadata = trained(name)
    path = tmp_path / "classifier.onnx"
    path.write_bytes(torch_to_onnx.to_onnx(network, metadata))
    own: dict[str, NDArray[Any]] = {}

    def keep(layer: str) -> Any:
        return lambda _module, _inputs, output: own.__setitem__(layer, output.numpy())

    for layer, module in network.named_modules():
        module.register_forward_hook(keep(layer))
    with torch.inference_mode():
        network(torch.from_numpy(images))
    names = [layer.name for layer in metadata.layers]
    fetched = opsin.Classifier(path).layers(images, names)
    assert list(fetched) == names
    for layer in metadata.layers:
        assert fetched[layer.name].shape[1:] == layer.shape
        np.testing.assert_allclose(fetched[layer.name], own[layer.name], atol=1e-4, rtol=1e-4)


def test_the_file_is_standard_and_has_what_the_head_sees(images: NDArray[np.uint8]) -> None:
    network, metadata = trained("resnet")
    content = torch_to_onnx.to_onnx(network, metadata)
    model = onnx.load_model_from_string(content)
    assert {node.domain for node in model.graph.node} == {""}
    assert any(node.op_type == "BatchNormalization" for node in model.graph.node)
    session = onnxruntime.InferenceSession(content)
    assert [value.name for value in session.get_inputs()] == ["images"]
    probabilities, embedding = session.run(["probabilities", "embedding"], {"images": images})
    head = network.get_submodule("head")
    with torch.inference_mode():
        again = torch.softmax(head(torch.from_numpy(embedding)), dim=1).numpy()
    np.testing.assert_allclose(probabilities, again, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_file_of_another_network_does_not_pass(images: NDArray[np.uint8]) -> None:
    network, metadata = trained("cnn")
    content = torch_to_onnx.to_onnx(network, metadata)
    with torch.no_grad():
        network.get_submodule("head").get_parameter("bias")[0] += 3.0
    with pytest.raises(opsin.ParityError, match="differ by up to"):
        torch_to_onnx.check_parity(opened(content), network, images)
    with torch.no_grad():
        network.get_submodule("head").get_parameter("bias")[0] = float("nan")
    content = torch_to_onnx.to_onnx(network, metadata)
    with pytest.raises(opsin.ModelFileError, match="not all between 0 and 1"):
        torch_to_onnx.check_parity(opened(content), network, images)


def a_network_of(*layers: nn.Module, channels: int = 6) -> tuple[nn.Sequential, Metadata]:
    """Build a network with these layers on maps of 28×24 between convolution and head."""
    torch.manual_seed(0)
    first = Normalise([100.0] * 3, [60.0] * 3)
    inner = nn.Sequential(first, nn.Conv2d(3, channels, 3), *layers, nn.Flatten())
    with torch.inference_mode():
        units = inner.eval()(torch.zeros((1, *SHAPE), dtype=torch.uint8)).shape[1]
    names = ["input", "conv", *(f"layer{place}" for place in range(len(layers))), "flatten"]
    named = OrderedDict(zip(names, inner.children(), strict=True))
    network = nn.Sequential(OrderedDict({**named, "head": nn.Linear(units, 4)})).eval()
    _, metadata = trained("mlp")
    layers_of = tuple(build_network.summarise(network, SHAPE))
    return network, metadata.model_copy(update={"layers": layers_of})


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 4, 3, stride=2),
        nn.Conv2d(6, 12, (3, 5), padding=(1, 2), groups=3, bias=False),
        nn.Conv2d(6, 4, 3, dilation=2, padding=2),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.BatchNorm2d(6),
        nn.CELU(0.5),
        nn.ELU(0.7),
        nn.GELU("tanh"),
        nn.Hardswish(),
        nn.LeakyReLU(0.2),
        nn.Mish(),
        nn.SELU(),
        nn.Sigmoid(),
        nn.Identity(),
    ],
    ids=str,
)
def test_common_layers_are_written_and_read_back(layer: nn.Module, images: NDArray[Any]) -> None:
    network, metadata = a_network_of(layer)
    content = torch_to_onnx.to_onnx(network, metadata)
    assert torch_to_onnx.check_parity(opened(content), network, images) < 1e-5
    with torch.inference_mode():
        pixels = torch.from_numpy(images)
        again, own = TorchNetwork(content)(pixels.float()), network(pixels)
    np.testing.assert_allclose(again, own, atol=1e-4, rtol=1e-4)


def test_a_layer_that_no_file_can_hold_is_refused_before_the_training() -> None:
    network, _ = a_network_of(nn.Softshrink())
    with pytest.raises(opsin.RecipeError, match="layer0 is Softshrink"):
        torch_to_onnx.check_exportable(network)
    for name in ("mlp", "cnn", "resnet"):
        torch_to_onnx.check_exportable(trained(name)[0])
