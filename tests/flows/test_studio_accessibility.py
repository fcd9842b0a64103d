"""Everybody can use the studio's pages: axe-core finds nothing wrong on any of them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from opsin.data.dataset import Dataset
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import Queue
from tests.browser import needs_axe, needs_chromium, prefer, usable, violations
from tests.made_studio import addresses, write_two_runs
from tests.studio_browser import StudioProcess, studio, until

pytestmark = [needs_chromium, needs_axe]

#: Those whose parts nearly all others have, too.
MOST_USED = ("Photos", "Results", "Try")
#: Opens what is folded away.
UNFOLD = """
document.querySelectorAll('.q-expansion-item .q-item').forEach(item => item.click());
document.querySelectorAll('details').forEach(folded => { folded.open = true; });
"""


@pytest.fixture(scope="module")
def furnished(
    tmp_path_factory: pytest.TempPathFactory, digits: Dataset, nearest_mean: Path
) -> Iterator[tuple[StudioProcess, dict[str, str]]]:
    """A studio with two runs, a set, two jobs, and the address of each page."""
    folder = tmp_path_factory.mktemp("furnished")
    write_two_runs(folder / "runs", digits, nearest_mean)
    jobs = Queue(folder / "home")
    jobs.add("train", "A job", [sys.executable, "-c", "import time; time.sleep(3600)"])
    jobs.add("train", "Another", command("train", "digits"))
    the_set = Library(folder / "home", jobs).add_source("digits")
    with studio(folder) as process:
        yield process, addresses("good", "better", the_set.id)


def still(browser: webdriver.Chrome, scheme: str) -> bool:
    """Tell whether a page wears a scheme's colours, and nothing in it still changes."""
    worn = "return document.body.classList.contains('body--dark')"
    # What moves without an end, as a bar of unknown length, may go on.
    moving = (
        "return document.getAnimations()"
        ".some(each => each.effect.getComputedTiming().endTime < Infinity)"
    )
    dark = browser.execute_script(worn)
    return dark is (scheme == "dark") and not browser.execute_script(moving)


def wrong(browser: webdriver.Chrome, address: str) -> list[str]:
    """Return the rules that a page breaks, light and dark, with the elements that break them."""
    prefer(browser, "light")
    usable(browser, address, quiet=0.3)
    browser.execute_script(UNFOLD)
    found = []
    for scheme in ("light", "dark"):
        prefer(browser, scheme)
        until(browser, functools.partial(still, browser, scheme))
        found += [f"{scheme}: {rule}" for rule in violations(browser)]
    browser.find_element(By.CSS_SELECTOR, "[aria-label=More]").click()
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "[role=menuitem]"))
    until(browser, functools.partial(still, browser, "dark"))
    # A menu lies over the page, outside its landmarks.
    return found + [rule for rule in violations(browser) if not rule.startswith("region:")]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page in MOST_USED else pytest.mark.slow)
     for page in addresses("", "", "")],
)  # fmt: skip
def test_everybody_can_use_a_page(
    page: str, furnished: tuple[StudioProcess, dict[str, str]], browser: webdriver.Chrome
) -> None:
    process, known = furnished
    assert wrong(browser, process.address + known[page]) == []
