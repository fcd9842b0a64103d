"""The model of many machines agrees with a simulation, and says what it should at its ends."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.scale import (
    WAYS,
    Assumed,
    Measured,
    Plan,
    elapsed,
    folders,
    in_one_go,
    price,
    ray,
    shards,
    tables,
    task_seconds,
)
from benchmarks.scale_simulation import Simulation, simulated

# Nodes that fail every hundred hours, so that failures count.
_FRAIL = Assumed(lifetime=100 * 3600)
_SURE = Assumed(lifetime=1e15, spread=1e-3)


@pytest.mark.parametrize(
    ("way", "images", "nodes"),
    [
        ("shards", 10**6, 10),
        ("shards", 10**8, 100),
        ("folders", 10**9, 100),
        ("folders", 10**8, 1_000),
        ("ray", 10**6, 10),
        ("ray", 10**6, 1_000),
    ],
)
def test_the_formulas_agree_with_simulations(way: str, images: int, nodes: int) -> None:
    plan = WAYS[way](Measured(), _FRAIL, images, nodes)
    mean, error, _ = simulated(plan, _FRAIL)
    assert elapsed(plan, _FRAIL) == pytest.approx(mean, rel=0.04, abs=2 * error)


@pytest.mark.parametrize("each", [1, 2, 8, 32])
def test_further_tasks_are_taken_by_whoever_is_done(each: int) -> None:
    plan = Plan(workers=100, tasks=100 * each, before=500, work=20_000, after=100)
    mean, error, failures = simulated(plan, _FRAIL)
    assert failures > each
    assert elapsed(plan, _FRAIL) == pytest.approx(mean, rel=0.03, abs=2 * error)


def test_what_is_done_in_one_go_begins_anew_at_each_failure() -> None:
    plan = Plan(workers=1, tasks=1, before=1.0, merge=2 * _FRAIL.lifetime)
    mean, error, _ = simulated(plan, _FRAIL, 400)
    assert in_one_go(plan.merge, _FRAIL) == pytest.approx(mean, abs=3 * error)
    assert in_one_go(1e9, _FRAIL) == math.inf


def test_the_work_of_a_task_is_kept() -> None:
    kept = Plan(workers=1, tasks=1, before=10, work=_FRAIL.lifetime)
    lost = Plan(workers=1, tasks=1, before=10 + _FRAIL.lifetime)
    assert task_seconds(kept, _FRAIL) < 1.01 * _FRAIL.lifetime
    assert task_seconds(lost, _FRAIL) > 1.7 * _FRAIL.lifetime
    assert Simulation(kept, _FRAIL, 0).run() < Simulation(lost, _FRAIL, 1).run()


def test_a_failure_costs_what_comes_before_the_work_once_more() -> None:
    hours = _FRAIL.lifetime
    there = replace(_FRAIL, spread=1e-3)
    plan = Plan(workers=1, tasks=1, before=hours / 2, work=hours, after=hours / 5)
    mean, error, _ = simulated(plan, there, 2_000)
    assert error < 0.03 * mean
    assert task_seconds(plan, there) == pytest.approx(mean, abs=3 * error)


def test_a_shard_lists_all_names_once() -> None:
    measured = replace(Measured(), start=0)
    plan = shards(measured, _SURE, 3 * 10**6, 3)
    assert plan.before * measured.listed == pytest.approx(3 * 10**6)
    assert plan.after == 0
    assert plan.work == pytest.approx(10**6 * measured.image / _SURE.cores)
    half = shards(measured, _SURE, 10**8, round(measured.listed * measured.image / 2))
    assert half.work == pytest.approx(half.before, rel=0.02)


def test_one_node_needs_the_sum_of_its_images() -> None:
    measured, images = Measured(), 10**6
    for way in (shards, folders):
        seconds = elapsed(way(measured, _SURE, images, 1), _SURE)
        expected = measured.start + images / measured.names + images * measured.image / _SURE.cores
        assert seconds == pytest.approx(expected, rel=0.01)


def test_the_one_writer_of_a_cluster_is_its_limit() -> None:
    measured = Measured()
    assert measured.driver is not None
    plan = ray(measured, _SURE, 10**8, 10_000)
    alone = measured.start + 10**8 / measured.names + 10**8 * measured.driver
    assert elapsed(plan, _SURE) == pytest.approx(alone, rel=0.01)


def test_a_price_is_that_of_nodes_and_requests() -> None:
    plan = Plan(workers=10, tasks=10, before=3600, lists=10_000)
    there = replace(_SURE, price=2.0, get_price=0.5, list_price=3.0)
    assert price(plan, there, 20_000, 10) == pytest.approx(2 * 10 + 0.5 * 20 + 3 * 10, rel=0.01)


def test_the_page_shows_what_the_formulas_give() -> None:
    page = Path(__file__).parents[2] / "docs" / "understand" / "scale.md"
    shown = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in tables(Measured(), Assumed()) if line not in shown] == []
