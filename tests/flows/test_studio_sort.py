"""A heap is dropped, its groups are named, it is asked about by keys only, and trained."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")
pytest.importorskip("sklearn")

from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains

from opsin.labelling.label_file import FOLDERS, LabelFile
from tests.browser import needs_axe, needs_chromium, prefer, resize, violations
from tests.studio_browser import StudioProcess, complaints, requests_elsewhere, shown, sideways
from tests.studio_visit import ACTIVE, Visit, answer_questions, asked, name_groups

pytestmark = [needs_chromium, needs_axe]

KINDS = ("dots", "lines", "rings")
COUNT = 180


@pytest.fixture(scope="module")
def heap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made photographs of three kinds in one folder; their names do not tell which."""
    folder, random = tmp_path_factory.mktemp("heap") / "heap", np.random.default_rng(0)
    folder.mkdir()
    down, across = np.mgrid[:96, :96]
    for number in range(COUNT + 1):
        pixels = np.empty((96, 96, 3), np.uint8)
        pixels[:] = random.integers(150, 255, 3)
        ink, size = random.integers(0, 90, 3), int(random.integers(6, 12))
        if number % 3 == 0:
            drawn = ((down % (2 * size) - size) ** 2 + (across % (2 * size) - size) ** 2) < size * 2
        elif number % 3 == 1:
            drawn = down % (2 * size) < size
        else:
            drawn = np.hypot(down - 48, across - 48) % (2 * size) < size
        pixels[drawn] = ink
        Image.fromarray(pixels).save(folder / f"img-{number:03}.png")
    return folder


def kind(name: str) -> str:
    return KINDS[int(name.partition("img-")[2][:3]) % 3]


def gallery(browser: webdriver.Chrome, class_: str) -> list[str | None]:
    """Return the first photographs of a class."""
    place = f"[aria-label='Photographs of {class_}'] .gallery-item"
    found = browser.find_elements("css selector", place)[:5]
    return [each.get_attribute("aria-label") for each in found]


def said(labels: Path) -> set[str]:
    """Return how the photographs got their labels."""
    with closing(LabelFile(labels)) as file:
        return {label.how for label in file.now().values()}


def test_a_heap_becomes_a_classifier(
    browser: webdriver.Chrome, running: StudioProcess, heap: Path
) -> None:
    visit = Visit(running, browser)
    visit.open()
    visit.give(*sorted(heap.glob("*.png"))[:COUNT])
    visit.reach("/photos")
    visit.click("Sort them")
    visit.reach("/sort")
    visit.see(f"{ACTIVE}//*[contains(@class, 'gallery-item')]")
    assert violations(browser) == []
    classes = name_groups(visit, kind, 6)
    assert len(classes) > 1
    visit.click("Questions", "//*[contains(@class, 'views')]")
    visit.until(lambda: "Enter" in shown(browser) and asked(browser))
    first, scrolled = asked(browser), "scrollTo(0, 40); return scrollY"
    resize(browser, 1280, 300)
    top = browser.execute_script(scrolled)
    ActionChains(browser).send_keys(" ").perform()  # skips, and does not scroll
    visit.until(lambda: asked(browser) != first)
    assert browser.execute_script("return scrollY") == top > 0
    resize(browser, 1280)
    slowest = answer_questions(visit, kind, classes, 24)
    visit.until(lambda: "% right" in shown(browser) or "more random" in shown(browser))
    for scheme in ("light", "dark"):
        prefer(browser, scheme)
        assert violations(browser) == []
    prefer(browser, "light")
    resize(browser, 400)
    visit.until(lambda: sideways(browser) == 0)
    resize(browser, 1280)

    # What was said is in the folders, and how it was said in the file.
    (labels,) = running.home.rglob("labels.sqlite")
    sorted_ones = list(labels.parent.glob("photos/[!.]*/*/*.png"))
    right = sum(path.parent.name == kind(path.name) for path in sorted_ones)
    assert right / len(sorted_ones) > 0.8
    visit.until(lambda: FOLDERS not in said(labels))
    assert {"group", "random"} <= said(labels) <= {"group", "random", "typical", "doubtful"}

    visit.open(browser.current_url.removeprefix(running.address).partition("/sort")[0] + "/photos")
    visit.until(lambda: len(gallery(browser, classes[0])) > 3)
    usual = gallery(browser, classes[0])
    tick = f"[aria-label='Photographs of {classes[0]}'] .gallery-tick"
    browser.execute_script("document.querySelectorAll(arguments[0])[3].click()", tick)
    visit.click("Find like this")
    visit.until(lambda: gallery(browser, classes[0])[0] == usual[3])  # itself is likest

    visit.click("Train", "//*[contains(@class, 'page-head')]")
    visit.reach("/results")
    visit.click("Try it", "//*[contains(@class, 'page-head')]")
    visit.reach("/try")
    visit.give(heap / f"img-{COUNT:03}.png")
    visit.see("//*[@class='try']//*[contains(@class, 'headline')]")
    print(f"{visit.actions} actions, {visit.seconds} s; slowest question {slowest:.2f} s")
    assert visit.actions < 80
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []


def test_questions_follow_the_groups_at_once(
    browser: webdriver.Chrome, running: StudioProcess, heap: Path
) -> None:
    """The page that was left keeps none of its photographs to itself."""
    visit = Visit(running, browser)
    visit.open()
    visit.give(*sorted(heap.glob("*.png"))[:12])
    visit.reach("/photos")
    visit.click("Sort them")
    visit.see(f"{ACTIVE}//*[contains(@class, 'gallery-item')]")
    visit.click("Questions", "//*[contains(@class, 'views')]")
    visit.until(lambda: "img-" in asked(browser) or "nothing to ask" in shown(browser))
    assert "nothing to ask" not in shown(browser)
