"""A studio's state without a window, and its queue."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from opsin.studio.context import Studio
from opsin.studio.jobs.queue import Queue
from opsin.studio.settings import StudioSettings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """A studio whose runs lie in ``tmp_path/runs``, its own files in ``tmp_path/home``."""
    (tmp_path / "home").mkdir(exist_ok=True)
    return Studio(StudioSettings(runs=tmp_path / "runs", home=tmp_path / "home", roots=(tmp_path,)))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path, runs=tmp_path / "runs")
    yield queue
    for job in queue.jobs():
        if job.pid is not None:
            queue._interrupt(job, kill=True)
            queue._status(job)
