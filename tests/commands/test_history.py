"""A run's history is a list, a table and a data frame of the same figures."""

from __future__ import annotations

import math

import pytest

from opsin.commands.runs import History
from tests.made_epochs import made_epoch

HISTORY = History(
    [
        made_epoch(1, norms={"conv1": 2.0}, val_accuracy=0.25),
        made_epoch(2, norms={"conv1": 2.5}, val_loss=math.nan, learning_rate=1e-4),
        made_epoch(3, norms={"conv1": 2.5, "head": 1.0}, best=False),
    ]
)


def test_a_frame_has_a_row_for_each_epoch() -> None:
    pd = pytest.importorskip("pandas")
    frame = HISTORY.frame()
    assert isinstance(frame, pd.DataFrame)
    assert (frame.index.name, frame.index.tolist()) == ("epoch", [1, 2, 3])
    assert frame.val_accuracy.tolist() == [0.25, 0.5, 0.5]
    assert frame.val_loss.isna().tolist() == [False, True, False]
    assert frame["norms.conv1"].tolist() == [2.0, 2.5, 2.5]
    assert math.isnan(frame["norms.head"][1])
    assert frame.best.dtype == bool
    assert list(History().frame().columns) == list(frame.columns[:-2])
