"""How a job ended is told from its files alone, whoever saw it end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from opsin.studio.jobs.job import State, new_job
from opsin.studio.jobs.queue import Queue
from tests.studio.made_jobs import TRAINS, python, until

STOPPED = {"run": "/runs/one", "training": {"stopped": True}}


def refusal(expected: str, received: str) -> dict[str, object]:
    parts = {"expected": expected, "received": received, "advice": "Again."}
    return {"error": {"kind": "OpsinError", **parts}}


CTRL_C = refusal("to finish", "Ctrl-C stopped it")


@pytest.mark.parametrize(
    ("state", "said", "status", "expected"),
    [
        # The studio was started since: nobody knows the status.
        ("running", STOPPED, None, "stopped"),
        ("stopping", STOPPED, None, "stopped"),
        ("pausing", STOPPED, None, "paused"),
        ("running", CTRL_C, None, "stopped"),
        ("pausing", CTRL_C, None, "paused"),
        ("pausing", None, None, "paused"),
        ("running", None, None, "failed"),
        ("running", {"run": "/runs/one", "training": {"stopped": False}}, None, "done"),
        # It was over before the request reached it.
        ("stopping", {"run": "/runs/one", "training": {"stopped": False}}, 0, "done"),
        ("running", {"run": "/runs/one", "training": {"diverged": "a loss"}}, 1, "failed"),
        ("stopping", refusal("room", "none"), 1, "failed"),
        ("running", None, 0, "failed"),
        ("running", {"answer": 42}, 0, "done"),
    ],
)
def test_an_end_is_told_from_the_files(
    tmp_path: Path, state: State, said: object, status: int | None, expected: State
) -> None:
    job = replace(new_job("train", "x", ["x"]), state=state, pid=1, started=1.0)
    (tmp_path / "out.json").write_text(json.dumps(said) if said else "")
    now = job.at_its_end(tmp_path, status)
    assert now.state == expected
    unasked = state == "running" and expected == "stopped"
    unkept = state == "pausing" and said is None
    assert bool(now.cause) == (expected == "failed" or unasked or unkept)


def test_a_run_that_was_deleted_is_not_trained_anew(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "home", runs=tmp_path / "runs")
    job = queue.add("train", "x", python(TRAINS, str(queue.runs)))
    until(queue, lambda: any(queue.runs.glob("*/status.json")))
    folder = queue.runs / str(queue.get(job.id).run)
    queue.stop(job.id)
    until(queue, lambda: queue.get(job.id).over)
    queue.resume(job.id)
    folder.rename(tmp_path / "runs" / ".deleted")
    until(queue, lambda: queue.get(job.id).over)
    assert queue.get(job.id).state == "failed"
    assert f"{folder.name} is gone" in str(queue.get(job.id).cause)
