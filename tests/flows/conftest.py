"""A server that several modules ask, so that each need not start one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served import Server, serving


@pytest.fixture(scope="session")
def server(nearest_mean: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`opsin serve` with one model and two workers, none of which any test may cost."""
    folder = tmp_path_factory.mktemp("server")
    with serving(f"digits={nearest_mean}", "--workers", "2", folder=folder) as server:
        workers = server.workers()
        assert len(workers) >= 2
        yield server
        assert set(workers) <= set(server.workers())
        assert server.stop() == 0, server.said()
        assert "Traceback" not in server.said()
