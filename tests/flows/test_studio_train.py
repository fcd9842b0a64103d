"""From the first visit to a report: plan, train, reload, stop, resume, and look at a mistake."""

from __future__ import annotations

import contextlib
import re

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.common.exceptions import ElementNotInteractableException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser import needs_chromium
from tests.studio_browser import (
    StudioProcess,
    button,
    choose,
    complaints,
    field,
    one,
    requests_elsewhere,
    shown,
    sideways,
    unfold,
    until,
)

pytestmark = [pytest.mark.torch, needs_chromium]

# As many as the form takes: 600 were over in four seconds, before a busy browser could stop them.
EPOCHS = 10_000


def value(browser: webdriver.Chrome, label: str) -> str:
    """Return what the input says that a label names."""
    return one(browser, field(label)).get_attribute("value") or ""


def last_epoch(browser: webdriver.Chrome) -> int:
    """Return up to which epoch the curve of the loss goes."""
    said = one(browser, ".op-chart[aria-label^=Loss]").get_attribute("aria-label") or ""
    found = re.search(r"in epoch (\d+)$", said)
    return int(found[1]) if found else 0


def epochs_done(browser: webdriver.Chrome) -> int:
    """Return how many epochs a run that has ended was trained for."""
    found = re.search(r"([\d,]+) of 10,000, best", shown(browser))
    return int(found[1].replace(",", "")) if found else 0


def typed(browser: webdriver.Chrome, label: str, text: str) -> bool:
    """Type into a field that may be replaced at this moment, since another network is chosen."""
    with contextlib.suppress(ElementNotInteractableException):
        if value(browser, label) != text:
            one(browser, field(label)).send_keys(Keys.CONTROL, "a")
            one(browser, field(label)).send_keys(text)
    return value(browser, label) == text


def mistakes_open_as_images(browser: webdriver.Chrome) -> None:
    """Open the images behind a wrong cell of the matrix, and look whether each is there."""
    cell = one(browser, ".op-matrix a.op-cell-wrong")
    wrong = int(cell.text)
    cell.click()
    images = ".op-gallery img"
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, images), 60)
    assert len(browser.find_elements(By.CSS_SELECTOR, images)) == wrong
    loaded = "return [...document.querySelectorAll('.op-gallery img')].every(i => i.naturalWidth)"
    until(browser, lambda: browser.execute_script(loaded))


def plans(running: StudioProcess) -> list[str]:
    """Return the numbers of the plans that were asked for."""
    return [job["id"] for job in running.jobs() if job["kind"] == "plan"]


def test_the_whole_story(running: StudioProcess, browser: webdriver.Chrome) -> None:
    browser.get(f"{running.address}/train?set=digits")
    until(browser, lambda: one(browser, field("Model")))
    choose(browser, "Model", "dense layers")
    # The plan is made in a process of its own, while the page can be used. One that began before
    # the epochs were typed may be shown first, and the field may be replaced once it holds them.
    until(
        browser,
        lambda: typed(browser, "Epochs", str(EPOCHS)) and f"{EPOCHS:,} epochs" in shown(browser),
        120,
    )
    assert "9,610" in shown(browser)
    assert "dense1" in shown(browser)
    assert browser.find_elements(By.CSS_SELECTOR, ".op-chart svg path")
    assert not sideways(browser)

    unfold(browser)
    until(browser, lambda: _says(browser, "Experiment trackers"))
    browser.find_element(By.XPATH, "//label[contains(., 'Also show the run in')]").click()
    path = "//*[@role='option'][contains(., 'TensorBoard')]"
    until(browser, lambda: browser.find_element(By.XPATH, path).is_displayed())
    browser.find_element(By.XPATH, path).click()
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(browser, lambda: not browser.find_elements(By.XPATH, path))
    button(browser, "Start").click()
    until(browser, lambda: "/runs/" in browser.current_url, 120)
    until(browser, lambda: last_epoch(browser) >= 1, 120)
    before = last_epoch(browser)
    until(browser, lambda: last_epoch(browser) > before, 60)
    until(browser, lambda: "images/s" in one(browser, ".op-work").text, 60)
    before = last_epoch(browser)
    browser.refresh()
    until(browser, lambda: last_epoch(browser) >= before)
    assert browser.find_elements(By.CSS_SELECTOR, ".op-matrix")

    button(browser, "Stop").click()
    until(browser, lambda: "Stopped" in one(browser, ".op-run-state").text, 120)
    until(browser, lambda: "Right for" in shown(browser), 60)  # it was evaluated all the same
    stopped_at = epochs_done(browser)
    assert before <= stopped_at < EPOCHS

    until(browser, lambda: button(browser, "Resume").is_displayed(), 60)
    button(browser, "Resume").click()
    until(browser, lambda: "Training" in one(browser, ".op-run-state").text, 60)
    browser.get(browser.current_url.partition("?")[0] + "?tab=live")
    until(browser, lambda: last_epoch(browser) > stopped_at, 120)
    button(browser, "Stop").click()
    until(browser, lambda: "Stopped" in one(browser, ".op-run-state").text, 120)
    until(browser, lambda: epochs_done(browser) > stopped_at, 60)
    assert "±" in one(browser, ".op-figures").text

    (shown_there,) = running.runs.glob("*/events.out.tfevents.*")
    assert b"val_accuracy" in shown_there.read_bytes()

    mistakes_open_as_images(browser)
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []


def _says(browser: webdriver.Chrome, words: str) -> bool:
    return words in shown(browser)
