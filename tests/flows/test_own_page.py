"""The tutorials' page of thirty lines, shown by the server in place of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.by import By

from opsin.data.dataset import Dataset
from tests.browser import chromium, console, needs_chromium
from tests.served import serving
from tests.server.made_engine import png
from tests.studio_browser import until

LEARN = Path(__file__).parents[2] / "docs" / "learn"
PAGE = LEARN / "select-a-picture.html"

pytestmark = needs_chromium


def select(browser: webdriver.Chrome, file: Path) -> None:
    browser.find_element(By.CSS_SELECTOR, "input").send_keys(str(file))


def label(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.ID, "label").text


@pytest.mark.slow
def test_a_selected_picture_gets_its_label(
    nearest_mean: Path, digits: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "three.png").write_bytes(png(digits.images[3]))
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    page = tmp_path / "select-a-picture.html"
    shutil.copy(PAGE, page)
    with (
        serving(nearest_mean, "--workers", "1", "--page", page, folder=tmp_path) as server,
        chromium(tmp_path / "chromium") as browser,
    ):
        browser.get(f"{server.url}/")
        console(browser, "browser")
        assert label(browser) == "Select a picture."
        select(browser, tmp_path / "three.png")
        until(browser, lambda: label(browser).startswith("3, "))
        assert label(browser).endswith("% sure")
        assert browser.find_element(By.CSS_SELECTOR, "img").size["width"] > 1
        assert console(browser, "browser") == []
        select(browser, tmp_path / "notes.txt")
        until(browser, lambda: "Save it again" in label(browser))
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("Select a picture.", "Go on."), encoding="utf-8")
        browser.get(f"{server.url}/")
        assert label(browser) == "Go on."
        # From elsewhere, as by a double click, nothing answers.
        browser.get(PAGE.as_uri())
        select(browser, tmp_path / "three.png")
        until(browser, lambda: label(browser).startswith("No answer: "))


def test_the_tutorial_shows_the_page_as_it_is() -> None:
    tutorial = (LEARN / "an-interface.md").read_text(encoding="utf-8")
    assert f"```html\n{PAGE.read_text(encoding='utf-8')}```" in tutorial
