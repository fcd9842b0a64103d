"""The studio brings in a classifier that another program saved, as a person does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.browser import needs_chromium
from tests.importing.made_keras import image, layer, sequential, write_keras
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

pytestmark = needs_chromium


def network(folder: Path) -> Path:
    """Return a network of Keras that tells digits apart, for pixels from 0 to 1."""
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).reshape(-1, 64) / 255
    model = LogisticRegression(C=10, max_iter=500).fit(pixels, digits.target)
    config = sequential(
        image(8, 8),
        layer("Flatten", "flatten"),
        layer("Dense", "scores", units=10, activation="softmax"),
    )
    learnt = [model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)]
    return write_keras(folder / "мой digits.keras", config, {"scores": learnt})


@pytest.mark.slow
def test_from_a_file_of_keras_to_a_place_to_try_it(
    running: StudioProcess, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    browser.get(f"{running.address}/import")
    until(browser, lambda: "Nothing in the file is run" in shown(browser))
    assert not button(browser, "Import").is_enabled()
    file = network(tmp_path)
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
