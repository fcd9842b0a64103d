"""Photographs and a camera are answered, wrong answers are corrected, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from opsin.data.dataset import Dataset, load
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from opsin.studio.words import opaque
from tests.browser import chromium, needs_chromium, resize
from tests.made_runs import answers_right, write_run
from tests.made_studio import fill_with_digits
from tests.served import wait_for
from tests.studio_browser import StudioProcess, calm, one, press, send, shown, studio, until
from tests.studio_visit import FAKE

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, digits: Dataset, nearest_mean: Path
) -> Iterator[StudioProcess]:
    """A studio with a project of ten digits, and two classifiers of it."""
    folder = tmp_path_factory.mktemp("studio")
    sets = Library(folder / "home", Queue(folder / "home"))
    made = sets.new_empty(digits.classes, title="Digits")
    fill_with_digits(sets, made.id, digits, 300)
    (folder / "new").mkdir()
    for number in range(8):
        Image.fromarray(digits.images[number][..., 0]).save(folder / "new" / f"{number}.png")
    mine = load(*made.sources)
    for name, right in (("first", 0.8), ("second", 0.9)):
        write_run(folder / "runs", name, mine, answers_right(mine, right), classifier=nearest_mean)
    (folder / "project").write_text(made.id)
    with studio(folder) as process:
        yield process


def page(running: StudioProcess, query: str = "") -> str:
    project = (running.folder / "project").read_text()
    return f"{running.address}/projects/{project}/try{query}"


def named(browser: webdriver.Chrome, words: str) -> WebElement:
    """A button or an entry of a menu, by a part of its words."""
    parts = "self::button or self::a or contains(@class, 'q-item')"
    return browser.find_element(By.XPATH, f"//*[{parts}][contains(normalize-space(.), '{words}')]")


def correct(browser: webdriver.Chrome) -> None:
    """Say that an answer is wrong, and which class is right."""
    until(browser, lambda: named(browser, "That is wrong"))
    named(browser, "That is wrong").click()
    until(browser, lambda: named(browser, "It is 7").is_displayed())
    named(browser, "It is 7").click()
    assert "went wrong" not in shown(browser)


def look(browser: webdriver.Chrome) -> None:
    named(browser, "Use the camera").click()
    until(browser, lambda: "answers a second" in shown(browser))


def gallery(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, ".gallery-item")


def test_a_photograph_is_answered_explained_and_corrected(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    browser.get(page(running, f"?run={opaque('first')}"))
    send(browser, running.folder / "new" / "0.png")
    until(browser, lambda: one(browser, ".bars dt"))
    assert one(browser, ".bars dt").text == "0"
    assert one(browser, ".headline").text.startswith("0, ")
    assert len(browser.find_elements(By.CSS_SELECTOR, ".bars dt")) == 10
    press(browser, "Where does it look?")
    until(browser, lambda: "hiding this makes 0 less probable" in shown(browser), 60)
    press(browser, "Other heat maps, with their checks")
    until(browser, lambda: "training photographs most like it" in shown(browser), 60)
    browser.back()
    until(browser, lambda: one(browser, ".bars dt"))

    # It joins another class, which is taken back.
    home = running.folder / "home"
    correct(browser)
    until(browser, lambda: "Added to your photographs of 7" in shown(browser))
    assert len(list(home.glob("sets/*/photos/*/7/0-*.png"))) == 1
    until(browser, lambda: "1 new photograph" in shown(browser))
    named(browser, "Train again")
    named(browser, "Undo").click()
    until(browser, lambda: "new photograph" not in shown(browser))
    assert not list(home.glob("sets/*/photos/*/7/0-*.png"))
    # The address alone brings it back, and another classifier answers the same image.
    browser.get(browser.current_url.replace(opaque("first"), opaque("second")))
    until(browser, lambda: one(browser, ".bars dt"))
    calm(running, browser)


def test_many_photographs_are_grouped_by_their_answers(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    browser.get(page(running))
    files = sorted((running.folder / "new").iterdir())
    send(browser, *files[:3])
    until(browser, lambda: len(gallery(browser)) == 3, 60)
    assert "0 (1)" in shown(browser)
    gallery(browser)[0].click()
    until(browser, lambda: "1 of 3" in shown(browser))
    one(browser, "body").send_keys(Keys.ARROW_RIGHT)
    until(browser, lambda: "2 of 3" in shown(browser))
    # It joins a class of the project by a click, which is taken back.
    named(browser, "7 (").click()
    until(browser, lambda: "Added to your photographs of 7" in shown(browser))
    one(browser, "body").send_keys(Keys.ESCAPE)
    until(browser, lambda: "2 of 3" not in shown(browser))
    named(browser, "Undo").click()
    until(browser, lambda: "Added to" not in shown(browser))

    browser.get(page(running))
    send(browser, running.folder / "new", to="input[webkitdirectory]")
    until(browser, lambda: one(browser, "a[href$='.csv']"), 60)
    headings = [each.text for each in browser.find_elements(By.TAG_NAME, "h2")]
    assert sum(int(text.rpartition("(")[2][:-1]) for text in headings) == 8
    table = one(browser, "a[href$='.csv']").get_attribute("href")
    script = "return fetch(arguments[0]).then((answer) => answer.text())"
    assert browser.execute_script(script, table).startswith("image,answer,label")
    gallery(browser)[1].click()
    until(browser, lambda: "2 of 8" in shown(browser))
    calm(running, browser)


def test_the_camera_is_answered_while_it_looks(running: StudioProcess, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", *FAKE) as browser:
        resize(browser, 1200)
        browser.get(page(running))
        until(browser, lambda: named(browser, "Use the camera"))
        look(browser)
        assert len(browser.find_elements(By.CSS_SELECTOR, ".live .bars dt")) == 10
        named(browser, "Stop").click()
        until(browser, lambda: not browser.find_elements(By.TAG_NAME, "video"))
        look(browser)
        # It is taken away.
        script = "document.querySelector('video').srcObject.getVideoTracks()[0].onended()"
        browser.execute_script(script)
        until(browser, lambda: "The camera is gone" in shown(browser))
        look(browser)
        named(browser, "Keep this photograph").click()
        until(browser, lambda: "image=" in browser.current_url)
        until(browser, lambda: one(browser, ".bars"))
        calm(running, browser)


def test_a_camera_that_is_refused_is_said_in_words(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    browser.get(page(running))
    until(browser, lambda: named(browser, "Use the camera"))
    named(browser, "Use the camera").click()
    until(browser, lambda: one(browser, ".intake .error"))
    assert "camera" in one(browser, ".intake .error").text


def test_a_training_with_a_correction_starts_once_and_knows_what_it_is_compared_with(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    browser.get(page(running, f"?run={opaque('second')}"))
    send(browser, running.folder / "new" / "1.png")
    correct(browser)
    until(browser, lambda: named(browser, "Train again"))
    named(browser, "Train again").click()
    until(browser, lambda: browser.current_url.endswith(f"/train?compare={opaque('second')}"))
    browser.refresh()
    wait_for(lambda: [job["kind"] for job in running.jobs()].count("train") == 1)
    calm(running, browser)
