"""Logits over the temperature, and the mix, are what the file's probabilities come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.inspection.lessons.lesson_layers import explain_layer
from opsin.inspection.lessons.values import SoftmaxLesson
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.inspection.lessons.lesson_network import (
    MIX,
    TEMPERATURE,
    drawn_image,
    write_lesson_network,
)


def lesson_of(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> SoftmaxLesson:
    classifier = opsin.Classifier(path)
    lesson = explain_layer(classifier, OnnxGraph(classifier.content), pixels, "softmax")
    assert isinstance(lesson, SoftmaxLesson)
    return lesson


def test_calibration_and_mix_are_the_files(tmp_path: Path) -> None:
    path = write_lesson_network(tmp_path / "classifier.onnx")
    lesson, classifier = lesson_of(path, drawn_image()), opsin.Classifier(path)
    values = classifier.layers(drawn_image()[None], ["head", "probabilities"])
    assert lesson.logits == pytest.approx(values["head"][0], abs=1e-6)
    assert lesson.temperature == pytest.approx(TEMPERATURE)
    assert lesson.mix == pytest.approx(MIX, abs=1e-6)
    put = values["head"][0].astype(np.float64) / TEMPERATURE + MIX
    expected = np.exp(put) / np.exp(put).sum()
    assert lesson.at(lesson.temperature) == pytest.approx(values["probabilities"][0], abs=1e-6)
    assert lesson.probabilities == pytest.approx(expected, abs=1e-6)
    assert lesson.exponentials.max() == 1
    assert lesson.exponentials / lesson.exponentials.sum() == pytest.approx(expected)
    assert lesson.at(1).max() > lesson.at(5).max()
    said = json.loads(json.dumps(lesson.to_json(), allow_nan=False))
    shares = [each["probability"] for each in said["classes"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(each["total"] for each in said["classes"]) == pytest.approx(1)
