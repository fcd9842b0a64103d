"""The graph of a file is what the file computes: fields, parents, the rest behind a layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings, strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

import opsin
from opsin.onnx_files.onnx_graph import OnnxGraph, ReceptiveField, receptive_fields
from tests.inspection.made_network import SIDE, made
from tests.onnx_files.made_files import SHAPE, computed, model_file, trained

PIXELS = 16
CONV: dict[str, Any] = {"op": "Conv"}


def seen_and_field(layers: Sequence[dict[str, Any]]) -> tuple[NDArray[Any], ReceptiveField]:
    """Light each pixel by itself: float[H, W, h, w] where layers in a row see it, and their field.

    ``Add`` adds a convolution of a value to the value itself.
    """
    weights: dict[str, NDArray[Any]] = {"pads": np.array([0, 0, 2, 1, 0, 0, 1, 2])}
    nodes, value = [], "images"
    for place, layer in enumerate(layers):
        options = {key: given for key, given in layer.items() if key != "op"}
        held = [f"weight{place}"] if layer["op"] == "Conv" else []
        weights |= {
            name: np.ones((1, 1, *layer.get("kernel_shape", (3, 3))), np.float32) for name in held
        }
        name = "end" if place == len(layers) - 1 else f"layer{place}"
        if layer["op"] == "Add":
            weights["around"] = np.ones((1, 1, 3, 3), np.float32)
            held = [f"inner{place}"]
            inner = helper.make_node("Conv", [value, "around"], held, pads=[1, 1, 1, 1])
            nodes.append(inner)
        elif layer["op"] == "Pad":
            held = ["pads"]
        nodes.append(helper.make_node(layer["op"], [value, *held], [name], **options))
        value = name
    images = ("images", TensorProto.FLOAT, ["N", 1, PIXELS, PIXELS])
    content = model_file(nodes, weights, images, {"end": None}, opset=18)
    lit = np.eye(PIXELS * PIXELS, dtype=np.float32).reshape(-1, 1, PIXELS, PIXELS)
    seen = computed(content, images=lit)["end"][:, 0]
    field = receptive_fields(nodes, weights)["end"]
    assert field is not None
    return seen.reshape(PIXELS, PIXELS, *seen.shape[1:]), field


@pytest.mark.parametrize(
    "layers",
    [
        [CONV | {"pads": [1, 2, 0, 1]}, CONV | {"strides": [2, 2]}],
        [CONV | {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, CONV | {"auto_pad": "SAME_LOWER"}],
        [CONV | {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, CONV | {"auto_pad": "VALID"}],
        [{"op": "Pad"}, CONV | {"strides": [2, 2]}],
        [{"op": "MaxPool", "kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
         CONV | {"dilations": [2, 2]}],
    ],
)  # fmt: skip
def test_the_border_of_a_field_is_where_pixels_begin_to_matter(layers: list[Any]) -> None:
    seen, field = seen_and_field(layers)
    for y, x in np.ndindex(seen.shape[2:]):
        rows, columns = np.nonzero(seen[:, :, y, x])
        box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert field.box(y, x, (PIXELS, PIXELS)) == box


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    op = draw(st.sampled_from(["Conv", "MaxPool", "Relu", "Add"]))
    if op in {"Relu", "Add"}:
        return {"op": op}
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    # Less than a window on each side, as ONNX asks of poolings.
    found = {
        "op": op,
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 2)) for _ in range(2)],
        "pads": [draw(st.integers(0, kernel[side % 2] - 1)) for side in range(4)],
    }
    if op == "Conv":
        found["dilations"] = [draw(st.integers(1, 2)) for _ in range(2)]
    return found


@settings(max_examples=25)
@given(st.lists(windows(), min_size=1, max_size=4))
def test_nothing_outside_a_field_changes_a_place(layers: list[dict[str, Any]]) -> None:
    try:
        seen, field = seen_and_field(layers)
    except Exception:  # noqa: BLE001  maps became too small for a window
        reject()
    for y, x in np.ndindex(seen.shape[2:]):
        top, left, bottom, right = field.box(y, x, (PIXELS, PIXELS))
        outside = seen[:, :, y, x].copy()
        outside[top:bottom, left:right] = 0
        assert not outside.any()
        rows, columns = np.nonzero(seen[:, :, y, x])
        first = field.start[0] + y * field.step[0], field.start[1] + x * field.step[1]
        if min(first) >= 0 and rows.size:
            assert (rows.min(), columns.min()) == (top, left)


def test_parents_are_layers_not_the_operators_between(tmp_path: Path) -> None:
    _, network, _ = made(tmp_path)
    assert network.parents("input") == ("images",)
    assert network.parents("conv") == ("input",)
    assert network.parents("add") == ("relu", "conv2")
    assert network.parents("head") == ("dense",)
    assert network.layer("add").shape == (4, SIDE, SIDE)
    with pytest.raises(opsin.ModelFileError, match="conv9"):
        network.layer("conv9")


def check_the_rest(network: OnnxGraph, images: NDArray[np.uint8]) -> None:
    content = network.model.SerializeToString()
    names = [layer.name for layer in network.layers]
    # Other values may have to go in as well, such as those within a layer.
    inside = [output for node in network.model.graph.node for output in node.output]
    values = computed(content, list(dict.fromkeys([*names, *inside])), images=images)
    for name in names:
        rest, inputs = network.after(name)
        assert inputs[0] == name
        taken = {each: values[each] for each in inputs}
        answer = computed(rest, **taken)["probabilities"]
        np.testing.assert_allclose(answer, values["probabilities"], atol=1e-6)
        # It is this layer's output that decides, so another one gives another answer.
        other = computed(rest, **taken | {name: taken[name] * -3 + 1})["probabilities"]
        assert np.abs(other - answer).max() > 1e-6


def test_the_rest_behind_each_layer_answers_as_the_whole_does(tmp_path: Path) -> None:
    _, network, known = made(tmp_path)
    check_the_rest(network, np.asarray(known.images[:5]))
    assert network.after("conv2")[1] == ["conv2", "relu"]
    assert network.after("head")[1] == ["head"]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_so_it_does_for_every_model(name: str) -> None:
    export = pytest.importorskip("opsin.training.torch_to_onnx")
    network, metadata = trained(name, hidden=(4, 6), activation="silu", dropout=0.2)
    file = OnnxGraph(export.to_onnx(network, metadata), metadata.layers)
    check_the_rest(file, np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8))


def test_exchanged_weights_are_used_and_no_others_change(tmp_path: Path) -> None:
    _, network, known = made(tmp_path)
    own = network.weights_of("conv2")
    assert set(own) == {"weight", "bias"} and own["weight"].shape == (4, 4, 3, 3)
    assert network.weights_of("conv")["weight"].shape == (4, 1, 3, 3)
    assert network.weights_of("con") == {}
    images, names = np.asarray(known.images[:1]), ["conv", "conv2"]
    before = network.model.SerializeToString()
    changed = network.with_weights({"conv2.weight": own["weight"] * 0})
    old, new = (computed(content, names, images=images) for content in (before, changed))
    np.testing.assert_array_equal(old["conv"], new["conv"])
    expected = np.broadcast_to(own["bias"][:, None, None], new["conv2"].shape[1:])
    np.testing.assert_allclose(new["conv2"][0], expected, atol=1e-6)
    assert network.model.SerializeToString() == before
    again = computed(network.with_weights(network.weights), names, images=images)
    np.testing.assert_array_equal(again["conv2"], old["conv2"])


def test_the_squares_of_a_model_without_layers_are_its_field(shapes: Path) -> None:
    pytest.importorskip("sklearn")
    run = opsin.train(
        shapes, model="logistic", size=(60, 50), runs=shapes.parent / "runs", quiet=True
    )
    classifier = run.classifier()
    network = OnnxGraph(classifier.path.read_bytes(), classifier.metadata.layers)
    field = network.receptive_field("input")
    assert field is not None
    grey = np.full((1, 60, 50, 3), 90, np.uint8)
    before = classifier.layers(grey, ["input"])["input"][0]
    for y, x in ((0, 0), (3, 7), (before.shape[1] - 1, before.shape[2] - 1)):
        top, left, bottom, right = field.box(y, x, (60, 50))
        inside, outside = grey.copy(), grey.copy()
        inside[0, top:bottom, left:right] = 200
        outside[0] = 200
        outside[0, top:bottom, left:right] = 90
        for changed, alike in ((inside, False), (outside, True)):
            after = classifier.layers(changed, ["input"])["input"][0]
            assert np.array_equal(after[:, y, x], before[:, y, x]) == alike
