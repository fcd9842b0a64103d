"""Two windows of one studio show the same, whichever of them changes it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from opsin.data.dataset import Dataset
from opsin.studio.jobs.queue import Queue
from tests.browser import needs_chromium
from tests.made_studio import write_two_runs
from tests.studio_browser import complaints, field, one, press, studio, until

pytestmark = [pytest.mark.slow, needs_chromium]


def cards(browser: webdriver.Chrome) -> list[str]:
    return [item.text for item in browser.find_elements(By.CSS_SELECTOR, ".project-name")]


def titles(browser: webdriver.Chrome) -> list[str]:
    articles = browser.find_elements(By.CSS_SELECTOR, "article")
    return [str(item.get_attribute("aria-label")) for item in articles]


def test_two_windows_agree(
    browser: webdriver.Chrome, digits: Dataset, nearest_mean: Path, tmp_path: Path
) -> None:
    write_two_runs(tmp_path / "runs", digits, nearest_mean)
    for name in ("zeroth", "first", "second"):
        sleeping = [sys.executable, "-c", "import time; time.sleep(3600)"]
        Queue(tmp_path / "home").add("train", name, sleeping)
    with studio(tmp_path) as running:
        windows = [browser.current_window_handle]
        browser.get(running.address + "/jobs")
        browser.switch_to.new_window("tab")
        windows.append(browser.current_window_handle)
        browser.get(running.address + "/jobs")
        until(browser, lambda: titles(browser)[:3] == ["zeroth", "first", "second"])
        press(browser, "Cancel")
        for window in windows:
            browser.switch_to.window(window)
            until(browser, lambda: titles(browser)[:2] == ["zeroth", "second"])
        # A project that one window removes and restores goes and comes in the other, too.
        for window in windows:
            browser.switch_to.window(window)
            browser.get(running.address)
            until(browser, lambda: cards(browser))
        name = cards(browser)[0]
        one(browser, field(f"More about {name}")).click()
        for words, there in (("Remove", False), ("Undo", True)):
            press(browser, words)
            for window in windows:
                browser.switch_to.window(window)
                until(browser, lambda there=there: (name in cards(browser)) is there)  # type: ignore[misc]
        assert complaints(browser) == []
