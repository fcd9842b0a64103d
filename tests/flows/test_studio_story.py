"""First visits: an example is trained and judged, or a classifier of another program brought."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.browser import needs_chromium
from tests.commands.test_import_model import digits_file, learnt  # noqa: F401  fixtures
from tests.studio_browser import (
    StudioProcess,
    button,
    choose,
    complaints,
    field,
    one,
    requests_elsewhere,
    send,
    shown,
    until,
)

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.mark.torch
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


def test_from_a_file_of_keras_to_a_place_to_try_it(
    running: StudioProcess,
    browser: webdriver.Chrome,
    digits_file: Path,  # noqa: F811
) -> None:
    browser.get(f"{running.address}/import")
    until(browser, lambda: "Nothing in the file is run" in shown(browser))
    assert not button(browser, "Import").is_enabled()
    file = digits_file.rename(digits_file.with_name("мой digits.keras"))
    send(browser, file, to=".intake input[type=file]")
    until(browser, lambda: file.name in shown(browser), 60)
    button(browser, "Import").click()
    until(browser, lambda: "Nothing says the pixels" in shown(browser), 60)
    assert "--" not in shown(browser)
    assert str(running.folder) not in shown(browser)
    until(browser, lambda: "Values of the pixels" in shown(browser))
    choose(browser, "Values of the pixels", "0..1")
    names = "Classes in the order of its answers, separated by commas"
    one(browser, field(names)).send_keys(",".join("0123456789"))
    until(browser, lambda: button(browser, "Import").is_enabled())
    button(browser, "Import").click()
    until(browser, lambda: "/try?run=" in browser.current_url, 120)
    browser.get(running.address)
    until(browser, lambda: "Trained, not measured" in shown(browser))
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []
