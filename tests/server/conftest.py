"""Servers that several modules ask, so that each need not start one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.made_classifier import write_refusing
from tests.served import serving
from tests.server.made_engine import Host, hosting


@pytest.fixture(scope="session")
def refusing(nearest_mean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_refusing(tmp_path_factory.mktemp("refusing") / "classifier.onnx", nearest_mean)


@pytest.fixture(scope="session")
def address(
    nearest_mean: Path, refusing: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server with two models, in a process of its own; it ends with a slash."""
    models = (f"plain={nearest_mean}", f"refusing={refusing}")
    folder = tmp_path_factory.mktemp("server")
    with serving(*models, "--workers", "1", folder=folder) as server:
        yield f"{server.url}/"
        assert server.stop() == 0, server.said()
        assert "Traceback" not in server.said()


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="session")
def host(nearest_mean: Path) -> Iterator[Host]:
    """An engine in this process: 16 images wait at most, of 10,000 pixels each."""
    with hosting({"digits": nearest_mean}, queue=16, max_pixels=10_000) as host:
        yield host
