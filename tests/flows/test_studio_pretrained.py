"""Pretrained networks in the studio: what they take, and their features."""

from __future__ import annotations

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver

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
    until,
)

pytestmark = needs_chromium


def test_a_network_that_is_not_here_says_what_it_takes(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    browser.get(f"{running.address}/train?set=digits")
    until(browser, lambda: one(browser, field("Model")))
    choose(browser, "Model", "pretrained")
    until(browser, lambda: "Choose a pretrained network." in shown(browser))
    assert not button(browser, "Start").is_enabled()
    choose(browser, "Pretrained network", "mobilenetv4-small")
    # Nothing is fetched for a plan: what it would take is said.
    until(browser, lambda: "when the training begins" in shown(browser))
    assert "apache-2.0" in shown(browser)
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []
