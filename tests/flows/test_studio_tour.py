"""The tour of the studio, and the cards that explain its terms, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.browser import chromium, needs_chromium, resize
from tests.studio_browser import (
    StudioProcess,
    button,
    complaints,
    one,
    requests_elsewhere,
    studio,
    until,
)

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioProcess]:
    with studio(tmp_path_factory.mktemp("empty")) as process:
        yield process


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A visitor who has not been here, and to whose browser everything comes from the studio."""
    with chromium(tmp_path / "profile") as browser:
        resize(browser, 1200)
        yield browser
        assert complaints(browser) == [], browser.current_url


def panel(browser: webdriver.Chrome) -> str:
    return one(browser, ".op-tour").text


def focused(browser: webdriver.Chrome) -> WebElement:
    return browser.switch_to.active_element


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def test_a_tour_is_offered_left_and_gone_on_with(
    empty: StudioProcess, browser: webdriver.Chrome
) -> None:
    browser.get(empty.address)
    until(browser, lambda: button(browser, "Take the tour"))
    assert browser.find_elements(By.CSS_SELECTOR, ".op-tour") == []
    button(browser, "Take the tour").click()
    until(browser, lambda: "Step 1 of 8" in panel(browser))
    until(browser, lambda: one(browser, "#add.op-toured"))

    # By keyboard alone: the panel has the focus, and its first link is Next.
    until(browser, lambda: "op-tour" in (focused(browser).get_attribute("class") or ""))
    press(browser, Keys.TAB, Keys.ENTER)
    until(browser, lambda: "Step 2 of 8" in panel(browser))
    assert "There is no dataset yet" in panel(browser)
    press(browser, Keys.ESCAPE)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".op-tour") == [])

    browser.get(empty.address)
    until(browser, lambda: button(browser, "Continue the tour (step 2 of 8)"))
    assert browser.find_elements(By.CSS_SELECTOR, ".op-tour") == []
    one(browser, "header .op-tour-link").click()
    until(browser, lambda: "Step 2 of 8" in panel(browser))
    # Elsewhere, it waits at the foot of the window.
    browser.get(f"{empty.address}/queue")
    until(browser, lambda: "You are on another page" in panel(browser))
    assert requests_elsewhere(browser, empty.address) == []


def card(browser: webdriver.Chrome) -> str:
    return "".join(each.text for each in browser.find_elements(By.ID, "op-term-card"))
