"""Which layers there are lessons about, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.core.errors import ModelFileError
from opsin.inspection.lessons.explain_layer import explain_layer
from opsin.inspection.lessons.lesson_layers import lesson_layers
from opsin.inspection.lessons.lesson_terms import SENTENCES
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.importing.made_keras import drawn, image, layer, sequential, write_keras
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
    with pytest.raises(ModelFileError, match="a layer with pooling among pool; got 'conv1'"):
        explain_layer(classifier, OnnxGraph(classifier.content), drawn_image(), "pooling", "conv1")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_lesson_network(tmp_path / "classifier.onnx")
    network = OnnxGraph(path.read_bytes())
    weight = network.weights["conv1.weight"]
    broken = OnnxGraph(network.with_weights({"conv1.weight": np.full_like(weight, 3e38)}))
    with pytest.raises(ModelFileError, match="finite numbers; conv1"):
        explain_layer(opsin.Classifier(path), broken, drawn_image(), "convolution")


def test_a_model_without_layers_has_a_softmax_alone(tmp_path: Path) -> None:
    run = opsin.train("digits", model="forest", trees=5, runs=tmp_path, quiet=True)
    look = opsin.Inspection(run)
    assert look.terms() == {"softmax": ("head",)}
    lesson: Any = look.lesson("softmax")
    assert lesson.at(lesson.temperature) == pytest.approx(lesson.probabilities, abs=1e-5)


def test_an_imported_network_of_keras_is_explained(tmp_path: Path) -> None:
    config = sequential(
        image(8, 8, 1),
        layer("Conv2D", "conv", filters=3, kernel_size=3, activation="relu"),
        layer("BatchNormalization", "norm"),
        layer("MaxPooling2D", "pool", pool_size=2),
        layer("Dropout", "dropout", rate=0.2),
        layer("GlobalAveragePooling2D", "mean"),
        layer("Dense", "scores", units=10, activation="softmax"),
    )
    ones = np.ones(3, np.float32)
    file = write_keras(tmp_path / "keras.keras", config, {
        "conv": [drawn(3, 3, 1, 3), drawn(3)], "norm": [ones, drawn(3), drawn(3), ones],
        "scores": [drawn(3, 10), drawn(10)],
    })  # fmt: skip
    names = tuple("0123456789")
    run = opsin.import_model(file, classes=names, runs=tmp_path / "runs", prepare="0..1")
    look = opsin.Inspection(run)
    assert look.terms() == {
        "convolution": ("conv",), "pooling": ("pool", "mean"), "batch-normalisation": ("norm",),
        "dropout": ("dropout",), "softmax": ("scores",),
    }  # fmt: skip
    pixels = drawn_image()
    lesson: Any = look.lesson("convolution", pixels)
    own = look.classifier.layers(pixels[None], ["conv"])["conv"][0]
    assert max(lesson.total, 0) == pytest.approx(float(own[(lesson.unit, *lesson.place)]), abs=1e-5)
    dropped: Any = look.lesson("dropout", pixels)
    assert (dropped.rate, dropped.added) == (0.2, False)
    assert dropped.off == pytest.approx(look.classifier.probabilities(pixels[None])[0], abs=1e-6)
    for term in look.terms():
        assert look.lesson(term, pixels).to_json()["term"] == term
