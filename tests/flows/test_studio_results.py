"""Results: a verdict, its mistakes, better labels, comparison and removal, all of it undone."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.storage import write_json
from opsin.data.cache import digest_names
from opsin.data.dataset import Dataset
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from opsin.studio.words import opaque
from tests.browser import needs_chromium
from tests.made_studio import write_two_runs
from tests.studio_browser import (
    StudioProcess,
    button,
    calm,
    field,
    one,
    press,
    shown,
    studio,
    until,
)

pytestmark = needs_chromium

GOOD, BETTER = opaque("good"), opaque("better")
#: Saves a chart as PNG, and returns its address.
SAVED = """
const done = arguments[0], link = HTMLAnchorElement.prototype;
link.click = function () { delete link.click; done(this.href); };
document.querySelector("[aria-label='Save as PNG']").click();
"""
IMAGE = '.gallery .gallery-item[aria-label*="label"]'


@pytest.fixture(scope="module")
def running(
    digits: Dataset, nearest_mean: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[StudioProcess, str]]:
    """A studio with two classifiers of the digits, one of which suspects two labels."""
    folder = tmp_path_factory.mktemp("studio")
    write_two_runs(folder / "runs", digits, nearest_mean)
    good = RunDirectory(folder / "runs" / "good")
    report = json.loads(good.report.read_text(encoding="utf-8"))
    names = digest_names(digits.digests[:2])
    labels = [digits.classes[label] for label in digits.labels[:2]]
    known = {"score": 0.99, "suggested": "7", "example": 5}
    suspects = [
        {"row": row, "name": digits.names[row], "digest": names[row], "label": labels[row]} | known
        for row in range(2)
    ]
    slices: dict[str, object] = {"images": 1, "accuracy": 1, "low": 0, "high": 1, "judged": 1}
    slices |= {"traits": [], "weakest": []}
    failures = {"suspects": suspects, "suspected": 2, "slices": slices}
    write_json(good.report, report | {"failures": failures})
    the_set = Library(folder / "home", Queue(folder / "home")).add_source("digits")
    with studio(folder) as process:
        yield process, the_set.id


@pytest.fixture
def page(browser: webdriver.Chrome, running: tuple[StudioProcess, str]) -> Iterator[str]:
    """The address of the project's results."""
    process, project = running
    yield f"{process.address}/projects/{project}/results"
    calm(process, browser)


def several(browser: webdriver.Chrome, selector: str, least: int = 1) -> list[WebElement]:
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, selector)) >= least)
    return browser.find_elements(By.CSS_SELECTOR, selector)


def corrected(process: StudioProcess, project: str) -> list[str]:
    path = process.home / "sets" / project / "corrections.csv"
    return path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []


def test_a_wrong_label_is_corrected_by_a_key_and_that_is_undone(
    browser: webdriver.Chrome, running: tuple[StudioProcess, str], page: str
) -> None:
    process, project = running
    browser.get(f"{page}?run={GOOD}")
    until(browser, lambda: "Right for " in shown(browser))
    assert "it had never seen them" in shown(browser)
    until(browser, lambda: "Weakest: " in shown(browser))
    several(browser, IMAGE)[0].click()
    until(browser, lambda: "Answer: " in one(browser, ".viewer").text)
    one(browser, "body").send_keys("4")  # the fourth class
    until(browser, lambda: len(corrected(process, project)) == 1)
    until(browser, lambda: "Corrected to 3" in one(browser, ".viewer").text)
    one(browser, "body").send_keys(Keys.ESCAPE)
    until(browser, lambda: "Train again with 1 correction" in shown(browser))
    press(browser, "Undo")
    until(browser, lambda: corrected(process, project) == [])
    until(browser, lambda: "Train again with" not in shown(browser))

    # Suspected labels: one is corrected, one confirmed; neither is asked for again.
    press(browser, "Which labels may be wrong? (2)")
    press(browser, "It is 7")
    until(browser, lambda: "Which labels may be wrong? (1)" in shown(browser))
    press(browser, "1 is right")
    until(browser, lambda: "All of them are settled" in shown(browser))
    browser.refresh()
    until(browser, lambda: "Train again with 1 correction" in shown(browser))
    assert "Which labels may be wrong? " not in shown(browser)


def test_a_cell_of_the_matrix_shows_its_photographs(browser: webdriver.Chrome, page: str) -> None:
    browser.get(f"{page}?run={GOOD}")
    several(browser, IMAGE)
    press(browser, "Where does it fail?")
    until(browser, lambda: "→" in shown(browser))
    press(browser, "What does it look at?")  # the third one is right: the mistakes come before it
    assert "image=0" not in str(several(browser, "a[href*=why]", 3)[2].get_attribute("href"))
    pair = browser.find_element(By.XPATH, "//button[contains(., '→')]")
    actual, _, predicted, number = pair.text.split()
    pair.click()
    until(browser, lambda: f"{actual}, taken for {predicted}" in shown(browser))
    until(browser, lambda: f"{number} photograph" in shown(browser))
    cells = several(browser, ".chart svg text", 100)  # the counts
    [first, *_] = [cell for cell in cells if cell.text.isdigit() and int(cell.text) > 9]
    ActionChains(browser).move_to_element(first).click().perform()
    until(browser, lambda: ", recognised" in shown(browser))
    until(browser, lambda: f"{first.text} photographs" in shown(browser))
    saved = str(browser.execute_async_script(SAVED)).partition(",")[2]
    picture = Image.open(io.BytesIO(base64.b64decode(saved))).convert("RGB")
    assert (228, 237, 246) in {colour for _, colour in picture.getcolors(1 << 20) or ()}  # right
    press(browser, "How was it trained?")
    until(browser, lambda: "1,234" in shown(browser))


@pytest.mark.slow
def test_two_are_compared_one_is_removed_and_restored(
    browser: webdriver.Chrome, running: tuple[StudioProcess, str], page: str
) -> None:
    process, _ = running
    browser.get(f"{process.address}/classifiers")
    boxes = "tbody .q-checkbox"
    several(browser, boxes, 2)
    assert not button(browser, "Compare").is_enabled()
    for at in (0, 1):
        several(browser, boxes)[at].click()
    until(browser, lambda: "2 classifiers selected" in shown(browser))
    press(browser, "Compare")
    until(browser, lambda: "is right more often: " in shown(browser), 90)
    several(browser, ".gallery-item img")
    assert "Only " in shown(browser)

    browser.get(f"{page}?run={BETTER}")
    until(browser, lambda: "Weakest: " in shown(browser))
    press(browser, "Download")
    press(browser, "Container")
    until(browser, lambda: "docker build -t classifier ." in shown(browser))
    press(browser, "Download Dockerfile")
    one(browser, "body").send_keys(Keys.ESCAPE)
    until(browser, lambda: "docker build" not in shown(browser))
    press(browser, "Download")
    press(browser, "Zip with ready code")
    until(browser, lambda: "Download the zip" in shown(browser), 90)
    assert "node predict.mjs" in shown(browser)
    [job] = [job for job in process.jobs() if job["kind"] == "export"]
    script = "return fetch(arguments[0]).then((a) => [a.status, a.headers.get('content-type')])"
    assert browser.execute_script(script, f"/answers/{job['id']}.zip") == [200, "application/zip"]
    one(browser, "body").send_keys(Keys.ESCAPE)
    until(browser, lambda: "node predict.mjs" not in shown(browser))
    name = one(browser, "h1").text
    one(browser, "h1 .in-place").click()
    until(browser, lambda: one(browser, field("Name")).is_displayed())
    one(browser, field("Name")).send_keys(" of mine", Keys.ENTER)
    until(browser, lambda: one(browser, "h1").text == f"{name} of mine")
    press(browser, "Undo")
    until(browser, lambda: one(browser, "h1").text == name)
    browser.get(f"{process.address}/classifiers")
    several(browser, boxes, 2)[0].click()
    until(browser, lambda: button(browser, "Remove").is_enabled())
    press(browser, "Remove")
    until(browser, lambda: len([*process.runs.iterdir()]) == 2)  # a classifier, and the trash
    until(browser, lambda: "1 classifier removed" in shown(browser))
    press(browser, "Undo")
    several(browser, boxes, 2)
    assert (process.runs / "better").is_dir()
