"""The maps are those of their papers, found where the answer is known beforehand."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.onnx_files.made_files import model_file

torch = pytest.importorskip("torch")
pytest.importorskip("captum")
pytestmark = pytest.mark.torch

SIDE = 8


def network_of(weights: dict[str, NDArray[Any]], nodes: list[onnx.NodeProto]) -> Any:
    from opsin.models.onnx_network import TorchNetwork

    nodes = [helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT), *nodes]
    images = ("images", TensorProto.UINT8, ["N", SIDE, SIDE, 1])
    return TorchNetwork(model_file(nodes, weights, images, {"head": ["N", 2]}))


def linear(weight: NDArray[np.float32]) -> Any:
    return network_of(
        {"w": weight},
        [
            helper.make_node("Flatten", ["float"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "w"], ["head"], transB=1),
        ],
    )


@pytest.fixture
def weight() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(2, SIDE * SIDE)).astype(np.float32)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 1), np.uint8)


@pytest.mark.parametrize("target", [0, 1])
def test_saliency_of_a_linear_model_is_the_size_of_its_weights(
    weight: NDArray[np.float32], pixels: NDArray[np.uint8], target: int
) -> None:
    from opsin.models.attribution import saliency

    heat = saliency(linear(weight), pixels, target)
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat, np.abs(weight[target]).reshape(SIDE, SIDE), rtol=1e-6)


def test_integrated_gradients_of_a_linear_model_are_weight_times_difference(
    weight: NDArray[np.float32], pixels: NDArray[np.uint8]
) -> None:
    from opsin.models.attribution import integrated_gradients

    heat, gap = integrated_gradients(linear(weight), pixels, 1, baseline=np.array([40], np.uint8))
    expected = weight[1].reshape(SIDE, SIDE) * (pixels[:, :, 0].astype(np.float32) - 40)
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-3)
    assert gap < 1e-4


def test_integrated_gradients_add_up_for_a_network_with_a_bend(pixels: NDArray[np.uint8]) -> None:
    from opsin.models.attribution import GAP, integrated_gradients

    random, node = np.random.default_rng(2), helper.make_node
    shapes = {"w1": (16, SIDE * SIDE), "w2": (2, 16)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["w1"] /= 100
    nodes = [
        node("Flatten", ["float"], ["flat"], axis=1),
        node("Gemm", ["flat", "w1"], ["hidden"], transB=1),
        node("Gelu", ["hidden"], ["active"]),
        node("Gemm", ["active", "w2"], ["head"], transB=1),
    ]
    net, plain = network_of(weights, nodes), np.full_like(pixels, 128)
    heat, gap = integrated_gradients(net, pixels, 0, baseline=plain[0, 0])
    ends = net(torch.from_numpy(np.stack([plain, pixels]).astype(np.float32)))[:, 0].detach()
    assert heat.sum() == pytest.approx(float(ends[1] - ends[0]), rel=GAP, abs=1e-3)
    assert gap <= GAP


def test_grad_cam_lights_up_where_the_class_s_map_does(pixels: NDArray[np.uint8]) -> None:
    from opsin.models.attribution import grad_cam

    # Two maps: the image, and its negative; each class listens to one of them.
    weights = {"k": np.array([1, -1], np.float32).reshape(2, 1, 1, 1), "axes": np.array([2, 3])}
    nodes = [
        helper.make_node("Transpose", ["float"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "k"], ["maps"], kernel_shape=[1, 1]),
        helper.make_node("ReduceSum", ["maps", "axes"], ["head"], keepdims=0),
    ]
    net = network_of(weights, nodes)
    spot = np.zeros((SIDE, SIDE, 1), np.uint8)
    spot[2, 5] = 200
    heat = grad_cam(net, spot, 0, layer="maps")
    assert int(heat.argmax()) == 2 * SIDE + 5
    assert heat.shape == (SIDE, SIDE) and heat.min() >= 0
    # What speaks against a class is left out.
    assert grad_cam(net, spot, 1, layer="maps").max() == 0
