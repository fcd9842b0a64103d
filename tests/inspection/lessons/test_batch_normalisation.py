"""What comes in, less the mean, over the deviation, scaled and shifted, is what the file has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.inspection.lessons.lesson_layers import explain_layer
from opsin.inspection.lessons.values import BatchNormalisationLesson
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.inspection.lessons.lesson_network import drawn_image, write_lesson_network


def test_every_unit_is_brought_where_the_file_has_it(tmp_path: Path) -> None:
    classifier = opsin.Classifier(write_lesson_network(tmp_path / "classifier.onnx"))
    network = OnnxGraph(classifier.content)
    lesson = explain_layer(classifier, network, drawn_image(), "batch-normalisation")
    assert isinstance(lesson, BatchNormalisationLesson)
    values = classifier.layers(drawn_image()[None], ["conv2", "norm"])
    before, after = values["conv2"][0].astype(np.float64), values["norm"][0]
    assert np.allclose(lesson.before, before, atol=1e-6)
    mean, deviation, scale, shift = (
        np.asarray(each)[:, None, None]
        for each in (lesson.mean, lesson.deviation, lesson.scale, lesson.shift)
    )
    assert np.allclose((before - mean) / deviation * scale + shift, after, atol=1e-5)
    assert lesson.place is not None
    assert lesson.total == pytest.approx(float(after[(lesson.unit, *lesson.place)]), abs=1e-5)
    assert lesson.output == after.max()
    assert lesson.rows(2)[0][0] == lesson.unit
    assert sorted(unit for unit, _ in lesson.rows()) == list(range(6))
    means, deviations = lesson.spread(lesson.after)
    assert np.allclose(means, after.mean(axis=(1, 2)), atol=1e-5)
    assert np.allclose(deviations, after.std(axis=(1, 2)), atol=1e-5)
    said = json.loads(json.dumps(lesson.to_json(), allow_nan=False))
    assert [each["unit"] for each in said["units"]] == list(range(6))
    assert said["total"] == pytest.approx(said["output"], abs=1e-5)
