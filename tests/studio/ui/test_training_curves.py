"""Curves of a training: each epoch, and nothing that is not a number."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("nicegui")

from opsin.studio.ui.charts import curve_series


def test_points_are_finite_and_rounded() -> None:
    one, other = curve_series({"Training": [math.nan, 0.123456, None], "Validation": [1.0]})
    assert one["data"] == [[1, None], [2, 0.1235], [3, None]]
    assert [line["name"] for line in (one, other)] == ["Training", "Validation"]
