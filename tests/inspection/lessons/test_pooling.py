"""A window's largest number, or its mean, is what the file has at that place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.inspection.lessons.lesson_layers import explain_layer
from opsin.inspection.lessons.windows import PoolingLesson
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.inspection.lessons.lesson_network import drawn_image, write_lesson_network


@pytest.mark.parametrize(
    ("pool", "takes", "shape"),
    [
        ("MaxPool", "largest", (4, 4)),
        ("AveragePool", "mean", (4, 4)),
        ("GlobalMaxPool", "largest", (1, 1)),
        ("GlobalAveragePool", "mean", (1, 1)),
        ("ReduceMax", "largest", (1, 1)),
        ("ReduceMean", "mean", (1, 1)),
    ],
)  # fmt: skip
def test_each_window_becomes_the_layers_own_number(
    pool: str, takes: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    classifier = opsin.Classifier(write_lesson_network(tmp_path / "classifier.onnx", pool=pool))
    lesson = explain_layer(classifier, OnnxGraph(classifier.content), drawn_image(), "pooling")
    assert isinstance(lesson, PoolingLesson)
    values = classifier.layers(drawn_image()[None], ["norm", "pool"])
    before, after = values["norm"][0][lesson.unit], values["pool"][0][lesson.unit]
    assert (lesson.takes, lesson.before.shape, lesson.after.shape) == (takes, (8, 8), shape)
    assert len(lesson.windows) == min(4, after.size)
    assert np.array_equal(lesson.before, before)
    for window in lesson.windows:
        (top, left), (bottom, right) = window.at, window.end
        part = before[top:bottom, left:right]
        assert np.array_equal(window.values, part)
        expected = part.max() if takes == "largest" else part.mean()
        assert float(expected) == pytest.approx(float(after[window.place]), abs=1e-5)
        assert window.output == after[window.place]
        if takes == "largest":
            assert window.picked is not None
            assert before[window.picked] == window.output
        else:
            assert window.picked is None
    assert max(window.output for window in lesson.windows) == values["pool"][0].max()
    said = json.loads(json.dumps(lesson.to_json(), allow_nan=False))
    assert len(said["windows"]) == len(lesson.windows)
    assert said["size_after"] == list(shape)
    top, left, bottom, right = lesson.covered
    assert (bottom - top, right - left) == ((4, 4) if after.size > 1 else (8, 8))
