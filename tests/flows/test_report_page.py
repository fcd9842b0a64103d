"""Reports and inspections in a real browser: whole, narrow and wide, and asking nobody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import opsin
from tests.conftest import without_drawing

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser import check_page, needs_chromium, resize
from tests.conftest import a_few
from tests.studio_browser import until

pytestmark = [pytest.mark.torch, needs_chromium]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> opsin.Run:
    """A run with all that a report and an inspection can show, and names that need care."""
    pytest.importorskip("torch")
    random = np.random.default_rng(0)
    images = random.integers(0, 120, (900, 12, 12, 3), np.uint8)
    labels = np.arange(900) % 3
    images[labels == 1, 3:9, 3:9] += 100
    images[labels == 2, :4] += 100
    labels[:40] = random.integers(0, 3, 40)
    classes = ["a", "<img src=x onerror=alert(1)>, a very long class name indeed", "漢字"]
    folder = tmp_path_factory.mktemp("runs")
    np.savez(folder / "made up.npz", images=images, labels=labels, classes=np.array(classes))
    with without_drawing():
        options: dict[str, Any] = {"model": "resnet", "hidden": (8, 16), "epochs": 3}
        run = opsin.train(folder / "made up.npz", runs=folder, quiet=True, **options)
    opsin.write_report(run, fix=folder / "labels.csv")
    return run


@pytest.mark.parametrize("width", a_few([400, 1280], 1))
def test_nothing_is_cut_and_nothing_goes_wrong(
    finished: opsin.Run, browser: webdriver.Chrome, width: int
) -> None:
    assert check_page(browser, finished.directory.page, width) > 30
    # Text that leaves its box to the right would be cut or lie over its neighbour.
    beyond = browser.execute_script(
        """
        return [...document.querySelectorAll("main *")].filter(e => !e.closest(".wide, .chart, pre")
            && e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1)
            .map(e => e.outerHTML.slice(0, 200));
        """
    )
    assert beyond == []
    charts = browser.find_elements(By.CSS_SELECTOR, ".chart[role=img]")
    assert len(charts) == 6
    for chart in charts:
        assert chart.get_attribute("aria-label")
        # Drawn so small that nobody can read it, it would be no chart.
        assert chart.find_element(By.TAG_NAME, "svg").size["width"] >= 540


def test_a_number_of_the_matrix_opens_its_images_by_keyboard(
    finished: opsin.Run, browser: webdriver.Chrome
) -> None:
    resize(browser, 1280)
    browser.get(finished.directory.page.absolute().as_uri())
    for link in browser.find_elements(By.CSS_SELECTOR, ".matrix a")[:4]:
        anchor = str(link.get_dom_attribute("href"))
        cell = browser.find_element(By.CSS_SELECTOR, anchor)
        assert cell.get_attribute("open") is None
        link.send_keys(Keys.ENTER)
        until(browser, lambda cell=cell: cell.get_attribute("open") is not None)  # type: ignore[misc]
        assert cell.find_element(By.TAG_NAME, "img").is_displayed()


def test_the_page_is_light_enough_to_send_and_report_json_has_its_figures(
    finished: opsin.Run,
) -> None:
    assert finished.directory.page.stat().st_size < 2_000_000
    report = finished.report
    assert report.failures and report.deep
    assert report.failures.suspected >= 1
    assert len(report.deep.robustness.kinds) == 6
    assert {each.name for each in report.deep.strangers or ()} >= {"blank", "noise", "text"}
    assert len(report.deep.map.points) == report.figures["test"].images
    assert finished.directory.card.read_text(encoding="utf-8").startswith("---\nlibrary_name:")


@pytest.mark.slow
def test_of_pages_of_an_inspection_nothing_is_cut_either(
    finished: opsin.Run, browser: webdriver.Chrome
) -> None:
    shown = np.load(finished.path.parent / "made up.npz")["images"][1]
    for found in (
        opsin.inspect(finished),
        opsin.inspect(finished, shown, explain=True),
        opsin.inspect(finished, layers=["stage2.gelu"], ablate=True, label="漢字"),
    ):
        assert found.page
        for width in (1280, 400):
            assert check_page(browser, found.page, width)
