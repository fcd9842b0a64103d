"""What Prometheus is told: counts that add up, drift that can be read, names that are hostile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from prometheus_client.parser import text_string_to_metric_families

from opsin.core.files import MISSING
from opsin.core.metadata import Reject
from opsin.server.metrics import WINDOW, MetricsMiddleware, ServerMetrics, drift, training_mix
from opsin.server.models import ModelFile, ServedModel
from tests.made_classifier import metadata


def served(
    classes: tuple[str, ...], mix: tuple[float, ...] | None, refused: float = 0
) -> ServedModel:
    reject = Reject(max_ood_score=0.5, rate=refused, images=100) if refused else None
    about = metadata().model_copy(update={"classes": classes, "reject": reject})
    return ServedModel("demo", ModelFile(Path("m"), b"", MISSING), about, mix=mix)


def figures(metrics: ServerMetrics, **known: ServedModel) -> dict[tuple[Any, ...], float]:
    text = metrics.text(known).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_was_told_is_counted() -> None:
    metrics = ServerMetrics()
    metrics.batch("demo", 3)
    for reason in ("overloaded", "overloaded"):
        metrics.refused(reason)
    metrics.answered("demo", "cat", 0.75)
    metrics.answered("demo", "cat", 0.75)
    metrics.answered("demo", "none of these", 0.75)
    metrics.worker_died()
    metrics.reloaded("demo", True)
    metrics.reloaded("demo", False)
    found = figures(metrics)
    expected = {
        ("opsin_batch_images_sum", "demo"): 3,
        ("opsin_batch_images_count", "demo"): 1,
        ("opsin_refusals_total", "overloaded"): 2,
        ("opsin_refusals_total", "expired"): 0,
        ("opsin_answers_total", "cat", "demo"): 2,
        ("opsin_answers_total", "none of these", "demo"): 1,
        ("opsin_confidence_sum", "demo"): 2.25,
        ("opsin_confidence_count", "demo"): 3,
        ("opsin_worker_deaths_total",): 1,
        ("opsin_reloads_total", "demo", "true"): 1,
        ("opsin_reloads_total", "demo", "false"): 1,
    }
    assert {key: found[key] for key in expected} == expected


def test_the_drift_is_that_of_the_newest_answers() -> None:
    metrics, demo = ServerMetrics(), served(("a", "b"), (0.5, 0.5))
    assert ("opsin_drift", "demo") not in figures(metrics, demo=demo)
    for _ in range(WINDOW):
        metrics.answered("demo", "a", 0.75)
    assert figures(metrics, demo=demo)[("opsin_drift", "demo")] == 0.5
    for place in range(WINDOW):
        metrics.answered("demo", "ab"[place % 2], 0.75)
    found = figures(metrics, demo=demo)
    assert found[("opsin_drift", "demo")] == 0
    assert found[("opsin_device", "cpu", "demo")] == 1
    assert found[("opsin_training_share", "a", "demo")] == 0.5
    assert found[("opsin_answers_total", "a", "demo")] == 1.5 * WINDOW
    assert 0 < found[("opsin_drift_by_chance", "demo")] < 0.02
    assert ("opsin_drift", "demo") not in figures(metrics, demo=served(("a", "b"), None))
    metrics.reloaded("demo", True)
    found = figures(metrics, demo=demo)
    assert ("opsin_drift", "demo") not in found
    assert found[("opsin_answers_total", "a", "demo")] == 1.5 * WINDOW


def test_what_is_to_be_expected_or_chance_is_no_drift() -> None:
    mix = training_mix(served(("a", "b"), (0.75, 0.25), refused=0.2))
    assert mix == pytest.approx({"a": 0.6, "b": 0.2, "none of these": 0.2})
    distance, _ = drift({"a": 60, "b": 20, "none of these": 20}, mix)
    assert distance == pytest.approx(0)
    random = np.random.default_rng(0)
    shares = np.array([0.5, 0.2, 0.2, 0.1])
    training = dict(zip("abcd", shares, strict=True))
    draws = random.multinomial(500, shares, size=400)
    found = [drift(dict(zip("abcd", draw.tolist(), strict=True)), training) for draw in draws]
    assert np.mean([apart for apart, _ in found]) == pytest.approx(found[0][1], rel=0.05)


_MIX = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1)


@given(_MIX, _MIX)
def test_the_distance_is_one(first: dict[str, int], second: dict[str, int]) -> None:
    def share(mix: dict[str, int]) -> dict[str, float]:
        return {label: count / sum(mix.values()) for label, count in mix.items()}

    there, back = drift(first, share(second))[0], drift(second, share(first))[0]
    assert there == pytest.approx(back)
    assert -1e-9 <= there <= 1 + 1e-9
    assert (there > 1e-9) == (share(first) != pytest.approx(share(second)))
    assert drift(first, share(first))[0] == pytest.approx(0)


def test_names_that_are_no_unicode_are_written() -> None:
    metrics = ServerMetrics()
    metrics.answered("demo", "a\udcff", 0.75)
    found = figures(metrics, demo=served(("a\udcff", "b"), (0.5, 0.5)))
    assert found[("opsin_answers_total", "a\\udcff", "demo")] == 1
    assert found[("opsin_training_share", "a\\udcff", "demo")] == 0.5
    assert found[("opsin_drift", "demo")] == 0.5


class _Route:
    path = "/v1/models/{model}:predict-image"


def test_requests_are_counted_by_pattern_and_known_model_only() -> None:
    metrics = ServerMetrics()
    ends = iter([200, 404, 404, 0, None])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        status = next(ends)
        if scope["path"] != "/made-up":
            scope["route"] = _Route()
            scope["path_params"] = {"model": scope["path"]}
        if status is None:
            raise RuntimeError
        if status:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body"})

    async def ask(path: str) -> None:
        async def none(*_: Any) -> None:
            return None

        scope = {"type": "http", "path": path}
        await MetricsMiddleware(app, metrics, {"demo": None})(scope, none, none)  # type: ignore[arg-type]

    asyncio.run(ask("demo"))
    asyncio.run(ask("../../etc"))
    asyncio.run(ask("/made-up"))
    asyncio.run(ask("demo"))  # the client had gone, which is no fault of the server's
    with pytest.raises(RuntimeError):
        asyncio.run(ask("demo"))
    found = figures(metrics)
    counted = {key: value for key, value in found.items() if key[0] == "opsin_requests_total"}
    assert counted == {
        ("opsin_requests_total", "demo", _Route.path, "200"): 1,
        ("opsin_requests_total", "", _Route.path, "404"): 1,
        ("opsin_requests_total", "", "other", "404"): 1,
        ("opsin_requests_total", "demo", _Route.path, "499"): 1,
        ("opsin_requests_total", "demo", _Route.path, "500"): 1,
    }
