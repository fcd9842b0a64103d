"""A file in fewer bits, or with its norms folded, is a classifier as before."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, reject, settings, strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from opsin.onnx_files import quantize
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.quantize import fold, to_fp16, to_int8
from tests.conftest import a_few
from tests.onnx_files.made_files import computed, images, made, model_file, opened

pytestmark = pytest.mark.torch


def kernels(content: bytes, folder: Path) -> set[str]:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    onnxruntime.InferenceSession(content, options)
    return {node.op_type for node in onnx.load_model(folder / "loaded.onnx").graph.node}


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_it_computes_in_integers_with_layers_near_the_original(name: str, tmp_path: Path) -> None:
    content = made(name)
    smaller = to_int8(content, images())
    assert any(kind.startswith(("QLinear", "QGemm")) for kind in kernels(smaller, tmp_path))
    before, after = opened(content, tmp_path), opened(smaller, tmp_path, "int8.onnx")
    assert len(smaller) < 0.4 * len(content)
    assert after.metadata.precision == "int8"
    assert after.metadata.preparation == before.metadata.preparation
    names = [layer.name for layer in after.metadata.layers]
    assert (names[0], names[-1]) == ("input", "head")
    asked = [*names, "ood_score", "embedding"]
    old, new = before.layers(images(), asked), after.layers(images(), asked)
    for layer in asked:
        assert new[layer].dtype == np.float32
        assert new[layer].shape == old[layer].shape
        # A step of 256 is 0.4% of the range; a dozen layers add up.
        scale = float(np.abs(old[layer]).max()) or 1.0
        assert np.abs(new[layer] - old[layer]).max() < 0.12 * scale, layer
    apart = np.abs(before.probabilities(images()) - after.probabilities(images()))
    assert apart.mean() < 0.02


def test_rounded_weights_shift_no_mean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = made("resnet")
    layers = [layer.name for layer in opened(content, tmp_path).metadata.layers]
    means = opened(content, tmp_path).layers(images(), layers)

    def apart(smaller: bytes) -> float:
        found = opened(smaller, tmp_path, "int8.onnx")
        kept = [name for name in layers if name in {each.name for each in found.metadata.layers}]
        values = found.layers(images(), kept)
        return sum(float(np.abs((values[n] - means[n]).mean(axis=0)).mean()) for n in kept)

    corrected = apart(to_int8(content, images()))
    monkeypatch.setattr(quantize, "_correct_biases", lambda *_: None)
    assert corrected < 0.8 * apart(to_int8(content, images()))


def test_it_works_in_silence_and_always_the_same_way(capfd: pytest.CaptureFixture[str]) -> None:
    content = made("resnet", hidden=(8,))
    done: list[int] = []
    first = to_int8(content, images(), progress=done.append)
    assert to_int8(content, images()) == first
    assert capfd.readouterr() == ("", "")
    assert done == sorted(done)
    assert done[-1] == 48


def test_the_file_is_standard_and_holds_no_float_weights_but_at_its_ends() -> None:
    smaller = to_int8(made("resnet"), images())
    model = onnx.load_model_from_string(smaller)
    assert {each.domain for each in model.opset_import} == {""}
    assert model.producer_name == "opsin"
    names = [value.name for value in model.graph.output]
    assert names == ["probabilities", "embedding", "ood_score"]
    large = {
        name
        for name, value in OnnxGraph(smaller).weights.items()
        if value.dtype == np.float32 and value.ndim > 1 and not name.startswith("ood_score.")
    }
    ends = {"whiten.weight", "stage1.norm.weight", "head.weight"}
    assert large == ends | {"input.mean", "input.deviation"}


def test_what_a_place_sees_is_what_it_saw() -> None:
    content = made("resnet", hidden=(8, 12))
    smaller = to_int8(content, images())
    before = OnnxGraph(content, OnnxGraph(content).metadata.layers)
    after = OnnxGraph(smaller, OnnxGraph(smaller).metadata.layers)
    for layer in after.layers:
        assert after.receptive_field(layer.name) == before.receptive_field(layer.name)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_in_float16_every_layer_is_there_and_nearly_the_same(name: str, tmp_path: Path) -> None:
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
    kept = {
        weight.name: numpy_helper.to_array(weight).dtype
        for weight in OnnxGraph(smaller).model.graph.initializer
    }
    assert kept["dense1.weight"] == np.float32
    assert kept["head.weight.float16"] == np.float16
    assert np.isfinite(opened(smaller, tmp_path).probabilities(images())).all()


@pytest.mark.parametrize(
    ("name", "activation", "negative"),
    a_few(itertools.product(["cnn", "resnet"], ["relu", "gelu"], [True, False]), 2),
)
def test_remaining_layers_stay(name: str, activation: str, negative: bool, tmp_path: Path) -> None:
    content = made(name, activation=activation, negative=negative, hidden=(8, 12))
    graph = OnnxGraph(content)
    layers = fold(graph)
    folded = graph.content(graph.metadata.model_copy(update={"layers": tuple(layers)}))
    names = [layer.name for layer in layers]
    asked = [*names, "probabilities", "embedding", "ood_score"]
    before = opened(content, tmp_path).layers(images(), asked)
    after = opened(folded, tmp_path, "folded.onnx").layers(images(), asked)
    for layer in asked:
        scale = float(np.abs(before[layer]).max()) or 1.0
        np.testing.assert_allclose(after[layer] / scale, before[layer] / scale, atol=2e-5)
    assert len(names) < len(OnnxGraph(content).metadata.layers)


def test_a_map_multiplied_by_less_than_0_keeps_its_norm_behind_the_pool() -> None:
    plain, negative = (OnnxGraph(made("resnet", negative=some)) for some in (False, True))
    fold(plain)
    fold(negative)

    def norms(graph: OnnxGraph) -> int:
        return sum(node.op_type == "BatchNormalization" for node in graph.nodes)

    assert norms(plain) == 0
    assert norms(negative) == 3  # one a stage; those of the residuals have no pool before them


def test_the_table_joins_rows_and_keeps_their_sums() -> None:
    graph = OnnxGraph(made("resnet", activation="relu", hidden=(8, 12)))
    rows = {layer.name: layer for layer in fold(graph)}
    before = {layer.name: layer for layer in graph.metadata.layers}
    assert rows["stage1.relu"].kind == "Conv 3×3 same + BatchNorm + ReLU + MaxPool 2"
    assert rows["stage1.relu"].shape == before["stage1.relu"].shape
    assert rows["residual2.norm"].kind == "Conv 3×3 same + BatchNorm"
    assert not {"stage1.conv", "stage1.pool", "stage1.norm", "residual1.conv"} & set(rows)
    assert sum(row.multiply_adds for row in rows.values()) == sum(
        row.multiply_adds for row in before.values()
    )
    weight = graph.weights["stage1.relu.weight"]
    assert rows["stage1.relu"].parameters == weight.size + len(weight)


_AHEAD = ((), ("conv",), ("conv", "MaxPool"), ("conv", "Pad"))
_BEHIND = ((), ("conv",), ("Relu",), ("Pad", "conv"), ("conv", "norm"))
_BETWEEN = ("nothing", "nothing", "twice", "output")


class _Chain:
    """A network of BatchNorm among convolutions, drawn by hypothesis; its last value is ``end``."""

    channels = 4

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.random = np.random.default_rng(draw(st.integers(0, 99)))
        self.size = draw(st.lists(st.integers(8, 9), min_size=1, max_size=3))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}
        #: Values that the file puts out beside its last one.
        self.outputs: list[str] = []
        value, twice = "images", draw(st.booleans())
        steps = [*draw(st.sampled_from(_AHEAD)), "norm", *draw(st.sampled_from(_BEHIND))]
        steps.insert(draw(st.integers(1, len(steps))), draw(st.sampled_from(_BETWEEN)))
        for place, step in enumerate(steps * (1 + twice)):
            # The second time with the weights of the first.
            value = self.add(step, value, f"{step}{place}", f"{step}{place % len(steps)}")
        self.node("Identity", [value], "end")

    def node(self, op: str, inputs: list[str], name: str, **options: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{name}/{op}", **options))
        return name

    def weight(self, name: str, *shape: int, low: float = -1.0) -> str:
        self.weights.setdefault(name, self.random.uniform(low, 1.0, shape).astype(np.float32))
        return name

    def add(self, step: str, value: str, name: str, held: str) -> str:
        match step:
            case "conv":
                return self.conv(value, name, held)
            case "norm":
                low = self.draw(st.sampled_from([-1.0, 0.2]))
                names = ("weight", "bias", "running_mean", "running_var")
                lows = (low, -1.0, -1.0, 0.5)
                parts = [
                    self.weight(f"{held}.{part}", self.channels, low=low)
                    for part, low in zip(names, lows, strict=True)
                ]
                return self.node("BatchNormalization", [value, *parts], name)
            case "Pad":
                ends = [self.draw(st.integers(0, 1)) for _ in range(2 * len(self.size))]
                pads = [0, 0, *ends[: len(self.size)], 0, 0, *ends[len(self.size) :]]
                self.weights[f"{name}.pads"] = np.array(pads)
                return self.node("Pad", [value, f"{name}.pads"], name)
            case "MaxPool":
                return self.node(
                    step, [value], name, kernel_shape=[2] * len(self.size), auto_pad="SAME_UPPER"
                )
            case "twice":
                return self.node("Add", [value, self.node("Neg", [value], f"{name}.less")], name)
            case "output":
                self.outputs.append(value)
                return value
            case "nothing":
                return value
        return self.node(step, [value], name)

    def conv(self, value: str, name: str, held: str) -> str:
        draw, axes = self.draw, len(self.size)
        op = draw(st.sampled_from(["Conv", "Conv", "Conv", "ConvTranspose"]))
        group = draw(st.sampled_from([1, 1, 2, self.channels]))
        kernel = [draw(st.sampled_from([1, 2, 3])) for _ in range(axes)]
        options: dict[str, Any] = {"group": group, "kernel_shape": kernel}
        options["strides"] = [draw(st.sampled_from([1, 1, 2])) for _ in range(axes)]
        form = draw(st.sampled_from(["", "pads", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
        if form in ("pads", "NOTSET"):
            options["pads"] = [draw(st.integers(0, 1)) for _ in range(2 * axes)]
        if form.isupper():
            options["auto_pad"] = form
        if not form.startswith("SAME"):  # which ONNX Runtime computes without
            options["dilations"] = [draw(st.sampled_from([1, 1, 2])) for _ in range(axes)]
        shape = (self.channels, self.channels // group, *kernel)
        kind = "" if op == "Conv" and group == 1 else f"{op}{group}."
        inputs = [value, self.weight(f"{held}.{kind}weight", *shape)]
        if self.weights[inputs[1]].shape != shape:
            inputs[1] = self.weight(f"{name}.own.weight", *shape)
        bias = draw(st.sampled_from(["none", "left out", "some"]))
        if bias != "none":
            inputs.append("" if bias == "left out" else self.weight(f"{held}.bias", self.channels))
        return self.node(op, inputs, name, **options)

    def content(self) -> bytes:
        return _file(self.nodes, self.weights, self.size, ["end", *dict.fromkeys(self.outputs)])


def _file(
    nodes: list[onnx.NodeProto], weights: dict[str, NDArray[Any]], size: list[int], ends: list[str]
) -> bytes:
    images = ("images", TensorProto.FLOAT, ["N", 4, *size])
    outputs = dict.fromkeys(name for name in ends if name != "images")
    return model_file(nodes, weights, images, outputs, opset=18)


@settings(max_examples=200)
@given(st.composite(_Chain)())
def test_folding_changes_no_answer_whatever_the_padding(chain: _Chain) -> None:
    images = chain.random.normal(size=(2, 4, *chain.size)).astype(np.float32)
    content = chain.content()
    try:
        before = computed(content, images=images)
    except Exception:  # noqa: BLE001  maps became too small for a window
        reject()
    graph = OnnxGraph(content, layers=())
    fold(graph)
    ends = [output.name for output in graph.model.graph.output]
    after = computed(_file(graph.nodes, graph.weights, chain.size, ends), images=images)
    for old, new in zip(before.values(), after.values(), strict=True):
        scale = max(1.0, float(np.abs(old).max(initial=0)))
        np.testing.assert_allclose(new / scale, old / scale, atol=1e-4)
