"""The server's page in a real browser: every way in, hostile names, and no request elsewhere."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from opsin.data.dataset import Dataset
from opsin.runtime.prediction import REJECTED
from tests.browser import chromium, console, needs_chromium, requests_beyond, resize
from tests.made_classifier import write_refusing
from tests.served import serving
from tests.server.made_engine import png
from tests.studio_browser import until

pytestmark = needs_chromium

HOSTILE = "<img src=x onerror=\"document.title='stolen'\"><script>document.title='stolen'</script>"


@pytest.fixture(scope="module")
def address(nearest_mean: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("hostile") / "classifier.onnx"
    names = [f"{HOSTILE}{number}" for number in range(9)] + ["W" * 120]
    hostile = write_refusing(path, nearest_mean, names)
    models = (f"digits={nearest_mean}", f"hostile={hostile}")
    with serving(*models, "--workers", "1", folder=tmp_path_factory.mktemp("server")) as server:
        yield f"{server.url}/"


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> webdriver.Chrome:
    resize(browser, 1280)
    browser.get(address)
    until(browser, lambda: "10 classes" in text(browser, "about"))
    console(browser, "browser")
    return browser


def text(browser: webdriver.Chrome, identity: str) -> str:
    return browser.find_element(By.ID, identity).text


def shown(browser: webdriver.Chrome, identity: str) -> bool:
    return browser.find_element(By.ID, identity).is_displayed()


def give(browser: webdriver.Chrome, path: Path) -> None:
    browser.find_element(By.ID, "file").send_keys(str(path))


@pytest.fixture(scope="module")
def three(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "three.png"
    path.write_bytes(png(digits.images[3]))
    return path


def bars(browser: webdriver.Chrome) -> list[tuple[str, float, float]]:
    """Return name, number and length of each bar, the latter as a share of the longest."""
    rows = browser.find_elements(By.CSS_SELECTOR, "#bars > div")
    return [
        (
            row.find_element(By.TAG_NAME, "dt").text,
            float(row.find_element(By.TAG_NAME, "dd").text.rstrip("%")) / 100,
            row.find_element(By.TAG_NAME, "i").rect["width"]
            / row.find_element(By.CSS_SELECTOR, ".bar").rect["width"],
        )
        for row in rows
    ]


def test_a_selected_image_gets_its_label_and_its_bars(
    page: webdriver.Chrome, address: str, three: Path
) -> None:
    console(page, "performance")
    give(page, three)
    until(page, lambda: text(page, "verdict").startswith("3, "))
    until(page, lambda: abs(bars(page)[0][2] - bars(page)[0][1]) < 0.02)  # once it has grown
    found = bars(page)
    assert len(found) == 5
    assert found[0][0] == "3"
    assert [share for _, share, _ in found] == sorted((b for _, b, _ in found), reverse=True)
    assert page.title == f"{text(page, 'verdict')} · Opsin"
    assert shown(page, "shown") and page.find_element(By.ID, "shown").get_attribute("alt")
    assert console(page, "browser") == []
    assert [a for a in requests_beyond(page, address) if not a.startswith(address)] == []


def test_why_lays_a_map_over_the_image_and_takes_it_away(
    page: webdriver.Chrome, three: Path
) -> None:
    assert not shown(page, "why")
    give(page, three)
    until(page, lambda: shown(page, "why"))
    page.find_element(By.ID, "why").send_keys(Keys.ENTER)
    until(page, lambda: shown(page, "explained"))
    assert "points from the probability of 3" in text(page, "explained")
    drawn = page.execute_script(
        """const heat = document.getElementById("heat"), box = heat.getBoundingClientRect();
        const seen = heat.getContext("2d").getImageData(0, 0, heat.width, heat.height).data;
        const under = document.getElementById("shown").getBoundingClientRect();
        return [new Set(seen).size, box.width === under.width && box.top === under.top];"""
    )
    assert drawn[0] > 20 and drawn[1]
    page.find_element(By.ID, "why").click()
    assert not shown(page, "heat")
    assert not shown(page, "explained")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_an_image_can_be_dropped_and_pasted(page: webdriver.Chrome, three: Path, way: str) -> None:
    page.execute_script(
        """const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "three.png", {type: "image/png"}));
        document.body.dispatchEvent(arguments[1] === "drop"
          ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
          : new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));""",
        base64.b64encode(three.read_bytes()).decode(),
        way,
    )
    until(page, lambda: text(page, "verdict").startswith("3, "))


def test_a_class_named_like_a_script_stays_a_name(
    page: webdriver.Chrome, three: Path, tmp_path: Path
) -> None:
    Select(page.find_element(By.ID, "model")).select_by_visible_text("hostile")
    until(page, lambda: HOSTILE in text(page, "about"))
    give(page, three)
    until(page, lambda: shown(page, "bars"))
    assert text(page, "verdict").startswith(f"{HOSTILE}3, ")
    assert bars(page)[0][0] == f"{HOSTILE}3"
    assert page.title.startswith("<img src=x")
    resize(page, 400)
    root = "document.documentElement"
    assert page.execute_script(f"return [{root}.clientWidth, {root}.scrollWidth]") == [400] * 2
    assert page.find_elements(By.CSS_SELECTOR, "main script, img[src=x], #bars img") == []
    noise = tmp_path / "noise.png"
    noise.write_bytes(png(np.full((8, 8, 1), 128, np.uint8)))
    give(page, noise)
    until(page, lambda: text(page, "verdict") == REJECTED)
    assert "none" in str(page.find_element(By.TAG_NAME, "body").get_attribute("class"))
    assert console(page, "browser") == []


def test_all_of_it_works_by_keyboard(page: webdriver.Chrome, three: Path) -> None:
    give(page, three)
    until(page, lambda: shown(page, "why"))
    page.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(12):
        webdriver.ActionChains(page).send_keys(Keys.TAB).perform()
        active = page.switch_to.active_element
        reached.append(active.get_attribute("id") or active.tag_name)
    assert {"file", "photograph", "why", "model", "summary", "a"} <= set(reached)
    assert "capture" not in reached


LEARN = Path(__file__).parents[2] / "docs" / "learn"
#: The tutorials' page of thirty lines, which the server shows in place of its own.
PAGE = LEARN / "select-a-picture.html"


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
        assert text(browser, "label") == "Select a picture."
        browser.find_element(By.TAG_NAME, "input").send_keys(str(tmp_path / "three.png"))
        until(browser, lambda: text(browser, "label").startswith("3, "))
        assert text(browser, "label").endswith("% sure")
        assert browser.find_element(By.CSS_SELECTOR, "img").size["width"] > 1
        assert console(browser, "browser") == []
        browser.find_element(By.TAG_NAME, "input").send_keys(str(tmp_path / "notes.txt"))
        until(browser, lambda: "Save it again" in text(browser, "label"))
        changed = page.read_text(encoding="utf-8").replace("Select a picture.", "Go on.")
        page.write_text(changed, encoding="utf-8")
        browser.get(f"{server.url}/")
        assert text(browser, "label") == "Go on."
        # From elsewhere, as by a double click, nothing answers.
        browser.get(PAGE.as_uri())
        browser.find_element(By.TAG_NAME, "input").send_keys(str(tmp_path / "three.png"))
        until(browser, lambda: text(browser, "label").startswith("No answer: "))


def test_the_tutorial_shows_the_page_as_it_is() -> None:
    tutorial = (LEARN / "an-interface.md").read_text(encoding="utf-8")
    assert f"```html\n{PAGE.read_text(encoding='utf-8')}```" in tutorial
