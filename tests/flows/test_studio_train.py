"""Train: settings that are refused, a training that is followed, stopped, killed and continued."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.common.exceptions import ElementNotInteractableException
from selenium.webdriver.common.keys import Keys

from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from tests.browser import needs_chromium
from tests.studio_browser import (
    StudioProcess,
    button,
    choose,
    complaints,
    field,
    one,
    press,
    requests_elsewhere,
    shown,
    sideways,
    studio,
    until,
)

pytestmark = needs_chromium

# As many as the form takes: 600 were over in four seconds, before a busy browser could stop them.
EPOCHS = 10_000


def type_into(browser: webdriver.Chrome, label: str, text: str) -> None:
    """Type into a field that may be replaced at this moment, since another model is chosen."""

    def typed() -> bool:
        with contextlib.suppress(ElementNotInteractableException):
            if one(browser, field(label)).get_attribute("value") != text:
                one(browser, field(label)).send_keys(Keys.CONTROL, "a")
                one(browser, field(label)).send_keys(text)
        return one(browser, field(label)).get_attribute("value") == text

    until(browser, typed)


def last_epoch(browser: webdriver.Chrome) -> int:
    """The epoch that the step says, or 0."""
    words = one(browser, ".step").text
    found = re.search(r"Epoch ([\d,]+) of", words)
    return int(found[1].replace(",", "")) if found else 0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioProcess]:
    """A studio with one project, the digits."""
    folder = tmp_path_factory.mktemp("studio")
    Library(folder / "home", Queue(folder / "home")).add_source("digits", title="Digits")
    with studio(folder) as process:
        yield process


@pytest.fixture
def page(running: StudioProcess) -> str:
    (project,) = (running.home / "sets").glob("[!.]*")
    return f"{running.address}/projects/{project.name}/train"


@pytest.mark.torch
def test_a_training_is_set_followed_stopped_killed_and_continued(
    running: StudioProcess, browser: webdriver.Chrome, page: str
) -> None:
    browser.get(page)
    press(browser, "More")
    until(browser, lambda: "Good: " in shown(browser))
    press(browser, "Advanced")
    choose(browser, "Model", "dense layers")
    until(browser, lambda: one(browser, field("Hidden")).is_displayed())
    type_into(browser, "Epochs", "many")
    until(browser, lambda: "must be a whole number" in shown(browser))
    assert not button(browser, "Train").is_enabled()
    type_into(browser, "Epochs", str(EPOCHS))
    until(browser, lambda: "9,610" in shown(browser), 240)  # parameters of the estimate
    until(browser, lambda: "with your settings" in shown(browser))
    assert not sideways(browser)

    press(browser, "Train")
    until(browser, lambda: "Training Digits 1" in shown(browser), 60)
    until(browser, lambda: last_epoch(browser) > 0, 120)
    before = last_epoch(browser)
    browser.refresh()
    until(browser, lambda: last_epoch(browser) >= before, 60)
    assert "left" in shown(browser)

    press(browser, "Stop and keep the best so far")
    until(browser, lambda: "/results?run=" in browser.current_url, 120)
    assert [job["title"] for job in running.jobs() if job["kind"] == "train"] == ["Digits 1"]
    (folder,) = running.runs.iterdir()
    assert folder.name.endswith("-Digits-1")

    browser.get(page)
    until(browser, lambda: "Stopped" in shown(browser), 60)
    press(browser, "Continue")
    until(browser, lambda: last_epoch(browser) > before, 120)
    (job,) = (job for job in running.jobs() if job["kind"] == "train")
    os.killpg(job["pid"], signal.SIGKILL)
    until(browser, lambda: "perhaps because memory" in shown(browser), 60)
    press(browser, "Continue")
    until(browser, lambda: last_epoch(browser) > before, 120)
    running.kill()  # the training outlives the studio
    running.restart()
    browser.get(page)
    until(browser, lambda: last_epoch(browser) > before, 60)
    press(browser, "Stop and keep the best so far")
    until(browser, lambda: "/results?run=" in browser.current_url, 120)
    assert [text for text in complaints(browser) if "/train" in text] == []
    assert requests_elsewhere(browser, running.address) == []


def test_a_network_that_is_not_here_says_what_it_takes(
    running: StudioProcess, browser: webdriver.Chrome, page: str
) -> None:
    browser.get(page)
    press(browser, "More")
    press(browser, "Advanced")
    choose(browser, "Model", "pretrained")
    until(browser, lambda: "Choose a pretrained network." in shown(browser))
    assert not one(browser, ".page-head button.primary").is_enabled()  # "Train", or "Train again"
    choose(browser, "Pretrained network", "mobilenetv4-small")
    # Nothing is fetched for an estimate: what it would take is shown.
    until(browser, lambda: "is downloaded (15.1 MB, apache-2.0)" in shown(browser))
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []
