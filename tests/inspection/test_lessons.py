"""Lessons: what is computed from the numbers shown is what the file has there."""

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import opsin
from opsin.core.stored_json import plain_data
from opsin.inspection.lessons.lesson_layers import explain_layer
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.values import (
    ANSWERS,
    BatchNormalisationLesson,
    DropoutLesson,
    SoftmaxLesson,
)
from opsin.inspection.lessons.windows import ConvolutionLesson, Lesson, PoolingLesson
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.conftest import a_few
from tests.inspection.lesson_network import MIX, TEMPERATURE, drawn_image, write_lesson_network

_Lesson = TypeVar("_Lesson", bound=Lesson)


def lesson_on(
    folder: Path, term: Term, kind: type[_Lesson], layer: str | None = None, **network: Any
) -> tuple[opsin.Classifier, _Lesson]:
    """Write a network, and explain one of its layers."""
    classifier = opsin.Classifier(write_lesson_network(folder / "classifier.onnx", **network))
    graph = OnnxGraph(classifier.content)
    lesson = explain_layer(classifier, graph, drawn_image(), term, layer)
    assert isinstance(lesson, kind)
    return classifier, lesson


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_lesson_network(tmp_path / "classifier.onnx")
    network = OnnxGraph(path.read_bytes())
    weight = network.weights["conv1.weight"]
    broken = OnnxGraph(network.with_weights({"conv1.weight": np.full_like(weight, 3e38)}))
    with pytest.raises(opsin.ModelFileError, match=r"conv1.* no finite numbers"):
        explain_layer(opsin.Classifier(path), broken, drawn_image(), "convolution")


def test_a_model_without_layers_has_a_softmax_alone(tmp_path: Path) -> None:
    run = opsin.train("digits", model="forest", trees=5, runs=tmp_path, quiet=True)
    look = opsin.Inspection(run)
    assert look.terms() == {"softmax": ("head",)}
    lesson: Any = look.lesson("softmax")
    assert lesson.at(lesson.temperature) == pytest.approx(lesson.probabilities, abs=1e-5)


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
    classifier, lesson = lesson_on(
        tmp_path, "convolution", ConvolutionLesson, "conv2", conv=conv, group=group
    )
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
    classifier, lesson = lesson_on(tmp_path, "pooling", PoolingLesson, pool=pool)
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
    said = json.loads(json.dumps(plain_data(lesson), allow_nan=False))
    assert len(said["windows"]) == len(lesson.windows)
    assert said["size_after"] == list(shape)
    top, left, bottom, right = lesson.covered
    assert (bottom - top, right - left) == ((4, 4) if after.size > 1 else (8, 8))


def test_every_unit_is_brought_where_the_file_has_it(tmp_path: Path) -> None:
    classifier, lesson = lesson_on(tmp_path, "batch-normalisation", BatchNormalisationLesson)
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
    said = json.loads(json.dumps(plain_data(lesson), allow_nan=False))
    assert [each["unit"] for each in said["units"]] == list(range(6))
    assert said["total"] == pytest.approx(said["output"], abs=1e-5)


@pytest.mark.parametrize("kind", ["Dropout 0.25", ""])
def test_twenty_answers_are_those_of_the_rest_of_the_network(kind: str, tmp_path: Path) -> None:
    classifier, lesson = lesson_on(tmp_path, "dropout", DropoutLesson, dropout=kind)
    assert lesson.added is lesson.assumed is (kind == "")
    rate = 0.25 if kind else 0.5
    assert lesson.rate == rate
    assert lesson.off == pytest.approx(classifier.probabilities(drawn_image()[None])[0], abs=1e-6)
    # The rest of this network by hand: flatten, head, temperature and mix, softmax.
    weights = OnnxGraph(classifier.content).weights
    flat = classifier.layers(drawn_image()[None], ["flatten"])["flatten"][0]
    assert lesson.values.ravel() == pytest.approx(flat)
    assert lesson.on.shape == (ANSWERS, 10)
    for kept, answer in zip(lesson.kept, lesson.on, strict=True):
        changed = np.where(kept.ravel(), flat / (1 - rate), 0)
        put = (weights["head.weight"] @ changed + weights["head.bias"]) / TEMPERATURE + MIX
        expected = np.exp(put - put.max())
        assert answer == pytest.approx(expected / expected.sum(), abs=1e-5)
    assert len({kept.tobytes() for kept in lesson.kept}) == ANSWERS
    assert abs((1 - lesson.kept.mean()) - rate) < 0.05


def test_the_same_image_is_dropped_the_same_way_and_what_is_said_adds_up(tmp_path: Path) -> None:
    lesson, again = (lesson_on(tmp_path, "dropout", DropoutLesson)[1] for _ in range(2))
    assert np.array_equal(lesson.on, again.on)
    assert sum(count for _, count in lesson.counts) == ANSWERS
    assert lesson.in_its_favour == pytest.approx(lesson.on[:, lesson.classes.index(lesson.label)])
    for place, before, after in lesson.examples():
        assert after in (0, pytest.approx(before / 0.75))
        assert lesson.values.ravel()[place] == pytest.approx(before)
    said = json.loads(json.dumps(plain_data(lesson), allow_nan=False))
    assert [each["dropped"] for each in said["on"]] == [
        kept.size - kept.sum() for kept in lesson.kept
    ]


@pytest.mark.parametrize(
    ("kind", "rate", "maps"),
    [("Dropout 0", 0.0, False), ("Dropout", 0.5, False), ("Dropout2d", 0.5, True),
     ("Dropout 7", 0.5, False)],
)  # fmt: skip
def test_a_rate_not_said_is_assumed(kind: str, rate: float, maps: bool, tmp_path: Path) -> None:
    _, lesson = lesson_on(tmp_path, "dropout", DropoutLesson, dropout=kind)
    assert (lesson.rate, lesson.assumed) == (rate, kind != "Dropout 0")
    whole = lesson.kept.reshape(ANSWERS, 6, -1)
    assert (whole.all(axis=2) | ~whole.any(axis=2)).all() == (maps or rate == 0)


def test_calibration_and_mix_are_the_files(tmp_path: Path) -> None:
    classifier, lesson = lesson_on(tmp_path, "softmax", SoftmaxLesson)
    values = classifier.layers(drawn_image()[None], ["head", "probabilities"])
    assert lesson.logits == pytest.approx(values["head"][0], abs=1e-6)
    assert lesson.temperature == pytest.approx(TEMPERATURE)
    assert lesson.mix == pytest.approx(MIX, abs=1e-6)
    put = values["head"][0].astype(np.float64) / TEMPERATURE + MIX
    expected = np.exp(put) / np.exp(put).sum()
    assert lesson.at(lesson.temperature) == pytest.approx(values["probabilities"][0], abs=1e-6)
    assert lesson.probabilities == pytest.approx(expected, abs=1e-6)
    assert lesson.exponentials(lesson.temperature).max() == 1
    powers = lesson.exponentials(lesson.temperature)
    assert powers / powers.sum() == pytest.approx(expected)
    assert lesson.at(1).max() > lesson.at(5).max()
    said = json.loads(json.dumps(plain_data(lesson), allow_nan=False))
    shares = [each["probability"] for each in said["classes"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(each["total"] for each in said["classes"]) == pytest.approx(1)
