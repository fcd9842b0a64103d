"""Home: what is dropped becomes a project; projects are renamed, removed and restored."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser import needs_chromium, resize
from tests.conftest import write_shapes
from tests.served import wait_for
from tests.server.made_engine import png
from tests.studio_browser import (
    StudioProcess,
    complaints,
    field,
    one,
    press,
    requests_elsewhere,
    send,
    shown,
    sideways,
    studio,
    until,
)

pytestmark = needs_chromium

HOSTILE = '<img src=x onerror="window.HACKED=1">{{7*7}}'
FILES = ".dropzone input[type=file]"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioProcess]:
    folder = tmp_path_factory.mktemp("studio")
    write_shapes(folder / "root" / "shapes")
    write_shapes(folder / "outside" / "secret")
    (folder / "root" / "way-out").symlink_to(folder / "outside")
    with studio(folder, roots=[folder / "root"]) as running:
        yield running


@pytest.fixture
def browser(browser: webdriver.Chrome, running: StudioProcess) -> Iterator[webdriver.Chrome]:
    complaints(browser)
    yield browser
    assert complaints(browser) == []
    assert browser.execute_script("return window.HACKED") is None
    assert requests_elsewhere(browser, running.address) == []


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise in 9 MB that no packing makes smaller."""
    path, random = tmp_path_factory.mktemp("packed") / f"pets {HOSTILE[:16]}.zip", np.random
    with zipfile.ZipFile(path, "w") as archive:
        for label in ("cat", "dog", HOSTILE):
            for number in range(4):
                noise = random.default_rng(number + 9 * len(label)).integers(0, 256, (512, 512, 3))
                archive.writestr(f"pets/{label}/{number}.png", png(noise.astype(np.uint8)))
    return path


def slow_down(browser: webdriver.Chrome, bytes_a_second: int) -> None:
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1}
    limits |= {"uploadThroughput": bytes_a_second}
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", limits)


def arrived(running: StudioProcess) -> int:
    """Return how many bytes of uploads lie in the studio's folder."""
    return sum(file.stat().st_size for file in (running.home / "uploads").glob("*"))


@pytest.mark.slow
def test_an_upload_that_breaks_off_goes_on_where_it_stopped(
    browser: webdriver.Chrome, running: StudioProcess, packed: Path
) -> None:
    browser.get(running.address)
    until(browser, lambda: one(browser, FILES))
    slow_down(browser, 1_500_000)
    send(browser, packed, to=FILES)
    wait_for(lambda: arrived(running) > 2_000_000)
    browser.refresh()
    slow_down(browser, -1)
    until(browser, lambda: one(browser, FILES))
    # Chromium asks nobody who has not touched the page whether to leave it.
    assert all("beforeunload" in each for each in complaints(browser))
    kept = arrived(running)
    assert 2_000_000 < kept < packed.stat().st_size
    browser.execute_script(
        """const send = window.fetch; sessionStorage.SENT = 0;
        window.fetch = (address, how) => {
          if (how?.method === 'PUT') sessionStorage.SENT = +sessionStorage.SENT + how.body.size;
          return send(address, how); };"""
    )
    one(browser, FILES).send_keys(str(packed))
    until(browser, lambda: browser.current_url.endswith("/photos"))
    sent = browser.execute_script("return +sessionStorage.SENT")
    assert 0 < sent <= packed.stat().st_size - kept
    assert arrived(running) == 0


def test_loose_photos_become_a_project(
    browser: webdriver.Chrome, running: StudioProcess, shapes: Path
) -> None:
    browser.get(running.address)
    send(browser, *sorted((shapes / "disc").glob("*.png"))[:3], to=FILES)
    until(browser, lambda: browser.current_url.endswith("/photos"))
    until(browser, lambda: "Not sorted yet 3" in shown(browser))
    browser.get(running.address)
    until(browser, lambda: "My photographs" in names(browser))
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".project-pictures img")) > 2)
    choose(browser, "My photographs", "Remove")
    until(browser, lambda: "Recently removed (1)" in shown(browser))
    assert any(running.home.rglob(".not-sorted"))
    browser.get(f"{running.address}/settings")
    press(browser, "Delete permanently what was removed")
    until(browser, lambda: one(browser, ".q-dialog .danger").is_displayed())
    one(browser, ".q-dialog .danger").click()
    until(browser, lambda: "The space is free" in shown(browser))
    assert not any(running.home.rglob(".not-sorted"))
    browser.get(running.address)
    until(browser, lambda: "Looking for your projects" not in shown(browser))
    assert "Recently removed" not in shown(browser)


def names(browser: webdriver.Chrome) -> list[str]:
    return [item.text for item in browser.find_elements(By.CSS_SELECTOR, ".project-name")]


def choose(browser: webdriver.Chrome, name: str, item: str) -> None:
    one(browser, field(f"More about {name}")).click()
    press(browser, item)


def test_projects_are_made_renamed_removed_and_restored(
    browser: webdriver.Chrome, running: StudioProcess
) -> None:
    browser.get(running.address)
    press(browser, "Use the camera")
    until(browser, lambda: "/photos?camera=1" in browser.current_url)
    until(browser, lambda: "0 photographs in 2 classes." in shown(browser))
    undo = one(browser, ".page .line button.quiet")
    assert (undo.text.endswith("Undo"), undo.is_enabled()) == (True, False)
    made = browser.current_url.partition("/photos")[0]
    browser.get(running.address)
    until(browser, lambda: "My photographs" in names(browser))

    one(browser, ".project-name").click()
    until(browser, lambda: one(browser, field("Name")).is_displayed())
    one(browser, field("Name")).send_keys("not this", Keys.ESCAPE)
    until(browser, lambda: browser.switch_to.active_element.text == "My photographs")
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    until(browser, lambda: one(browser, field("Name")).is_displayed())
    one(browser, field("Name")).send_keys(Keys.CONTROL, "a")
    one(browser, field("Name")).send_keys(HOSTILE, Keys.ENTER)
    until(browser, lambda: HOSTILE in names(browser))
    press(browser, "Undo")
    until(browser, lambda: "My photographs" in names(browser))

    choose(browser, "My photographs", "Remove")
    until(browser, lambda: "My photographs" not in names(browser))
    # After a reload it can be restored, by one click on what is folded.
    browser.refresh()
    until(browser, lambda: one(browser, ".question .q-item").is_displayed())
    one(browser, ".question .q-item").click()
    until(browser, lambda: one(browser, field("Restore My photographs")).is_displayed())
    one(browser, field("Restore My photographs")).click()
    until(browser, lambda: "My photographs" in names(browser))
    # Its own address leads to its photographs.
    browser.get(f"{made}/")
    assert browser.current_url == f"{made}/photos"
    for width in (400, 1200):
        resize(browser, width)
        browser.get(running.address)
        until(browser, lambda: names(browser))
        assert sideways(browser) == 0
    # Help opens beside the page, and stays while one goes on.
    one(browser, field("Help with this page")).click()
    until(browser, lambda: "opsin-help" in browser.execute_script("return document.cookie"))
    browser.get(f"{made}/photos")
    until(browser, lambda: one(browser, ".help iframe").get_attribute("src"))
    assert "/help/how-to/" in str(one(browser, ".help iframe").get_attribute("src"))
    one(browser, field("Close the help")).click()
    until(browser, lambda: not one(browser, ".help iframe").is_displayed())
    assert all("/help/" in each for each in complaints(browser))  # the site may not be built


def test_a_folder_of_this_machine_is_added_and_nothing_outside(
    browser: webdriver.Chrome, running: StudioProcess
) -> None:
    browser.get(f"{running.address}/add")
    until(browser, lambda: "shapes" in shown(browser))
    assert "1 not shown" in shown(browser)
    assert "outside" not in shown(browser)
    press(browser, "shapes")
    until(browser, lambda: "root" in shown(browser))
    press(browser, "Add this folder")
    until(browser, lambda: browser.current_url.endswith("/photos"))
    browser.get(running.address)
    until(browser, lambda: "shapes" in names(browser))
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".project-pictures img")) > 1)
