"""From a page of the studio to what explains it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver

from opsin.core.documentation import SITE
from tests.browser import chromium, needs_chromium
from tests.studio_browser import (
    StudioProcess,
    complaints,
    one,
    requests_elsewhere,
    shown,
    studio,
    until,
)

pytestmark = [
    needs_chromium,
    pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: make site"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioProcess]:
    with studio(tmp_path_factory.mktemp("studio")) as process:
        yield process


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.slow
def test_the_question_mark_opens_the_page_that_explains(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    browser.get(f"{running.address}/data")
    until(browser, lambda: one(browser, ".op-guide"))
    mark = one(browser, ".op-guide")
    assert mark.accessible_name == "Help with this page"
    first = browser.current_window_handle
    mark.click()
    until(browser, lambda: len(browser.window_handles) == 2)
    (other,) = {*browser.window_handles} - {first}
    browser.switch_to.window(other)
    until(browser, lambda: "/help/how-to/data.html" in browser.current_url)
    until(browser, lambda: "Load images from elsewhere" in shown(browser))
    # The page keeps its look and its scripts under the studio's policy.
    assert browser.execute_script("return document.styleSheets[0].cssRules.length") > 100
    has_run = "return document.documentElement.classList.contains('js')"
    until(browser, lambda: browser.execute_script(has_run))
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []
