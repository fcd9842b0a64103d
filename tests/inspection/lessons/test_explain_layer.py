"""Which layers there are lessons about, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.core.errors import ModelFileError
from opsin.inspection.lessons.lesson_layers import explain_layer, lesson_layers
from opsin.inspection.lessons.lesson_terms import SENTENCES
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.inspection.lessons.lesson_network import drawn_image, write_lesson_network


def terms_of(network: OnnxGraph) -> dict[str, list[str]]:
    return {term: [each.name for each in layers] for term, layers in lesson_layers(network).items()}


def test_every_term_names_its_layers(tmp_path: Path) -> None:
    path = write_lesson_network(tmp_path / "classifier.onnx")
    found = terms_of(OnnxGraph(path.read_bytes()))
    assert list(found) == list(SENTENCES)
    assert found == {
        "convolution": ["conv1", "conv2"], "pooling": ["pool"], "batch-normalisation": ["norm"],
        "dropout": ["dropout"], "softmax": ["head"],
    }  # fmt: skip


def test_a_layer_of_another_kind_is_refused(tmp_path: Path) -> None:
    classifier = opsin.Classifier(write_lesson_network(tmp_path / "classifier.onnx"))
    with pytest.raises(ModelFileError, match="no layer with pooling 'conv1' among pool"):
        explain_layer(classifier, OnnxGraph(classifier.content), drawn_image(), "pooling", "conv1")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_lesson_network(tmp_path / "classifier.onnx")
    network = OnnxGraph(path.read_bytes())
    weight = network.weights["conv1.weight"]
    broken = OnnxGraph(network.with_weights({"conv1.weight": np.full_like(weight, 3e38)}))
    with pytest.raises(ModelFileError, match=r"conv1.* no finite numbers"):
        explain_layer(opsin.Classifier(path), broken, drawn_image(), "convolution")


def test_a_model_without_layers_has_a_softmax_alone(tmp_path: Path) -> None:
    run = opsin.train("digits", model="forest", trees=5, runs=tmp_path, quiet=True)
    look = opsin.Inspection(run)
    assert look.terms() == {"softmax": ("head",)}
    lesson: Any = look.lesson("softmax")
    assert lesson.at(lesson.temperature) == pytest.approx(lesson.probabilities, abs=1e-5)
