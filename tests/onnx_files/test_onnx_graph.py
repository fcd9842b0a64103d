"""The graph of a file is what the file computes: fields, parents, the rest behind a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import opsin
from opsin.core.errors import ModelFileError
from opsin.core.metadata import Layer
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import GraphWriter, as_model, outputs, tail

SIZE = (13, 12)
CLASSES = 3


@dataclass
class Made:
    positive: bool = False
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    channels: int = 1

    def weight(self, name: str, *shape: int) -> str:
        value = self.random.uniform(0.1, 1.0, shape)
        if not self.positive:
            value -= 0.5
        self.weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], name: str, *, layer: bool = True,
            **attributes: Any) -> str:  # fmt: skip
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=f"{name}/{kind}", **attributes)
        )
        if layer:
            self.names.append(name)
        return name

    def input(self) -> str:
        self.add("Cast", ["images"], "input.float", layer=False, to=TensorProto.FLOAT)
        scale = numpy_helper.from_array(np.array(1 / 255, np.float32), "input.scale")
        self.weights.append(scale)
        self.add("Mul", ["input.float", "input.scale"], "input.scaled", layer=False)
        return self.add("Transpose", ["input.scaled"], "input", perm=[0, 3, 1, 2])

    def conv(self, name: str, source: str, kernel: Sequence[int] = (3, 3), filters: int = 2,
             **attributes: Any) -> str:  # fmt: skip
        inputs = [source, self.weight(f"{name}.weight", filters, self.channels, *kernel)]
        if not self.positive:
            inputs.append(self.weight(f"{name}.bias", filters))
        self.channels = filters
        return self.add("Conv", inputs, name, kernel_shape=list(kernel), **attributes)

    def norm(self, name: str, source: str) -> str:
        parts = ("weight", "bias", "running_mean", "running_var")
        held = [self.weight(f"{name}.{part}", self.channels) for part in parts]
        self.weights[-1].CopyFrom(
            numpy_helper.from_array(np.ones(self.channels, np.float32), held[-1])
        )
        return self.add("BatchNormalization", [source, *held], name, epsilon=1e-3)

    def residual(self, name: str, source: str) -> str:
        inner = self.conv(f"{name}.conv", source, filters=self.channels, pads=[1, 1, 1, 1])
        inner = self.add("Relu", [inner], f"{name}.relu")
        return self.add("Add", [source, inner], f"{name}.add")

    def head(self, source: str) -> None:
        axes = numpy_helper.from_array(np.array([2, 3]), "maximum.axes")
        self.weights.append(axes)
        self.add("ReduceMax", [source, "maximum.axes"], "maximum", keepdims=0)
        inputs = ["maximum", self.weight("head.weight", CLASSES, self.channels)]
        self.add("Gemm", inputs, "head", transB=1)

    def content(self, size: tuple[int, int] = SIZE) -> bytes:
        to = GraphWriter(list(self.nodes), list(self.weights))
        tail(to, "head", "maximum", classes=CLASSES, units=self.channels)
        images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *size, 1])
        answered = outputs(classes=CLASSES, units=self.channels)
        model = as_model(helper.make_graph(to.nodes, "made", [images], answered, to.weights))
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())

    def network(self, size: tuple[int, int] = SIZE) -> OnnxGraph:
        content = self.content(size)
        images = np.zeros((1, *size, 1), np.uint8)
        kinds = {node.output[0]: node.op_type for node in self.nodes}
        shapes = {name: value.shape[1:] for name, value in run(content, self.names, images).items()}
        layers = [
            Layer(name=name, kind=kinds[name], shape=shapes[name], parameters=0, trainable=0,
                  multiply_adds=0)
            for name in self.names
        ]  # fmt: skip
        return OnnxGraph(content, layers)


def run(content: bytes, names: Sequence[str], images: NDArray[np.uint8]) -> dict[str, Any]:
    model = onnx.load_model_from_string(content)
    have = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    values = session.run(list(names), {"images": images})
    return dict(zip(names, values, strict=True))


def residual_network() -> Made:
    made = Made()
    value = made.add("Relu", [made.conv("stem", made.input())], "stem_relu")
    value = made.residual("one", value)
    value = made.norm("norm", made.conv("stage.conv", value, strides=[2, 2]))
    made.head(made.residual("two", value))
    return made


@st.composite
def windows(draw: st.DrawFn, padded: bool) -> tuple[str, dict[str, Any]]:
    """Draw a convolution, a pooling, a residual block or something that changes no field."""
    kinds = ["Conv", "MaxPool", "Relu", *(["residual"] if padded else [])]
    kind = draw(st.sampled_from(kinds))
    if kind not in {"Conv", "MaxPool"}:
        return kind, {}
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    options: dict[str, Any] = {
        "kernel_shape": list(kernel),
        "strides": list(draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))),
    }
    if kind == "Conv":
        options["dilations"] = list(draw(st.tuples(st.integers(1, 2), st.integers(1, 2))))
    if padded:
        # Less than a window on each side, as ONNX asks of poolings.
        options["pads"] = [draw(st.integers(0, kernel[side % 2] - 1)) for side in range(4)]
    return kind, options


def built(parts: Sequence[tuple[str, dict[str, Any]]]) -> Made | None:
    made, sides = Made(positive=True), list(SIZE)
    value = made.input()
    for number, (kind, options) in enumerate(parts):
        name = f"part{number}"
        for side in (0, 1) if "kernel_shape" in options else ():
            dilation = options.get("dilations", (1, 1))[side]
            reach = (options["kernel_shape"][side] - 1) * dilation + 1
            pads = options.get("pads", (0, 0, 0, 0))
            sides[side] += pads[side] + pads[side + 2] - reach
            if sides[side] < 0:
                return None
            sides[side] = sides[side] // options["strides"][side] + 1
        if kind == "residual":
            value = made.residual(name, value)
        elif kind == "Conv":
            rest = {key: kept for key, kept in options.items() if key != "kernel_shape"}
            value = made.conv(name, value, options["kernel_shape"], **rest)
        else:
            value = made.add(kind, [value], name, **options)
    made.head(value)
    return made


def seen_by(network: OnnxGraph, name: str) -> NDArray[np.bool_]:
    """Change each pixel by itself and tell which places change: bool[H, W, h, w]."""
    pixels = SIZE[0] * SIZE[1]
    images = np.zeros((pixels, *SIZE, 1), np.uint8)
    images.reshape(pixels, pixels)[np.arange(pixels), np.arange(pixels)] = 255
    dark = run(network.model.SerializeToString(), [name], np.zeros_like(images[:1]))[name]
    lit = run(network.model.SerializeToString(), [name], images)[name]
    changed: NDArray[np.bool_] = (lit != dark).any(axis=1)
    return changed.reshape(*SIZE, *changed.shape[1:])


def bounds(seen: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


@settings(max_examples=25)
@given(st.lists(windows(padded=True), min_size=1, max_size=4))
def test_nothing_outside_a_field_changes_a_place(parts: list[tuple[str, dict[str, Any]]]) -> None:
    made = built(parts)
    if made is None:
        return
    network = made.network()
    for name in [name for name in made.names if name.startswith("part")]:
        seen, found = seen_by(network, name), network.receptive_field(name)
        assert found is not None
        for y, x in np.ndindex(seen.shape[2:]):
            top, left, bottom, right = found.box(y, x, SIZE)
            inside = np.zeros(SIZE, np.bool_)
            inside[top:bottom, left:right] = True
            assert not (seen[:, :, y, x] & ~inside).any()
            first = found.start[0] + y * found.step[0], found.start[1] + x * found.step[1]
            if min(first) >= 0 and seen[:, :, y, x].any():
                assert bounds(seen[:, :, y, x])[:2] == (top, left)


def test_parents_are_layers_not_the_operators_between() -> None:
    network = residual_network().network()
    assert network.parents("input") == ("images",)
    assert network.parents("stem") == ("input",)
    assert network.parents("one.add") == ("stem_relu", "one.relu")
    assert network.parents("head") == ("maximum",)
    assert network.layer("one.add").kind == "Add"
    with pytest.raises(ModelFileError, match="conv9"):
        network.layer("conv9")


def check_the_rest(network: OnnxGraph, images: NDArray[np.uint8]) -> None:
    content = network.model.SerializeToString()
    names = [layer.name for layer in network.layers]
    # Other values may have to go in as well, such as those within a layer.
    inside = [output for node in network.model.graph.node for output in node.output]
    values = run(content, list(dict.fromkeys([*names, *inside])), images)
    for name in names:
        rest, inputs = network.after(name)
        assert inputs[0] == name
        session = onnxruntime.InferenceSession(rest)
        given_ = {value.name: values[value.name] for value in session.get_inputs()}
        assert sorted(given_) == sorted(inputs)
        (answer,) = session.run(["probabilities"], given_)
        np.testing.assert_allclose(answer, values["probabilities"], atol=1e-6)
        # It is this layer's output that decides, so another one gives another answer.
        (other,) = session.run(["probabilities"], given_ | {name: given_[name] * -3 + 1})
        assert np.abs(other - answer).max() > 1e-6


def test_the_rest_behind_each_layer_answers_as_the_whole_does() -> None:
    network = residual_network().network()
    check_the_rest(network, np.random.default_rng(0).integers(0, 256, (5, *SIZE, 1), np.uint8))
    assert network.after("one.conv")[1] == ["one.conv", "stem_relu"]
    assert network.after("head")[1] == ["head"]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_so_it_does_for_every_model(name: str) -> None:
    export = pytest.importorskip("opsin.training.torch_to_onnx")
    from tests.onnx_files.made_files import SHAPE, trained

    network, metadata = trained(name, hidden=(4, 6), activation="silu", dropout=0.2)
    file = OnnxGraph(export.to_onnx(network, metadata), metadata.layers)
    check_the_rest(file, np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8))


def test_exchanged_weights_are_used_and_no_others_change() -> None:
    network = residual_network().network()
    own = network.weights_of("stage.conv")
    assert set(own) == {"weight", "bias"} and own["weight"].shape == (2, 2, 3, 3)
    assert set(network.weights_of("norm")) == {"weight", "bias", "running_mean", "running_var"}
    assert network.weights_of("stage") == {}
    images = np.full((1, *SIZE, 1), 200, np.uint8)
    before = network.model.SerializeToString()
    changed = network.with_weights({"stage.conv.weight": own["weight"] * 0})
    names = ["stem", "stage.conv"]
    old, new = run(before, names, images), run(changed, names, images)
    np.testing.assert_array_equal(old["stem"], new["stem"])
    expected = np.broadcast_to(own["bias"][:, None, None], new["stage.conv"].shape[1:])
    np.testing.assert_allclose(new["stage.conv"][0], expected, atol=1e-6)
    assert network.model.SerializeToString() == before
    assert run(network.with_weights({}), names, images).keys() == old.keys()
    np.testing.assert_array_equal(
        run(network.with_weights(network.weights), names, images)["stage.conv"], old["stage.conv"]
    )


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
