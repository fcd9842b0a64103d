"""Photographs in the studio: sorted, looked at large, corrected, undone, in every window."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from tests.browser import needs_chromium, resize
from tests.conftest import write_shapes
from tests.studio_browser import (
    StudioProcess,
    button,
    complaints,
    one,
    press,
    requests_elsewhere,
    shown,
    sideways,
    studio,
    until,
)

pytestmark = needs_chromium

HOSTILE = '<img src=x onerror="window.HACKED=1">{{7*7}}'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StudioProcess, str]]:
    """A studio with a project of two classes, one photograph of which is there twice."""
    folder = tmp_path_factory.mktemp("studio")
    sets = Library(folder / "home", Queue(folder / "home"))
    made = sets.new_empty(["disc", "square"], title=HOSTILE)
    root = write_shapes(sets.get(made.id).place, 6)
    (root / "disc" / "again.png").write_bytes((root / "disc" / "0.png").read_bytes())
    with studio(folder) as process:
        yield process, f"{process.address}/projects/{made.id}/photos"


def column(browser: webdriver.Chrome, name: str) -> WebElement:
    return one(browser, f'.class-column[aria-label="{name}"]')


def photos(browser: webdriver.Chrome, name: str) -> list[WebElement]:
    return column(browser, name).find_elements(By.CSS_SELECTOR, "[role=option]")


def counts(browser: webdriver.Chrome) -> dict[str, str]:
    """Return the number of photographs of each class, as its column says it."""
    cards = browser.find_elements(By.CSS_SELECTOR, ".class-column.card")
    return {
        str(card.get_attribute("aria-label")): card.find_element(By.CSS_SELECTOR, ".note").text
        for card in cards
    }


def test_photographs_are_sorted_corrected_and_all_of_it_is_undone(
    browser: webdriver.Chrome, running: tuple[StudioProcess, str], tmp_path: Path
) -> None:
    process, address = running
    browser.get(address)
    until(browser, lambda: counts(browser) == {"disc": "7", "square": "6"}, 60)
    until(browser, lambda: "1 thing to look at" in shown(browser), 60)

    # What is wrong, until it is settled; also after a reload.
    press(browser, "1 thing to look at")
    until(browser, lambda: button(browser, "Keep one").is_displayed())
    button(browser, "Keep one").click()
    until(browser, lambda: "Everything was looked at" in shown(browser))
    browser.refresh()
    until(browser, lambda: counts(browser) == {"disc": "6", "square": "6"})
    assert "to look at" not in shown(browser)

    # Large, with keys.
    until(browser, lambda: photos(browser, "disc"))
    photos(browser, "disc")[0].click()
    until(browser, lambda: one(browser, ".viewer-image").get_property("naturalWidth") == 24)
    ActionChains(browser).send_keys("2").perform()
    until(browser, lambda: counts(browser) == {"disc": "5", "square": "7"})
    ActionChains(browser).send_keys("u").perform()
    until(browser, lambda: counts(browser) == {"disc": "6", "square": "6"})
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    until(browser, lambda: not browser.find_elements(By.CSS_SELECTOR, ".q-dialog .viewer"))

    # A zip brings a class and a loose photograph, which a key sorts. No button is made anew by
    # that: a click on it would be lost.
    browser.execute_script("document.querySelector('.gallery-tick').click()")
    until(browser, lambda: button(browser, "Find like this").is_displayed())
    buttons = [button(browser, words) for words in ("Find like this", "Train")]
    packed = tmp_path / "more.zip"
    write_shapes(tmp_path / "more", 2, ("cross",))
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(2):
            archive.write(tmp_path / f"more/cross/{number}.png", f"{HOSTILE[:20]}/{number}.png")
        archive.write(tmp_path / "more/cross/1.png", "loose.png")
    one(browser, '[aria-label="Drop photographs, folders or a zip"] input').send_keys(str(packed))
    new = HOSTILE[:20]
    until(browser, lambda: len(counts(browser)) == 3)
    until(browser, lambda: "Not sorted yet 1" in shown(browser))
    assert all(each.is_enabled() for each in buttons)  # stale ones raise
    tray = one(browser, '.gallery-track[aria-label="Photographs not sorted yet"]')
    browser.execute_script("arguments[0].scrollIntoView()", tray)
    until(browser, lambda: tray.find_elements(By.CSS_SELECTOR, "[role=option]"))
    tray.find_element(By.CSS_SELECTOR, "[role=option]").send_keys("2")
    until(browser, lambda: "Not sorted yet 0" in shown(browser))
    until(browser, lambda: "7" in counts(browser).values())
    button(browser, "Undo").click()
    until(browser, lambda: "Not sorted yet 1" in shown(browser))

    assert new not in browser.page_source  # it is text, with entities
    assert browser.execute_script("return window.HACKED") is None
    resize(browser, 400)
    until(browser, lambda: sideways(browser) == 0)
    resize(browser, 1280)
    assert complaints(browser) == []
    assert requests_elsewhere(browser, process.address) == []


def test_a_class_is_split_on_the_page_that_groups_photographs(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    sets = Library(tmp_path / "home", Queue(tmp_path / "home"))
    made = sets.new_empty(["disc", "shape"], title="Shapes")
    root = write_shapes(sets.get(made.id).place, 6)
    for path in (root / "square").iterdir():
        path.rename(root / "shape" / path.name)
    (root / "square").rmdir()
    with studio(tmp_path) as process:
        browser.get(f"{process.address}/projects/{made.id}/photos")
        until(browser, lambda: counts(browser) == {"disc": "6", "shape": "6"}, 60)
        one(browser, '[aria-label="More about shape"]').click()
        until(browser, lambda: "Split …" in shown(browser))
        browser.find_element(
            By.XPATH, "//*[contains(@class, 'q-item')][contains(., 'Split')]"
        ).click()
        until(browser, lambda: "6 photographs of shape" in shown(browser), 60)
        until(
            browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".groups .new-class input"), 60
        )
        first = one(browser, ".groups .card")
        many = int(first.find_element(By.CSS_SELECTOR, "h2").text.split()[0])
        field = first.find_element(By.CSS_SELECTOR, ".new-class input")
        field.send_keys("star", Keys.ENTER)
        until(browser, lambda: f"{6 - many} photographs of shape" in shown(browser))
        assert len(list((root / "star").glob("*.png"))) == many
        press(browser, "Undo")
        until(browser, lambda: "6 photographs of shape" in shown(browser))
        assert len(list((root / "shape").rglob("*.png"))) == 6
        assert complaints(browser) == []
