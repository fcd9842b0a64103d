"""Wrong labels in the studio: chosen, corrected, undone, in every window, and used by training."""

from __future__ import annotations

import csv
import json
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

from opsin.data.dataset import Dataset
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from tests.browser import needs_chromium, resize
from tests.conftest import Cli
from tests.studio_browser import (
    StudioProcess,
    button,
    complaints,
    one,
    requests_elsewhere,
    shown,
    sideways,
    studio,
    until,
)

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def running(
    digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[StudioProcess, str]]:
    """A studio with the digits, which the cache has, and their set's number."""
    assert len(digits) == 1797
    folder = tmp_path_factory.mktemp("studio")
    the_set = Library(folder / "home", Queue(folder / "home")).add_source("digits")
    with studio(folder) as process:
        yield process, the_set.id
        assert "Traceback" not in process.said()


@pytest.fixture
def browser(
    browser: webdriver.Chrome, running: tuple[StudioProcess, str]
) -> Iterator[webdriver.Chrome]:
    process, set_id = running
    complaints(browser)
    browser.get(f"{process.address}/data/{set_id}")
    until(browser, lambda: gallery_images(browser))
    yield browser
    assert complaints(browser) == []
    assert requests_elsewhere(browser, process.address) == []


def gallery_images(browser: webdriver.Chrome) -> list[WebElement]:
    """Return the images that can be chosen."""
    return browser.find_elements(By.CSS_SELECTOR, ".op-gallery [role=option]")


def marked(browser: webdriver.Chrome, how: str) -> list[str | None]:
    """Return the numbers of the images with a mark."""
    found = browser.find_elements(By.CSS_SELECTOR, f".op-gallery .op-mark-{how}")
    return [each.get_attribute("data-id") for each in found]


def told(browser: webdriver.Chrome) -> str:
    return one(browser, ".op-summary").text


def press(browser: webdriver.Chrome, words: str) -> None:
    until(browser, lambda: button(browser, words).is_enabled())
    button(browser, words).click()


def relabel(browser: webdriver.Chrome, label: str) -> None:
    """Give the chosen images a class."""
    one(browser, ".op-picking-bar .q-select").click()
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".q-menu .q-item"))
    items = browser.find_elements(By.CSS_SELECTOR, ".q-menu .q-item")
    next(item for item in items if item.text == label).click()
    press(browser, "Relabel")


def table(process: StudioProcess, set_id: str) -> dict[str, str]:
    """Return what training reads: the label of each image that is corrected, by its name."""
    path = process.home / "sets" / set_id / "corrections.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: row["label"] for row in csv.DictReader(file)}


def class_counts(browser: webdriver.Chrome) -> list[str]:
    """Return what the table of classes says of each class, all parts together."""
    return [row.text.split()[-1] for row in browser.find_elements(
        By.CSS_SELECTOR, ".op-class-table tbody tr")]  # fmt: skip


def test_images_are_relabelled_left_out_and_all_of_it_undone(
    browser: webdriver.Chrome, running: tuple[StudioProcess, str]
) -> None:
    process, set_id = running
    assert len(gallery_images(browser)) == 100
    gallery_images(browser)[4].click()
    shift = ActionChains(browser).key_down(Keys.SHIFT).click(gallery_images(browser)[6])
    shift.key_up(Keys.SHIFT).perform()
    until(browser, lambda: told(browser) == "3 chosen")
    relabel(browser, "9")
    until(browser, lambda: marked(browser, "corrected") == ["4", "5", "6"])
    assert table(process, set_id) == {"4": "9", "5": "9", "6": "9"}
    assert "now 9, corrected" in str(gallery_images(browser)[4].get_attribute("aria-label"))

    gallery_images(browser)[5].click()
    press(browser, "Leave out")
    until(browser, lambda: marked(browser, "left-out") == ["5"])
    assert table(process, set_id) == {"4": "9", "5": "-", "6": "9"}
    until(browser, lambda: class_counts(browser) == ["178", "182", "177", "183", "180", "181",
                                                     "180", "179", "174", "182"])  # fmt: skip

    press(browser, "Undo")
    until(browser, lambda: marked(browser, "corrected") == ["4", "5", "6"])
    process.kill()
    process.restart()
    browser.get(browser.current_url)
    until(browser, lambda: marked(browser, "corrected") == ["4", "5", "6"])
    complaints(browser)  # about the connection that was lost
    press(browser, "Redo")
    until(browser, lambda: marked(browser, "left-out") == ["5"])
    press(browser, "Undo")
    until(browser, lambda: marked(browser, "corrected") == ["4", "5", "6"])
    press(browser, "Undo")
    until(browser, lambda: marked(browser, "corrected") == [])
    assert table(process, set_id) == {}
    assert not button(browser, "Undo").is_enabled()


@pytest.mark.slow
def test_every_view_has_an_address_and_only_images_in_sight_are_fetched(
    browser: webdriver.Chrome, running: tuple[StudioProcess, str]
) -> None:
    images = browser.find_elements(By.CSS_SELECTOR, ".op-gallery [role=option] img")
    sources = [image.get_attribute("src") for image in images]
    assert len(set(sources)) == 100
    # How far beyond the screen a browser fetches is its own affair.
    assert {image.get_attribute("loading") for image in images} == {"lazy"}
    browser.get(f"{running[0].address}/data/{running[1]}")
    until(browser, lambda: "test 179" in shown(browser), 60)  # somebody has looked by now
    button(browser, "3").click()
    until(browser, lambda: "3 (183)" in shown(browser))
    button(browser, "test 18").click()
    until(browser, lambda: "3, test (18)" in shown(browser))
    assert browser.current_url.endswith("?class=3&part=test")
    browser.refresh()
    until(browser, lambda: len(gallery_images(browser)) == 18)
    browser.back()
    until(browser, lambda: "3 (183)" in shown(browser))
    button(browser, "Next").click()
    until(browser, lambda: len(gallery_images(browser)) == 83)
    resize(browser, 400)
    until(browser, lambda: sideways(browser) == 0)
    resize(browser, 1280)


@pytest.mark.slow
@pytest.mark.torch
def test_training_takes_what_was_corrected(
    browser: webdriver.Chrome, running: tuple[StudioProcess, str], cli: Cli, tmp_path: Path
) -> None:
    process, set_id = running
    gallery_images(browser)[2].click()
    relabel(browser, "5")
    until(browser, lambda: marked(browser, "corrected") == ["2"])
    gallery_images(browser)[3].click()
    press(browser, "Leave out")
    until(browser, lambda: marked(browser, "left-out") == ["3"])
    path = process.home / "sets" / set_id / "corrections.csv"
    done = cli("train", "digits", "--model", "mlp", "--epochs", "1", "--labels", path,
               "--runs", tmp_path, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = Path(json.loads(done.stdout)["run"])
    about = json.loads((run / "dataset.json").read_text(encoding="utf-8"))
    assert about["images"] == 1796
    assert (about["corrections"]["relabelled"], about["corrections"]["left_out"]) == (1, 1)
