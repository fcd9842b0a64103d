"""Curves of a training: each epoch of a short one, few of many, nothing that is not a number."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("nicegui")

from opsin.studio.ui.charts import MOST_POINTS, curve_series


def test_points_are_finite_rounded_and_few() -> None:
    short, long = curve_series(
        {"Training": [math.nan, 0.123456, None], "Validation": [1 / at for at in range(1, 5_001)]}
    )
    assert short["data"] == [[1, None], [2, 0.1235], [3, None]]
    points = long["data"]
    assert MOST_POINTS / 2 < len(points) <= MOST_POINTS + 1
    assert (points[0], points[-1]) == ([1, 1.0], [5_000, 0.0002])
    assert [line["name"] for line in (short, long)] == ["Training", "Validation"]
