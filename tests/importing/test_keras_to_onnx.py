"""Networks as Keras computes them, by PyTorch as an independent judge of each layer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError
from opsin.importing.answers import Converted
from opsin.importing.keras_to_onnx import convert
from tests.importing.made_keras import (
    Weights,
    drawn,
    functional,
    image,
    layer,
    sequential,
    tutorial,
    write_h5,
    write_keras,
)
from tests.onnx_files import made_files

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
F = torch.nn.functional

Array = NDArray[Any]


def computed(converted: Converted, images: Array, *names: str) -> list[Array]:
    model = converted.model
    onnx.checker.check_model(model, full_check=True)
    given = {model.graph.input[0].name: images}
    return [*made_files.computed(model.SerializeToString(), names, **given).values()]


def maps(values: Array) -> Any:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


def kernel(weights: Array) -> Any:
    return torch.from_numpy(np.ascontiguousarray(weights.transpose(3, 2, 0, 1)))


def same(value: Any, size: int, step: int, fill: float = 0.0) -> Any:
    """Pad as TensorFlow's "same" does: what is odd goes behind."""
    pads = []
    for side in (value.shape[3], value.shape[2]):
        total = max((-(-side // step) - 1) * step + size - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(value, pads, value=fill)


KERNEL, DEPTHWISE, POINTWISE = drawn(3, 3, 3, 4), drawn(3, 3, 3, 2), drawn(1, 1, 6, 5)


def separable(x: Any) -> Any:
    weight = torch.from_numpy(DEPTHWISE.transpose(2, 3, 0, 1).reshape(6, 1, 3, 3).copy())
    return F.conv2d(F.conv2d(same(x, 3, 2), weight, stride=2, groups=3), kernel(POINTWISE))


CASES: dict[str, tuple[dict[str, Any], Weights, Callable[[Any], Any]]] = {
    "convolution, same, on an even side": (
        layer("Conv2D", "it", filters=4, kernel_size=[3, 3], strides=[2, 2], padding="same",
              use_bias=False),
        [KERNEL],
        lambda x: F.conv2d(same(x, 3, 2), kernel(KERNEL), stride=2),
    ),
    "separable": (
        layer("SeparableConv2D", "it", filters=5, kernel_size=3, strides=2, depth_multiplier=2,
              padding="same", use_bias=False),
        [DEPTHWISE, POINTWISE],
        separable,
    ),
    "largest, same": (
        layer("MaxPooling2D", "it", pool_size=3, strides=2, padding="same"),
        [],
        lambda x: F.max_pool2d(same(x, 3, 2, -np.inf), 3, stride=2),
    ),
    "mean, same: what is outside counts for nothing": (
        layer("AveragePooling2D", "it", pool_size=2, padding="same"),
        [],
        lambda x: F.avg_pool2d(same(x, 2, 2), 2) / F.avg_pool2d(same(torch.ones_like(x), 2, 2), 2),
    ),
    "batch normalisation": (
        layer("BatchNormalization", "it", axis=-1, epsilon=0.01, scale=True, center=True),
        [drawn(3), drawn(3, seed=1), drawn(3, seed=2), np.abs(drawn(3, seed=3))],
        lambda x: F.batch_norm(
            x, torch.from_numpy(drawn(3, seed=2)), torch.from_numpy(np.abs(drawn(3, seed=3))),
            torch.from_numpy(drawn(3)), torch.from_numpy(drawn(3, seed=1)), eps=0.01,
        ),
    ),
    "layer normalisation": (
        layer("LayerNormalization", "it", axis=-1, epsilon=0.01),
        [drawn(3), drawn(3, seed=1)],
        lambda x: F.layer_norm(
            x.permute(0, 2, 3, 1), (3,), torch.from_numpy(drawn(3)),
            torch.from_numpy(drawn(3, seed=1)), eps=0.01,
        ).permute(0, 3, 1, 2),
    ),
    "pixels scaled": (
        layer("Rescaling", "it", scale=0.5, offset=-1.0), [], lambda x: x * 0.5 - 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("write", [write_keras, write_h5])
def test_layers_do_what_keras_does(case: str, write: Callable[..., Path], tmp_path: Path) -> None:
    given, weights, judge = CASES[case]
    config = sequential(image(10, 7, 3), given)
    file = write(tmp_path / "network", config, {"it": weights} if weights else {})
    images = drawn(4, 10, 7, 3, seed=5)
    converted = convert(file)
    (found,) = computed(converted, images, "it")
    np.testing.assert_allclose(found, judge(maps(images)).numpy(), atol=1e-5)
    (answer,) = computed(converted, images)
    np.testing.assert_allclose(answer, found.transpose(0, 2, 3, 1), atol=1e-6)


@pytest.mark.parametrize("write", [write_keras, write_h5])
def test_the_tutorials_network(write: Callable[..., Path], tmp_path: Path) -> None:
    config, weights = tutorial()
    converted = convert(write(tmp_path / "network", config, weights))
    images = drawn(5, 28, 28)
    (first, bias), (last, offset) = weights["dense"], weights["dense_1"]
    hidden = np.maximum(images.reshape(5, 784) @ first + bias, 0)
    shares = torch.from_numpy(hidden @ last + offset).softmax(1).numpy()
    found, kept = computed(converted, images, "dense_1", "dense")
    np.testing.assert_allclose(found, shares, atol=1e-5)
    np.testing.assert_allclose(kept, hidden, atol=1e-5)
    rows = {row.name: (row.kind, row.parameters) for row in converted.layers}
    assert rows["dense"] == ("Dense + ReLU", 100_480)
    assert sum(row.parameters for row in converted.layers) == 101_770
    assert converted.maker.startswith("Keras ")


def test_dense_after_maps_sees_them_in_keras_order(tmp_path: Path) -> None:
    config = sequential(
        image(4, 5, 2),
        layer("MaxPooling2D", "pool", pool_size=1, padding="valid"),
        layer("Flatten", "flatten"),
        layer("Dense", "dense", units=3),
    )
    weights = [drawn(40, 3), drawn(3)]
    converted = convert(write_keras(tmp_path / "n.keras", config, {"dense": weights}))
    images = drawn(2, 4, 5, 2, seed=3)
    (found,) = computed(converted, images)
    np.testing.assert_allclose(found, images.reshape(2, 40) @ weights[0] + weights[1], atol=1e-5)


def test_zeros_around_maps_that_are_all_negative_stay_the_largest(tmp_path: Path) -> None:
    config = sequential(
        image(4, 4, 1),
        layer("ZeroPadding2D", "zeros", padding=[[1, 1], [1, 1]]),
        layer("MaxPooling2D", "largest", pool_size=3, strides=1, padding="valid"),
        layer("Flatten", "flatten"),
    )
    converted = convert(write_keras(tmp_path / "n.keras", config, {}))
    (found,) = computed(converted, np.full((1, 4, 4, 1), -1, np.float32))
    edge = np.ones((4, 4), bool)
    edge[1:3, 1:3] = False
    np.testing.assert_allclose(found.reshape(4, 4), np.where(edge, 0, -1), atol=1e-6)


def test_keras_2_has_another_hard_sigmoid(tmp_path: Path) -> None:
    config = sequential(image(3, 3), layer("Activation", "it", activation="hard_sigmoid"))
    images = np.linspace(-4, 4, 9, dtype=np.float32).reshape(1, 3, 3)
    for version, slope in (("2.15.0", 0.2), ("3.1.0", 1 / 6)):
        file = write_keras(tmp_path / f"{version}.keras", config, {}, version=version)
        wanted = np.clip(images * slope + 0.5, 0, 1)
        np.testing.assert_allclose(computed(convert(file), images)[0], wanted, atol=1e-6)


def test_an_open_size_and_several_outputs_are_asked_for(tmp_path: Path) -> None:
    open_size = sequential(image(None, None, 3), layer("GlobalAveragePooling2D", "mean"))
    file = write_keras(tmp_path / "open.keras", open_size, {})
    with pytest.raises(ModelFileError, match=r"any size.*--size"):
        convert(file)
    assert computed(convert(file, side=9), drawn(2, 9, 9, 3))[0].shape == (2, 3)
    two = functional(
        [
            (image(4), []),
            (layer("Activation", "a", activation="relu"), ["input_layer"]),
            (layer("Activation", "b", activation="tanh"), ["input_layer"]),
        ],
        outputs=["a", "b"],
    )
    file = write_keras(tmp_path / "two.keras", two, {})
    with pytest.raises(ModelFileError, match=r"2 outputs.*--output with one of a, b"):
        convert(file)
    values = drawn(3, 4)
    np.testing.assert_allclose(
        computed(convert(file, output="b"), values)[0], np.tanh(values), atol=1e-6
    )


def earlier(kind: str, name: str, nodes: list[Any], **options: Any) -> dict[str, Any]:
    return {
        "class_name": kind,
        "config": {"name": name, **options},
        "name": name,
        "inbound_nodes": nodes,
    }


def test_a_graph_of_keras_2_counts_the_making_of_a_network_as_a_call(tmp_path: Path) -> None:
    given = {"batch_input_shape": [None, 4, 4, 1]}
    first, dense = earlier("InputLayer", "in", [], **given), earlier("Dense", "inner", [], units=2)
    inner = earlier("Sequential", "stem", [[["image", 0, 0, {}]]], layers=[first, dense])
    scaled = earlier(
        "TFOpLambda",
        "tf.math.multiply",
        [["stem", 1, 0, {"y": 3.0, "name": None}]],
        function="math.multiply",
    )
    config = {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": [
                earlier("InputLayer", "image", [], **given),
                inner,
                scaled,
                earlier("Add", "sum", [[["tf.math.multiply", 0, 0, {}], ["stem", 1, 0, {}]]]),
                earlier("Concatenate", "both", [[["sum", 0, 0, {}], ["stem", 1, 0, {}]]], axis=-1),
                earlier("GlobalAveragePooling2D", "mean", [[["both", 0, 0, {}]]]),
            ],
            "input_layers": [["image", 0, 0]],
            "output_layers": [["mean", 0, 0]],
        },
    }
    weights = [drawn(1, 2), drawn(2)]

    def add_inner(file: Any) -> None:
        group = file.create_group("model_weights/stem")
        names = ["inner/kernel:0", "inner/bias:0"]
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name, array in zip(names, weights, strict=True):
            group[name] = array

    converted = convert(write_h5(tmp_path / "n.h5", config, {}, changed=add_inner))
    images = drawn(3, 4, 4, 1, seed=4)
    once = (images @ weights[0] + weights[1]).mean(axis=(1, 2))
    wanted = np.concatenate([4 * once, once], axis=1)
    np.testing.assert_allclose(computed(converted, images)[0], wanted, atol=1e-5)
