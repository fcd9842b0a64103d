"""Curves of a training: finite points alone, few of many, on an axis as long as the training."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("nicegui")

from opsin.studio.ui.live_training import log_line
from opsin.studio.ui.training_curves import POINTS, curve_options, points_of
from tests.made_epochs import made_epoch

LOSS = (("train_loss", "training", "#000"), ("val_loss", "validation", "#fff"))


def test_points_are_finite_rounded_and_few() -> None:
    history = [made_epoch(epoch, train_loss=1 / epoch) for epoch in range(1, 5_001)]
    points = points_of(history, "train_loss")
    assert len(points) == POINTS
    assert (points[0], points[-1]) == ([1.0, 1.0], [5_000.0, 0.0002])
    gap = [made_epoch(1, train_loss=math.nan), made_epoch(2, train_loss=0.123456)]
    assert points_of(gap, "train_loss") == [[2.0, 0.1235]]


def test_the_axis_is_as_long_as_the_training() -> None:
    options = curve_options(LOSS, [made_epoch(1), made_epoch(2)], 30)
    assert options["xAxis"]["max"] == 30
    assert [line["name"] for line in options["series"]] == ["training", "validation"]
    assert curve_options(LOSS, [], None)["xAxis"]["max"] == 1


def test_a_log_keeps_its_columns_and_hides_nothing() -> None:
    assert log_line("epoch   loss\u202e") == "epoch   loss"
