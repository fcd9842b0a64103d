"""Five hundred runs and 70,000 images: every page answers, and the studio stays small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

import opsin
from tests.browser import needs_chromium, usable
from tests.made_studio import furnish
from tests.studio_browser import StudioProcess, complaints, shown, studio, until

pytestmark = [pytest.mark.torch, needs_chromium]

RUNS = 500
#: Bytes that the studio's process may hold.
MOST = 500_000_000


@pytest.fixture(scope="module")
def full(
    run: opsin.Run, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[StudioProcess, dict[str, str]]]:
    """A studio with all of it, and the addresses of its pages."""
    folder = tmp_path_factory.mktemp("load")
    try:
        addresses = furnish(folder, run.path, "fashion-mnist", RUNS)
    except opsin.SourceError as error:
        pytest.skip(f"needs Fashion-MNIST: {error}")
    with studio(folder) as running:
        yield running, addresses


@pytest.mark.slow
def test_every_page_answers_and_memory_stays_small(
    full: tuple[StudioProcess, dict[str, str]], browser: webdriver.Chrome
) -> None:
    running, addresses = full
    memory, faults = {}, {}
    for name, address in addresses.items():
        usable(browser, running.address + address, most=60)
        if name == "Photos":  # its images are read first
            until(browser, lambda: browser.find_elements("css selector", ".gallery img"), 300)
        memory[name] = running.memory()
        if complaints(browser) or "Opsin" not in shown(browser):
            faults[name] = shown(browser)[:300]
    assert faults == {}
    assert max(memory.values()) < MOST, memory
