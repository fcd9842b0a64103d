"""One studio at a time has a home, and the second one is told where the first is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("nicegui")

from opsin.errors import RunError
from opsin.studio.jobs.job import command
from opsin.studio.settings import Settings
from opsin.studio.state import Studio


def studio(folder: Path) -> Studio:
    return Studio(Settings(runs=folder / "runs", home=folder / "home", roots=(folder,)))


def test_a_home_has_one_studio(tmp_path: Path) -> None:
    first, second = studio(tmp_path), studio(tmp_path)
    first.hold("http://127.0.0.1:8600/")
    with pytest.raises(RunError, match=r"one is open at http://127\.0\.0\.1:8600/"):
        second.hold("http://127.0.0.1:8601/")
    asyncio.run(first.stop())
    second.hold("http://127.0.0.1:8601/")
    asyncio.run(second.stop())


def test_the_queue_in_a_few_words(tmp_path: Path) -> None:
    there = studio(tmp_path)
    assert there.queue_in_words() == ""
    job = there.jobs.add("train", "x", command("train", "digits"))
    there.jobs.add("look", "y", command("data", "digits"))
    there.jobs.hold(job.id)
    assert there.queue_in_words() == "2 waiting"
