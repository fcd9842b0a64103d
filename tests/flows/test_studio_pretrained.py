"""Pretrained networks in the studio: what they take, and their features."""

from __future__ import annotations

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver

from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from tests.browser import needs_chromium
from tests.flows.test_studio_train import choose_model, open_question
from tests.studio_browser import (
    StudioProcess,
    button,
    choose,
    complaints,
    requests_elsewhere,
    shown,
    until,
)

pytestmark = needs_chromium


def test_a_network_that_is_not_here_says_what_it_takes(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    project = Library(running.home, Queue(running.home)).add_source("digits")
    running.kill()
    running.restart()  # the library is read at the start
    browser.get(f"{running.address}/projects/{project.id}/train")
    open_question(browser, "More")
    open_question(browser, "Advanced")
    choose_model(browser, "pretrained")
    until(browser, lambda: "Choose a pretrained network." in shown(browser))
    assert not button(browser, "Train").is_enabled()
    choose(browser, "Pretrained network", "mobilenetv4-small")
    # Nothing is fetched for an estimate: what it would take is shown.
    until(browser, lambda: "is downloaded (15.1 MB, apache-2.0)" in shown(browser))
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []
