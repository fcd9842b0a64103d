"""The whole story on Fashion-MNIST, from an empty studio to a corrected and used classifier."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

import opsin
from opsin.core.errors import SourceError
from tests.browser import chromium, needs_chromium, resize
from tests.flows.test_studio_train import last_epoch
from tests.studio_browser import (
    StudioProcess,
    button,
    complaints,
    one,
    requests_elsewhere,
    shown,
    studio,
    until,
)

pytestmark = [pytest.mark.torch, pytest.mark.slow, needs_chromium]

# Seconds that a training of three epochs may take on a slow machine.
TRAINING = 1500


@pytest.fixture
def running(tmp_path: Path) -> Iterator[StudioProcess]:
    with studio(tmp_path) as process:
        yield process


@pytest.fixture
def windows(tmp_path: Path) -> Iterator[tuple[webdriver.Chrome, webdriver.Chrome]]:
    with chromium(tmp_path / "first") as first, chromium(tmp_path / "second") as second:
        for window in (first, second):
            resize(window, 1200)
        yield first, second


def state(browser: webdriver.Chrome) -> str:
    return one(browser, ".op-run-state").text


@pytest.mark.timeout(3 * TRAINING)
def test_from_the_first_visit_to_a_classified_image(
    running: StudioProcess, windows: tuple[webdriver.Chrome, webdriver.Chrome]
) -> None:
    try:
        clothes = opsin.load("fashion-mnist")
    except SourceError as error:
        pytest.skip(f"needs Fashion-MNIST: {error}")
    browser, other = windows
    browser.get(running.address)
    until(browser, lambda: button(browser, "Try it on Fashion-MNIST"))
    button(browser, "Try it on Fashion-MNIST").click()

    # Live curves, also after a reload in the middle and in another window.
    until(browser, lambda: "/runs/" in browser.current_url, TRAINING)
    until(browser, lambda: last_epoch(browser) >= 1, TRAINING)
    browser.refresh()
    until(browser, lambda: last_epoch(browser) >= 1)
    other.get(browser.current_url)
    until(other, lambda: last_epoch(other) >= 1)

    button(browser, "Stop").click()
    until(browser, lambda: "Stopped" in state(browser), TRAINING)
    until(other, lambda: "Stopped" in state(other))
    until(other, lambda: button(other, "Resume").is_displayed())
    button(other, "Resume").click()
    until(browser, lambda: "Done" in state(browser), TRAINING)
    until(browser, lambda: "of 10,000 test images" in shown(browser))
    first = browser.current_url.partition("?")[0]

    # A label that looks wrong is corrected, the other window sees it, and it is trained again.
    browser.get(f"{first}?tab=mistakes")
    until(browser, lambda: browser.find_elements(By.XPATH, "//button[starts-with(., 'It is ')]"))
    browser.find_element(By.XPATH, "//button[starts-with(., 'It is ')]").click()
    until(browser, lambda: button(browser, "Train again with corrections").is_displayed())
    other.get(f"{first}?tab=mistakes")
    until(other, lambda: button(other, "Train again with corrections").is_displayed())
    button(browser, "Train again with corrections").click()
    until(browser, lambda: button(browser, "Start").is_enabled())
    button(browser, "Start").click()
    until(
        browser,
        lambda: "/runs/" in browser.current_url and first not in browser.current_url,
        TRAINING,
    )
    until(browser, lambda: "Done" in state(browser), TRAINING)
    corrected = [path for path in running.runs.iterdir() if (path / "corrections.csv").is_file()]
    assert len(corrected) == 1
    recipe = json.loads((corrected[0] / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["data"]["labels"].endswith("corrections.csv")

    # An image file, chosen by a visitor.
    row = int(clothes.split.test[0])
    Image.fromarray(clothes.images[row][..., 0]).save(running.folder / "image.png")
    browser.get(f"{running.address}/try")
    until(browser, lambda: one(browser, "input[type=file]"))
    one(browser, "input[type=file]").send_keys(str(running.folder / "image.png"))
    until(browser, lambda: one(browser, ".bars .best"), 60)
    assert one(browser, ".bars .best").text == clothes.classes[clothes.labels[row]]
    for window in windows:
        assert complaints(window) == []
        assert requests_elsewhere(window, running.address) == []
