"""A file in fewer bits is a classifier as before: same inputs, outputs and, nearly, answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from opsin.onnx_files import quantize
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.quantize import to_fp16, to_int8
from tests.onnx_files.made_files import images, made, opened

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
