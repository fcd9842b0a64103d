"""The chosen recipe can be built and trained, fits its time, and keeps what the user gave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from opsin.commands.train.network import choose
from opsin.core.recipe import DataRecipe, Recipe
from opsin.models import build_network
from opsin.models.architectures import MODELS
from opsin.models.build_network import Statistics
from opsin.models.resolve import resolve

pytestmark = pytest.mark.torch

SHAPES = st.tuples(st.integers(4, 512), st.integers(4, 512), st.sampled_from([1, 3]))
COUNTS = st.one_of(
    st.lists(st.integers(2, 400), min_size=1, max_size=30),
    st.builds(lambda each, classes: [each] * classes, st.integers(2, 10_000), st.integers(1, 1000)),
)
DEVICES = st.sampled_from(["cpu", "cuda", "mps"])


def resolved(shape: tuple[int, int, int], counts: list[int], **options: Any) -> Recipe:
    data = DataRecipe.of("images", size=shape[:2])
    return choose(data, shape=shape, images=sum(counts), classes=len(counts), **options)[0]


@given(shape=SHAPES, counts=COUNTS, device=DEVICES)
def test_every_choice_can_be_built(
    shape: tuple[int, int, int], counts: list[int], device: str
) -> None:
    model = resolved(shape, counts, device=device).model
    statistics = Statistics([128.0] * shape[2], [64.0] * shape[2])
    with torch.device("meta"):
        network = build_network.build(model, shape, len(counts), statistics=statistics)
    assert network.get_submodule("head").out_features == len(counts)


@pytest.mark.parametrize("name", MODELS)
@given(
    larger=st.tuples(st.integers(0, 32), st.integers(0, 32)),
    channels=st.sampled_from([1, 3]),
    hidden=st.lists(st.integers(1, 20), min_size=1, max_size=3).map(tuple),
    classes=st.integers(1, 20),
)
def test_multiply_adds_are_those_of_the_network(
    name: str, larger: tuple[int, int], channels: int, hidden: tuple[int, ...], classes: int
) -> None:
    least = max(8, MODELS[name].min_side)
    shape = (least + larger[0], least + larger[1], channels)
    model = resolve(DataRecipe.of("x"), model=name, hidden=hidden).model
    network = build_network.build(
        model, shape, classes, statistics=Statistics([1.0] * channels, [1.0] * channels)
    )
    layers = build_network.summarise(network, shape)
    assert MODELS[name].cost(hidden, shape, classes) == sum(each.multiply_adds for each in layers)


@pytest.mark.parametrize("side", [64, 512])
def test_the_time_is_bounded(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsin.commands.train.network.cores", lambda: 2)
    recipe = resolved((side, side, 3), [165] * 10)
    work = MODELS[recipe.model.name].cost(recipe.model.hidden, (side, side, 3), 10)
    assert 3 * work * 1_650 * recipe.training.epochs < 5 * 60 * 100e9


def test_a_budget_makes_the_network_smaller() -> None:
    sizes = [resolved((64, 64, 3), [200] * 10, seconds=s).model.hidden[0] for s in (20, 3_600)]
    assert sizes[0] < sizes[1]


@given(
    shape=SHAPES,
    counts=COUNTS,
    given=st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 50),
            "batch_size": st.integers(2, 512),
            "learning_rate": st.floats(1e-4, 1.0),
            "hidden": st.lists(st.integers(1, 64), min_size=1, max_size=2).map(tuple),
            "rotate": st.floats(0, 30),
        },
    ),
)
def test_what_was_given_is_kept(
    shape: tuple[int, int, int], counts: list[int], given: dict[str, Any]
) -> None:
    recipe = resolved(shape, counts, requested=given)
    kept = {**dict(recipe.model), **dict(recipe.training)}
    assert {name: kept[name] for name in given} == given
