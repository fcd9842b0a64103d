"""Images come into the studio: an upload that breaks off, folders, names, a camera."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.browser import needs_chromium
from tests.conftest import write_shapes
from tests.server.made_engine import png
from tests.studio_browser import (
    StudioProcess,
    complaints,
    one,
    requests_elsewhere,
    shown,
    sideways,
    studio,
    until,
    wait_for,
)  # fmt: skip

pytestmark = needs_chromium

HOSTILE = '<img src=x onerror="window.HACKED=1">{{7*7}}'
FILES = ".op-intake input[type=file]"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioProcess]:
    folder = tmp_path_factory.mktemp("studio")
    write_shapes(folder / "root" / "shapes")
    write_shapes(folder / "outside" / "secret")
    (folder / "root" / "way-out").symlink_to(folder / "outside")
    with studio(folder, roots=[folder / "root"]) as running:
        yield running
        assert "Traceback" not in running.said()


@pytest.fixture
def browser(browser: webdriver.Chrome, running: StudioProcess) -> Iterator[webdriver.Chrome]:
    complaints(browser)
    yield browser
    assert complaints(browser) == []
    assert browser.execute_script("return window.HACKED") is None
    assert requests_elsewhere(browser, running.address) == []


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise in 9 MB that no packing makes smaller."""
    path, random = tmp_path_factory.mktemp("packed") / f"pets {HOSTILE[:16]}.zip", np.random
    with zipfile.ZipFile(path, "w") as archive:
        for label in ("cat", "dog", HOSTILE):
            for number in range(4):
                noise = random.default_rng(number + 9 * len(label)).integers(0, 256, (512, 512, 3))
                archive.writestr(f"pets/{label}/{number}.png", png(noise.astype(np.uint8)))
    return path


def slow_down(browser: webdriver.Chrome, bytes_a_second: int) -> None:
    limits = {
        "offline": False, "latency": 0, "downloadThroughput": -1,
        "uploadThroughput": bytes_a_second,
    }  # fmt: skip
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", limits)


def arrived(running: StudioProcess) -> int:
    """Return how many bytes of uploads lie in the studio's folder."""
    return sum(file.stat().st_size for file in (running.home / "uploads").glob("*"))


def panel(browser: webdriver.Chrome, title: str) -> str:
    """Return the text of a set's panel, or nothing."""
    panels = browser.find_elements(By.CSS_SELECTOR, ".op-set-panel")
    return next((each.text for each in panels if each.text.startswith(title)), "")


@pytest.mark.slow
def test_an_upload_that_breaks_off_goes_on_where_it_stopped(
    browser: webdriver.Chrome, running: StudioProcess, packed: Path
) -> None:
    browser.get(f"{running.address}/data")
    until(browser, lambda: one(browser, FILES))
    slow_down(browser, 1_500_000)
    one(browser, FILES).send_keys(str(packed))
    wait_for(lambda: arrived(running) > 2_000_000)
    browser.refresh()
    slow_down(browser, -1)
    until(browser, lambda: one(browser, FILES))
    # Chromium asks nobody who has not touched the page whether to leave it.
    assert all("beforeunload" in each for each in complaints(browser))
    kept = arrived(running)
    assert 2_000_000 < kept < packed.stat().st_size
    browser.execute_script(
        """const send = window.fetch; window.SENT = [];
        window.fetch = (address, how) => {
          if (how?.method === 'PUT') window.SENT.push([address, how.body.size]);
          return send(address, how); };"""
    )
    one(browser, FILES).send_keys(str(packed))
    until(browser, lambda: "Added: pets" in shown(browser))
    sent = browser.execute_script("return window.SENT")
    assert sum(size for _, size in sent) <= packed.stat().st_size - kept
    assert arrived(running) == 0
    # A process of its own has read them: counts, and what it found.
    until(browser, lambda: "Findings\n–" not in panel(browser, "pets <img"))
    told = panel(browser, "pets <img")
    assert "Classes\n3\nImages\n12" in told
    assert "cat\n4" in told
    assert f"{HOSTILE[:15]}…" in told
    assert sideways(browser) == 0
