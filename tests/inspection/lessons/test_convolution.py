"""A window times its kernel is what the file has at that place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.inspection.lessons.lesson_layers import explain_layer
from opsin.inspection.lessons.windows import ConvolutionLesson
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.inspection.lessons.lesson_network import drawn_image, write_lesson_network
from tests.variants import a_few


def lesson_of(path: Path, layer: str | None = None) -> tuple[opsin.Classifier, ConvolutionLesson]:
    classifier = opsin.Classifier(path)
    network = OnnxGraph(classifier.content)
    lesson = explain_layer(classifier, network, drawn_image(), "convolution", layer)
    assert isinstance(lesson, ConvolutionLesson)
    return classifier, lesson


@pytest.mark.parametrize("group", a_few([2, 1], 1))
@pytest.mark.parametrize(
    "conv",
    [
        {},
        {"pads": [0, 0, 0, 0]},
        {"strides": [2, 2]},
        {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
        {"pads": [0, 1, 2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"kernel_shape": [8, 8], "pads": [4, 4, 4, 4], "strides": [3, 3]},
    ],
    ids=str,
)  # fmt: skip
def test_the_sum_is_the_layers_own_number(conv: dict[str, Any], group: int, tmp_path: Path) -> None:
    path = write_lesson_network(tmp_path / "classifier.onnx", conv=conv, group=group)
    classifier, lesson = lesson_of(path, "conv2")
    values = classifier.layers(drawn_image()[None], ["conv1", "conv2"])
    own = values["conv2"][0]
    assert lesson.after.shape == own.shape[1:]
    row, column = lesson.place
    # What is recomputed here from what is shown, against the value fetched from the file.
    total = (lesson.window.astype(np.float64) * lesson.kernel).sum() + lesson.bias
    assert total == pytest.approx(float(own[lesson.unit, row, column]), abs=1e-5)
    assert lesson.total == pytest.approx(lesson.output, abs=1e-5)
    assert sum(lesson.sums) + lesson.bias == pytest.approx(total)
    # And the window is what the layer before puts out there, 0 in the padding.
    seen = values["conv1"][0][lesson.first : lesson.first + len(lesson.window)]
    step = conv.get("dilations", [1, 1])[0]
    for (down, across), inside in np.ndenumerate(lesson.inside):
        y, x = lesson.at[0] + step * down, lesson.at[1] + step * across
        assert inside == (0 <= y < 8 and 0 <= x < 8)
        expected = seen[:, y, x] if inside else np.zeros(len(seen))
        assert lesson.window[:, down, across] == pytest.approx(expected, abs=1e-6)


def test_json_holds_the_numbers(tmp_path: Path) -> None:
    _, lesson = lesson_of(write_lesson_network(tmp_path / "classifier.onnx", group=2), "conv2")
    said = json.loads(json.dumps(lesson.to_json(), allow_nan=False))
    assert np.shape(said["window"]) == np.shape(said["kernel"]) == (2, 3, 3)
    total = (np.array(said["window"]) * said["kernel"]).sum() + said["bias"]
    assert total == pytest.approx(said["output"], abs=1e-5)
    assert said["maps"] in ([0, 1], [2, 3])
