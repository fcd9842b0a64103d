"""The first visit: an example is trained, judged and found again, without a connection."""

from __future__ import annotations

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.browser import needs_chromium
from tests.studio_browser import (
    StudioProcess,
    button,
    complaints,
    one,
    requests_elsewhere,
    shown,
    until,
)

pytestmark = [pytest.mark.torch, pytest.mark.slow, needs_chromium]


def test_an_example_from_the_first_page_to_its_results(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    browser.get(running.address)
    until(browser, lambda: button(browser, "Handwritten digits"))
    assert "Teach a computer" in shown(browser)
    button(browser, "Handwritten digits").click()
    until(browser, lambda: browser.current_url.endswith("/train"))
    browser.get(running.address)
    until(browser, lambda: "Right for" in shown(browser), 300)
    assert "Your projects" in shown(browser)
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".project-pictures img")) > 2)
    loaded = "[...document.querySelectorAll('.project-pictures img')].every(p => p.naturalWidth)"
    until(browser, lambda: browser.execute_script(f"return {loaded}"))
    # It is not trained a second time, and its own address leads to its results.
    until(browser, lambda: "running" not in shown(browser), 60)
    button(browser, "Handwritten digits").click()
    until(browser, lambda: browser.current_url.endswith("/results"))
    until(browser, lambda: "Right for" in shown(browser))
    browser.get(browser.current_url.removesuffix("results"))
    assert browser.current_url.endswith("/results")
    assert len(list(running.runs.glob("*digits*"))) == 1
    browser.get(f"{running.address}/how-it-works")
    until(browser, lambda: one(browser, "[aria-label^='Photographs fall']").is_displayed())
    assert len(browser.find_elements(By.CSS_SELECTOR, ".steps [role=img]")) == 6
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []
