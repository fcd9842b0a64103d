"""The watcher tells all windows what changed, and outlives what fails."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("nicegui")

from nicegui import Event

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.studio.jobs.queue import Queue
from opsin.studio.runs.run_index import RunIndex, opaque
from opsin.studio.watch import look, watch


def studio(folder: Path) -> tuple[Any, list[str]]:
    """Return what the watcher looks at, all of it real, and the list of what it tells."""
    told: list[str] = []
    changed = Event[str]()
    changed.subscribe(told.append)
    jobs, runs = Queue(folder / "home", runs=folder / "runs"), RunIndex(folder / "runs")
    return SimpleNamespace(jobs=jobs, runs=runs, changed=changed), told


def test_only_what_changed_is_told(tmp_path: Path) -> None:
    parts, told = studio(tmp_path)
    asyncio.run(look(parts.runs, parts.jobs, parts.changed))
    assert told == []
    run = RunDirectory.create(tmp_path / "runs", "one")
    run.recipe.write_text(json.dumps({"data": {"sources": ["digits"]}, "model": {"name": "mlp"}}))
    run.set_status("done")
    job = parts.jobs.add("plan", "x", [sys.executable, "-S", "-c", "print('{}')"])
    asyncio.run(look(parts.runs, parts.jobs, parts.changed))
    assert told == ["jobs", "runs", f"run:{opaque(run.path.name)}"]
    while not parts.jobs.get(job.id).over:
        parts.jobs.tick()
    told.clear()
    asyncio.run(look(parts.runs, parts.jobs, parts.changed))
    assert told == []


def test_what_fails_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts, told = studio(tmp_path)
    looks = []

    def fails() -> set[str]:
        looks.append(1)
        if len(looks) < 4:
            raise OSError("the disk is away")
        return {"one"}

    parts.runs.scan = fails

    async def wait() -> None:
        task = asyncio.create_task(watch(parts.runs, parts.jobs, parts.changed, every=0))
        while not told:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(wait())
    assert told[0] == "run:one"
    assert [record.message for record in caplog.records].count(
        "the studio could not look at its files: the disk is away"
    ) == 1
