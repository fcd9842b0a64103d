"""Two windows agree, addresses last, and nothing is asked of another host."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.remote.webelement import WebElement

from opsin.data.dataset import Dataset
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import Queue
from tests.browser import chromium, needs_chromium, resize
from tests.made_runs import answers_right, write_run
from tests.settled import usable
from tests.studio_browser import (
    StudioProcess,
    complaints,
    one,
    requests_elsewhere,
    studio,
    until,
)

pytestmark = needs_chromium

JOBS = ("First job", "Second job", "Third job")


@pytest.fixture(scope="module")
def running(
    digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[StudioProcess, str]]:
    """A studio with a run, a set and three jobs that are on hold, and the set's address."""
    folder = tmp_path_factory.mktemp("windows")
    write_run(folder / "runs", "trial", digits, answers_right(digits, 0.9))
    jobs = Queue(folder / "home")
    for title in JOBS:
        jobs.add("train", title, command("train", "digits"))
    jobs.pause_all(True)
    the_set = Library(folder / "home", jobs).add_source("digits")
    with studio(folder) as process:
        yield process, f"/data/{the_set.id}"


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium with two windows."""
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        resize(browser, 1200)
        browser.switch_to.new_window("window")
        resize(browser, 1200)
        yield browser


@pytest.fixture
def browser(
    running: tuple[StudioProcess, str], windows: webdriver.Chrome
) -> Iterator[webdriver.Chrome]:
    """Two windows, which complain of nothing and stay on this host."""
    yield windows
    for window in windows.window_handles:
        windows.switch_to.window(window)
        assert requests_elsewhere(windows, running[0].address) == []
    assert complaints(windows) == []
    assert "Traceback" not in running[0].said()


def both(browser: webdriver.Chrome, *addresses: str) -> tuple[str, str]:
    """Open an address in each window."""
    one_window, other = browser.window_handles
    for window, address in zip((one_window, other), addresses, strict=True):
        browser.switch_to.window(window)
        usable(browser, address)
    return one_window, other


def options(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements("css selector", "[role=option][data-id]")


@pytest.mark.slow
def test_the_queue(running: tuple[StudioProcess, str], browser: webdriver.Chrome) -> None:
    process, _ = running
    here, there = both(browser, f"{process.address}/queue", f"{process.address}/queue")

    def titles() -> list[str]:
        found = [each.text for each in browser.find_elements("css selector", ".op-job-title")]
        return [text for text in found if text in JOBS]

    first, second, third = JOBS
    browser.switch_to.window(here)
    assert titles() == [first, second, third]
    job = one(browser, f"article[aria-label='{third}']")
    buttons = job.find_elements("css selector", "button")
    next(each for each in buttons if each.text == "Remove").click()
    for window in (here, there):
        browser.switch_to.window(window)
        until(browser, lambda: titles() == [first, second])


@pytest.mark.slow
def test_addresses_last(running: tuple[StudioProcess, str], browser: webdriver.Chrome) -> None:
    process, the_set = running
    way = ["/", "/data", the_set, f"{the_set}?class=3", f"{the_set}?class=3&part=test", "/queue"]
    seen = []
    for address in way:
        usable(browser, process.address + address)
        seen.append(headings(browser))
    assert len(set(seen)) == len(way)
    # Back through all of them, with a reload in the middle, and forward again.
    for place in reversed(range(len(way) - 1)):
        browser.back()
        if place == 2:
            browser.refresh()
        until(browser, functools.partial(stands, browser, seen[place]))
        assert browser.current_url == process.address + way[place]
    browser.forward()
    until(browser, functools.partial(stands, browser, seen[1]))


def stands(browser: webdriver.Chrome, wanted: tuple[str, ...]) -> bool:
    """Tell whether the page with these headings is there."""
    return headings(browser) == wanted


def headings(browser: webdriver.Chrome) -> tuple[str, ...]:
    """Return what tells one page from another, without numbers that change."""
    # At one moment: elements that were found may be replaced before they are asked.
    script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText)"
    return tuple(browser.execute_script(script, "h1, .op-tabs [aria-current], h2"))
