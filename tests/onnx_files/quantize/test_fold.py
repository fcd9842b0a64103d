"""A folded file answers as before, and every layer that it names is what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.quantize.fold import fold
from tests.onnx_files.quantize.made_files import images, made, opened
from tests.variants import a_few

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("activation", a_few(["relu", "gelu"], 1))
@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_the_layers_that_are_left_say_what_they_said(
    name: str, activation: str, negative: bool, tmp_path: Path
) -> None:
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


def test_a_norm_before_a_convolution_with_padding_stays() -> None:
    graph = OnnxGraph(made("cnn", hidden=(8,)))
    conv = graph.maker("block1.conv2")
    assert conv is not None
    for each in conv.attribute:
        if each.name == "pads":
            each.ints[:] = [1, 1, 1, 1]
    fold(graph)
    assert sum(node.op_type == "BatchNormalization" for node in graph.nodes) == 1
