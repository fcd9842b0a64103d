"""Whatever is killed, the studio shows what is true, in every window."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.common.by import By

from opsin.core.artifacts.records import Epoch
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.dataset import Dataset
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import Queue
from tests.browser import console, needs_chromium
from tests.made_runs import answers_right, write_run
from tests.studio_browser import (
    StudioProcess,
    complaints,
    field,
    press,
    shown,
    until,
    wait_for,
)  # fmt: skip

pytestmark = [pytest.mark.torch, needs_chromium]


def training(running: StudioProcess, name: str, epochs: int) -> list[str]:
    """Return the command line of a training that takes seconds, or for ever."""
    words = ["train", "digits", "--model", "mlp", "--epochs", str(epochs), "--batch-size", "16"]
    return [*command(*words, "--checkpoint-every", "1", "--name", name, "--runs", running.runs)]


def ask(running: StudioProcess, browser: webdriver.Chrome, *names: str, epochs: int = 9999) -> None:
    """Put trainings into the queue while the studio is not there, then bring it back."""
    browser.get("about:blank")
    running.kill()
    queue = Queue(running.home, runs=running.runs)
    for job in queue.jobs():
        if job.over:
            queue.remove(job.id)
    for name in names:
        queue.add("train", name, training(running, name, epochs))
    running.restart()


def job(running: StudioProcess) -> dict[str, Any]:
    [job] = running.jobs()
    return job


def epochs(running: StudioProcess) -> int:
    directory = RunDirectory(running.runs / str(job(running)["run"]))
    return len(directory.lines(Epoch))


@pytest.mark.slow
def test_a_training_outlives_the_studio(running: StudioProcess, browser: webdriver.Chrome) -> None:
    ask(running, browser, "outlives", epochs=30)
    browser.get(running.address + "/jobs")
    until(browser, lambda: "Epoch " in shown(browser))
    running.kill()
    pid, before = job(running)["pid"], epochs(running)
    wait_for(lambda: epochs(running) > before)
    # It waits, so that it is not over before somebody looks.
    os.kill(pid, signal.SIGSTOP)
    running.restart()
    browser.get(running.address + "/jobs")
    until(browser, lambda: "Epoch " in shown(browser) and "outlives" in shown(browser))
    assert job(running)["pid"] == pid
    os.kill(pid, signal.SIGCONT)
    until(browser, lambda: "Finished" in shown(browser) and "Done" in shown(browser), 120)
    assert job(running)["state"] == "done"
    # While the studio was away, its windows could not reach it.
    console(browser, "browser")


@pytest.mark.slow
def test_a_killed_training_is_failed_and_one_click_resumes_it(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    ask(running, browser, "killed")
    browser.get(running.address + "/jobs")
    until(browser, lambda: "Epoch " in shown(browser))
    wait_for(lambda: epochs(running) > 1)
    before = epochs(running)
    os.kill(job(running)["pid"], signal.SIGKILL)
    until(browser, lambda: "Failed" in shown(browser), 10)
    assert "ended from outside" in shown(browser)
    assert job(running)["state"] == "failed"
    press(browser, "Continue")
    until(browser, lambda: "Epoch " in shown(browser))
    wait_for(lambda: epochs(running) > before)
    press(browser, "Stop and keep the best so far")
    until(browser, lambda: "Stopped" in shown(browser), 120)
    # It went on in its own run, and is usable where it was stopped.
    runs = [path for path in running.runs.iterdir() if path.name.endswith("-killed")]
    assert [path.name for path in runs] == [job(running)["run"]]
    assert json.loads((runs[0] / "report.json").read_text("utf-8"))["training"]["stopped"]
    assert complaints(browser) == []


@pytest.mark.slow
def test_two_windows_agree(
    running: StudioProcess, browser: webdriver.Chrome, digits: Dataset
) -> None:
    for name in ("third", "fourth"):
        write_run(running.runs, name, digits, answers_right(digits, 0.9))
    ask(running, browser, "zeroth", "first", "second")
    one, two = browser.current_window_handle, ""
    browser.get(running.address + "/jobs")
    browser.switch_to.new_window("tab")
    two = browser.current_window_handle
    browser.get(running.address + "/jobs")
    until(browser, lambda: titles(browser)[:3] == ["zeroth", "first", "second"])
    press(browser, "Cancel")
    for window in (two, one, two):
        browser.switch_to.window(window)
        until(browser, lambda: titles(browser)[:2] == ["zeroth", "second"])
    # A project that one window removes and restores goes and comes in the other, too.
    for window in (two, one):
        browser.switch_to.window(window)
        browser.get(running.address)
        until(browser, lambda: cards(browser))
    name = cards(browser)[0]
    browser.find_element(By.CSS_SELECTOR, field(f"More about {name}")).click()
    press(browser, "Remove")
    for window in (one, two):
        browser.switch_to.window(window)
        until(browser, lambda: name not in cards(browser))
    browser.switch_to.window(one)
    press(browser, "Undo")
    for window in (one, two):
        browser.switch_to.window(window)
        until(browser, lambda: name in cards(browser))
    browser.close()
    browser.switch_to.window(one)
    assert complaints(browser) == []


def cards(browser: webdriver.Chrome) -> list[str]:
    return [item.text for item in browser.find_elements(By.CSS_SELECTOR, ".project-name")]


def titles(browser: webdriver.Chrome) -> list[str]:
    articles = browser.find_elements(By.CSS_SELECTOR, "article")
    return [str(item.get_attribute("aria-label")) for item in articles]
