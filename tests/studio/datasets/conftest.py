"""A library of projects, and uploads with small limits."""

from pathlib import Path

import pytest

from opsin.studio.datasets.catalogue import Library
from opsin.studio.datasets.uploads import Uploads
from opsin.studio.jobs.queue import Queue


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "home", most_bytes=3_000_000, most_files=20)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "home")


@pytest.fixture
def sets(queue: Queue) -> Library:
    return Library(queue.home, queue)
