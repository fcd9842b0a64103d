"""Try an image, look inside at a layer, and compare two runs, in a real browser."""

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
from selenium.webdriver.common.keys import Keys

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.storage import write_json
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.studio.runs.run_index import opaque
from tests.browser import needs_chromium, resize
from tests.inspection.lesson_network import write_lesson_network
from tests.made_runs import answers_right, write_run
from tests.studio_browser import (
    StudioProcess,
    complaints,
    one,
    requests_elsewhere,
    sideways,
    studio,
    until,
)

pytestmark = needs_chromium

GOOD, BETTER, DEEP = opaque("good"), opaque("better"), opaque("deep")


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, digits: Dataset, nearest_mean: Path
) -> Iterator[StudioProcess]:
    """A studio with three runs on the digits; the last has a layer of every lesson."""
    folder = tmp_path_factory.mktemp("studio")
    deep = write_lesson_network(folder / "deep.onnx")
    runs = (("good", 0.8, nearest_mean), ("better", 0.97, nearest_mean), ("deep", 0.9, deep))
    for name, right, classifier in runs:
        answers = answers_right(digits, right)
        path = write_run(folder / "runs", name, digits, answers, classifier=classifier)
        report = json.loads((path / "report.json").read_text(encoding="utf-8"))
        layers = Classifier(path, threads=1).metadata.layers
        report["layers"] = [layer.model_dump(mode="json") for layer in layers]
        write_json(RunDirectory(path).report, report)
    for number in range(3):
        Image.fromarray(digits.images[number][..., 0]).save(folder / f"{number}.png")
    with studio(folder) as process:
        yield process


def drawn(browser: webdriver.Chrome, selector: str) -> bool:
    """Tell whether all images that a selector finds have arrived, and there are some."""
    script = (
        "const all = [...document.querySelectorAll(arguments[0])];"
        "return all.length > 0 && all.every((image) => image.complete && image.naturalWidth > 0)"
    )
    return bool(browser.execute_script(script, selector))


def send(browser: webdriver.Chrome, *files: Path) -> None:
    """Choose files as a visitor does."""
    until(browser, lambda: one(browser, "input[type=file]"))
    one(browser, "input[type=file]").send_keys("\n".join(map(str, files)))


def calm(running: StudioProcess, browser: webdriver.Chrome) -> None:
    """Check what holds for every page, on a telephone too."""
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []
    resize(browser, 400)
    assert sideways(browser) == 0
    resize(browser, 1200)


@pytest.mark.slow
def test_a_layer_of_the_graph_shows_its_maps(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    browser.get(f"{running.address}/runs/{GOOD}/inside?image=test/5")
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".op-graph a")) == 3)
    first = browser.find_elements(By.CSS_SELECTOR, ".op-graph a")[0]
    first.send_keys(Keys.ARROW_DOWN)
    assert "flatten" in (browser.switch_to.active_element.get_attribute("aria-label") or "")
    browser.switch_to.active_element.send_keys(Keys.ARROW_UP)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    until(browser, lambda: "layer=input" in browser.current_url)
    until(browser, lambda: one(browser, "iframe"))
    assert one(browser, ".op-graph a[aria-current]").text.startswith("input")
    until(browser, lambda: drawn(browser, ".op-looked img"))
    browser.switch_to.frame(one(browser, "iframe"))
    until(browser, lambda: one(browser, ".layers-maps button").is_displayed())
    one(browser, ".layers-maps button").send_keys(Keys.ENTER)
    until(browser, lambda: one(browser, ".layers-dialog[open] canvas").is_displayed())
    browser.switch_to.default_content()
    calm(running, browser)
    browser.back()
    until(browser, lambda: "layer=" not in browser.current_url)
