"""The graph shows every layer once, in order, blocks together."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("nicegui")

from hypothesis import given
from hypothesis import strategies as st

from opsin.core.metadata import Layer
from opsin.studio.parts.network_graph import columns_of, in_words

NAMES = st.lists(
    st.tuples(st.sampled_from(["", "stage1.", "stage2.", "a.b."]), st.integers(0, 99)).map(
        lambda each: f"{each[0]}layer{each[1]}"
    ),
    max_size=30,
)


def a_layer(**changes: object) -> Layer:
    said = {"kind": "", "shape": (), "parameters": 0, "trainable": 0, "multiply_adds": 0}
    return Layer.model_validate({**said, **changes})


@given(NAMES)
def test_every_layer_is_in_one_column_in_order(names: list[str]) -> None:
    columns = columns_of([a_layer(name=name) for name in names])
    assert [layer.name for column in columns for layer in column] == names
    for column in columns:
        blocks = {layer.name.rpartition(".")[0] for layer in column}
        assert len(blocks) == 1
        assert blocks != {""} or len(column) <= 4
    ends = [(a[-1], b[0]) for a, b in itertools.pairwise(columns)]
    for before, after in ends:  # a block is never cut
        one, other = (layer.name.rpartition(".")[0] for layer in (before, after))
        assert one != other or one == ""


def test_layers_are_said_in_words() -> None:
    head = a_layer(name="head", kind="Dense", shape=(10,), parameters=650)
    assert in_words(head) == "head: Dense, 10 numbers, 650 parameters"
    hostile = a_layer(name="x\u202e\x00", kind="<b>", shape=(1, 8, 8))
    assert in_words(hostile) == "x: <b>, 1 map of 8×8"
