"""Pretrained networks in the studio: what they take, and their features."""

from __future__ import annotations

import io
from urllib.request import Request, urlopen

import numpy as np
import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver

from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
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
    unfold,
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


@pytest.mark.slow
def test_features_are_downloaded(running: StudioProcess, browser: webdriver.Chrome) -> None:
    the_set = Library(running.folder / "home", Queue(running.folder / "home")).add_source("digits")
    browser.get(f"{running.address}/data/{the_set.id}")
    until(browser, lambda: "Choose a network" in shown(browser), 60)
    unfold(browser)
    until(browser, lambda: button(browser, "Compute features").is_displayed())
    button(browser, "Compute features").click()
    until(browser, lambda: "Choose a pretrained network." in shown(browser))
    choose(browser, "Pretrained network", "efficientnet-lite0")
    button(browser, "Compute features").click()
    until(browser, lambda: browser.find_elements("css selector", "a.op-download"), 240)
    link = one(browser, "a.op-download")
    assert link.text == "Download features.npz"
    request = Request(str(link.get_attribute("href")), headers={"cookie": running.cookie})
    with urlopen(request, timeout=30) as reply:
        content = io.BytesIO(reply.read())
    with np.load(content, allow_pickle=False) as features:
        images, units = features["features"].shape
    assert f"{images:,} images, {units:,} numbers each" in shown(browser)
    button(browser, "Export").click()
    until(browser, lambda: len(browser.find_elements("css selector", "a.op-download")) == 2, 120)
    _, link = browser.find_elements("css selector", "a.op-download")
    assert link.text == "Download images.npz"
    request = Request(str(link.get_attribute("href")), headers={"cookie": running.cookie})
    with urlopen(request, timeout=30) as reply:
        content = io.BytesIO(reply.read())
    with np.load(content, allow_pickle=False) as arrays:
        assert len(arrays["images"]) + len(arrays["test_images"]) == images
    assert complaints(browser) == []
