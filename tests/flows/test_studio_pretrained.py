"""A network of one's own is brought into the studio, and a classifier is built on it."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver

from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from tests.backbones.small_networks import network
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


def send(browser: webdriver.Chrome, file: Path) -> None:
    """Send a file by the place for networks."""
    one(browser, ".op-intake input[type=file]").send_keys(str(file))


def ask_for_a_pretrained_network(running: StudioProcess, browser: webdriver.Chrome) -> None:
    """Open the form for digits, with that kind of model and no network yet."""
    browser.get(f"{running.address}/train?set=digits")
    until(browser, lambda: one(browser, field("Model")))
    choose(browser, "Model", "pretrained")
    until(browser, lambda: "Choose a pretrained network, or bring one." in shown(browser))


def train(browser: webdriver.Chrome, name: str) -> None:
    """Say what pixels the network that was sent takes, and train to the end."""
    until(browser, lambda: "its file does not say them" in shown(browser), 60)
    choose(browser, "Pixels that it was trained on", "-1..1")
    until(browser, lambda: f"Backbone: {name}" in shown(browser), 120)
    button(browser, "Start").click()
    until(browser, lambda: "/runs/" in browser.current_url, 120)
    until(browser, lambda: "Done" in one(browser, ".op-run-state").text, 240)


def test_from_a_file_to_a_classifier(
    running: StudioProcess, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    ask_for_a_pretrained_network(running, browser)
    assert not button(browser, "Start").is_enabled()

    choose(browser, "Pretrained network", "mobilenetv4-small")
    # Nothing is fetched for a plan: what it would take is said.
    until(browser, lambda: "when the training begins" in shown(browser))
    assert "apache-2.0" in shown(browser)

    unfold(browser)
    odd = tmp_path / "text.onnx"
    odd.write_bytes(b"no network")
    send(browser, odd)
    until(browser, lambda: "text.onnx cannot be" in shown(browser))
    assert str(tmp_path) not in shown(browser)
    assert str(running.folder) not in shown(browser)
    file = tmp_path / "мой network.onnx"
    file.write_bytes(network())
    send(browser, file)
    train(browser, "мой network")
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []
    assert list((running.folder / "home" / "networks").glob("*/*.onnx"))


@pytest.mark.slow
def test_features_are_downloaded(
    running: StudioProcess, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    the_set = Library(running.folder / "home", Queue(running.folder / "home")).add_source("digits")
    browser.get(f"{running.address}/data/{the_set.id}")
    until(browser, lambda: "Choose a network" in shown(browser), 60)
    unfold(browser)
    until(browser, lambda: button(browser, "Compute features").is_displayed())
    button(browser, "Compute features").click()
    until(browser, lambda: "Choose a pretrained network, or bring one." in shown(browser))
    file = tmp_path / "network for features.onnx"
    file.write_bytes(network())
    unfold(browser, ".op-more .op-more")
    send(browser, file)
    until(browser, lambda: file.name in shown(browser), 60)
    choose(browser, "Pixels that it was trained on", "-1..1")
    button(browser, "Compute features").click()
    until(browser, lambda: browser.find_elements("css selector", "a.op-download"), 120)
    link = one(browser, "a.op-download")
    assert link.text == "Download features.npz"
    request = Request(str(link.get_attribute("href")), headers={"cookie": running.cookie})
    with urlopen(request, timeout=30) as reply:
        content = io.BytesIO(reply.read())
    with np.load(content, allow_pickle=False) as features:
        images, units = features["features"].shape
    assert f"{images:,} images, {units} numbers each" in shown(browser)
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
