"""Dropout off is the classifier's own answer; on, only what is kept reaches the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.inspection.lessons.lesson_layers import explain_layer
from opsin.inspection.lessons.values import ANSWERS, DropoutLesson
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.inspection.lessons.lesson_network import (
    MIX,
    TEMPERATURE,
    drawn_image,
    write_lesson_network,
)


def lesson_of(path: Path) -> tuple[opsin.Classifier, DropoutLesson]:
    classifier = opsin.Classifier(path)
    lesson = explain_layer(classifier, OnnxGraph(classifier.content), drawn_image(), "dropout")
    assert isinstance(lesson, DropoutLesson)
    return classifier, lesson


@pytest.mark.parametrize("kind", ["Dropout 0.25", ""])
def test_twenty_answers_are_those_of_the_rest_of_the_network(kind: str, tmp_path: Path) -> None:
    classifier, lesson = lesson_of(write_lesson_network(tmp_path / "c.onnx", dropout=kind))
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
    path = write_lesson_network(tmp_path / "classifier.onnx")
    lesson, again = lesson_of(path)[1], lesson_of(path)[1]
    assert np.array_equal(lesson.on, again.on)
    assert sum(count for _, count in lesson.counts) == ANSWERS
    assert lesson.in_its_favour == pytest.approx(lesson.on[:, lesson.classes.index(lesson.label)])
    for place, before, after in lesson.examples():
        assert after in (0, pytest.approx(before / 0.75))
        assert lesson.values.ravel()[place] == pytest.approx(before)
    said = json.loads(json.dumps(lesson.to_json(), allow_nan=False))
    assert [each["dropped"] for each in said["on"]] == [
        kept.size - kept.sum() for kept in lesson.kept
    ]


@pytest.mark.parametrize(
    ("kind", "rate", "maps"),
    [("Dropout 0", 0.0, False), ("Dropout", 0.5, False), ("Dropout2d", 0.5, True),
     ("Dropout 7", 0.5, False)],
)  # fmt: skip
def test_a_rate_that_the_file_does_not_say_is_assumed(
    kind: str, rate: float, maps: bool, tmp_path: Path
) -> None:
    _, lesson = lesson_of(write_lesson_network(tmp_path / "classifier.onnx", dropout=kind))
    assert (lesson.rate, lesson.assumed) == (rate, kind != "Dropout 0")
    whole = lesson.kept.reshape(ANSWERS, 6, -1)
    assert (whole.all(axis=2) | ~whole.any(axis=2)).all() == (maps or rate == 0)
