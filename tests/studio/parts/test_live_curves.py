"""Curves show every epoch, or enough of them, and say in words what they show."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("nicegui")

from hypothesis import given, settings
from hypothesis import strategies as st

from opsin.core.artifacts.records import Epoch
from opsin.studio.parts.live_curves import POINTS, chart_options, in_words
from opsin.studio.parts.matrix import cells_of
from tests.made_epochs import made_epoch

VALUES = st.one_of(st.floats(0, 10), st.none(), st.just(float("nan")))


def event(epoch: int, value: float | None) -> Epoch:
    names = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "learning_rate")
    return made_epoch(epoch, **dict.fromkeys(names, value))


@given(st.lists(VALUES, max_size=60), st.sampled_from(["loss", "accuracy", "learning_rate"]))
def test_every_number_is_drawn_and_nothing_else(values: list[float | None], quantity: str) -> None:
    history = [event(number, value) for number, value in enumerate(values, start=1)]
    options = chart_options(quantity, history, 80)
    expected = [[n, v] for n, v in enumerate(values, start=1) if v is not None and math.isfinite(v)]
    assert all(series["data"] == expected for series in options["series"])
    assert options["xAxis"]["max"] == 80
    # Browsers know no NaN, and NiceGUI runs keys that begin with a colon.
    text = json.dumps(options, allow_nan=False)
    assert '":' not in text.replace('": ', "")


@settings(max_examples=20)
@given(st.integers(POINTS + 1, 3_000))
def test_of_a_long_training_the_first_and_the_last_epoch_are_kept(epochs: int) -> None:
    history = [event(number, 0.5) for number in range(1, epochs + 1)]
    points = chart_options("learning_rate", history, None)["series"][0]["data"]
    assert len(points) == POINTS
    assert (points[0][0], points[-1][0]) == (1, epochs)
    assert [point[0] for point in points] == sorted({point[0] for point in points})


def test_names_at_equal_heights_are_moved_apart() -> None:
    history = [event(1, 0.5), event(2, 0.9)]
    history[1] = made_epoch(2, train_accuracy=0.9, val_accuracy=0.91)
    training, validation = chart_options("accuracy", history, 2)["series"]
    assert validation["endLabel"]["offset"][1] < 0 < training["endLabel"]["offset"][1]
    history[1] = made_epoch(2, train_accuracy=0.9, val_accuracy=0.6)
    assert "offset" not in chart_options("accuracy", history, 2)["series"][0]["endLabel"]


def test_what_a_chart_shows_is_said() -> None:
    assert in_words("loss", []) == "Loss (cross entropy, nats), no epoch yet"
    assert in_words("accuracy", [event(3, 0.25)]) == (
        "Accuracy, training 0.25 in epoch 3, validation 0.25 in epoch 3"
    )


@given(
    st.integers(1, 6).flatmap(
        lambda k: st.lists(st.lists(st.integers(0, 50), min_size=k, max_size=k), min_size=k,
                           max_size=k)
    )
)  # fmt: skip
def test_a_matrix_is_blue_on_its_diagonal_and_red_by_share_elsewhere(
    confusion: list[list[int]],
) -> None:
    names = [f"class {number}" for number in range(len(confusion))]
    cells = cells_of(confusion, names)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            wanted = "right" if i == j else "wrong" if confusion[i][j] else "none"
            assert cell["kind"] == wanted
            assert 0 <= cell["depth"] <= 1
            assert f"{confusion[i][j]} of {sum(confusion[i])}" in cell["said"]
    reds = [cell["depth"] for row in cells for cell in row if cell["kind"] == "wrong"]
    assert not reds or max(reds) == 1.0
