"""A server, a studio, a browser and a cluster that several modules use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from opsin.data.dataset import Dataset
from tests.conftest import write_digits
from tests.ray_cluster import RayCluster, why_not
from tests.served import Server, serving

#: Without these, the studio has no pages, or nobody to look at them.
if not (find_spec("nicegui") and find_spec("selenium")):
    collect_ignore_glob = ["test_studio_*.py"]

if TYPE_CHECKING:  # both need Selenium
    from selenium import webdriver

    from tests.studio_browser import StudioProcess


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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioProcess]:
    from tests.studio_browser import studio

    with studio(tmp_path_factory.mktemp("studio")) as process:
        yield process


@pytest.fixture(scope="session")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    from tests.browser import chromium

    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser(one_browser: webdriver.Chrome) -> webdriver.Chrome:
    """A browser that shows nothing yet, and has complained of nothing."""
    from tests.browser import console, prefer, resize

    one_browser.get("about:blank")
    for kind in ("browser", "performance"):
        console(one_browser, kind)
    resize(one_browser, 1200)
    prefer(one_browser, "light")
    return one_browser


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A Ray cluster of two nodes, which each test leaves with two."""
    if reason := why_not():
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    # Sockets lie below it, and their names must be short.
    with RayCluster(tmp_path_factory.mktemp("r") / "r") as started:
        for _ in range(2):
            started.add()
        yield started


@pytest.fixture(scope="session")
def cluster_images(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """Many images in a folder for each class, and one file that is none."""
    folder = write_digits(tmp_path_factory.mktemp("images") / "photos", digits, range(600))
    (folder / "0" / "300.png").write_bytes(b"no image")
    return folder
