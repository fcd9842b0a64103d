"""A learner looks inside a classifier, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.storage import write_json
from opsin.studio.words import opaque
from tests.browser import needs_chromium, resize
from tests.inspection.lesson_network import write_lesson_network
from tests.made_runs import answers_right, write_run
from tests.made_studio import project_of_run
from tests.studio_browser import StudioProcess, calm, drawn, one, press, send, shown, studio, until

pytestmark = needs_chromium


def page(running: StudioProcess, run: str) -> str:
    project = project_of_run(running.folder, run)
    return f"{running.address}/projects/{project}/inside?run={opaque(run)}"


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, digits: opsin.Dataset, nearest_mean: Path
) -> Iterator[StudioProcess]:
    """A studio with two runs on the digits; the last has a layer of every lesson."""
    folder = tmp_path_factory.mktemp("studio")
    deep = write_lesson_network(folder / "deep.onnx")
    runs = (("good", 0.8, nearest_mean), ("deep", 0.9, deep))
    for name, right, classifier in runs:
        answers = answers_right(digits, right)
        path = write_run(folder / "runs", name, digits, answers, classifier=classifier)
        report = json.loads((path / "report.json").read_text(encoding="utf-8"))
        layers = opsin.Classifier(path, threads=1).metadata.layers
        report["layers"] = [layer.model_dump(mode="json") for layer in layers]
        write_json(RunDirectory(path).report, report)
    for number in range(3):
        Image.fromarray(digits.images[number][..., 0]).save(folder / f"{number}.png")
    with studio(folder) as process:
        yield process


def test_a_learner_looks_inside(running: StudioProcess, browser: webdriver.Chrome) -> None:
    resize(browser, 1200)
    browser.get(page(running, "deep"))
    until(browser, lambda: drawn(browser, ".maps img"))
    assert (
        shown(browser).index("Conv 1")
        < shown(browser).index("Conv 2")
        < shown(browser).index("Head")
    )
    assert all(image.get_attribute("alt") for image in browser.find_elements(By.TAG_NAME, "img"))
    # Blocks by keyboard: arrows move, unfold and fold, Enter shows.
    browser.find_elements(By.CSS_SELECTOR, ".graph-name")[0].send_keys(Keys.ARROW_DOWN)
    active = browser.switch_to.active_element
    active.send_keys(Keys.ARROW_RIGHT)
    until(browser, lambda: one(browser, ".graph-layers button").is_displayed())
    active.send_keys(Keys.ARROW_DOWN)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    until(browser, lambda: "layer=" in browser.current_url)
    until(browser, lambda: drawn(browser, ".maps img"))
    # One map alone, and what it looks for.
    one(browser, ".maps button").click()
    until(browser, lambda: drawn(browser, ".pair img") and drawn(browser, ".seen-best img"))
    assert "unit=" in browser.current_url
    assert "row " in shown(browser)
    calm(running, browser)
    browser.back()
    until(browser, lambda: drawn(browser, ".maps img"))
    # The lesson with real numbers.
    press(browser, "How does this block compute?")
    until(browser, lambda: "Kernel" in shown(browser))
    # A photograph of one's own, with its answer.
    send(browser, running.folder / "0.png")
    until(browser, lambda: bool(re.search("image=[0-9a-f]{16}", browser.current_url)))
    until(browser, lambda: drawn(browser, ".framed img") and drawn(browser, ".maps img"))
    calm(running, browser)
    browser.refresh()
    until(browser, lambda: drawn(browser, ".maps img"))
