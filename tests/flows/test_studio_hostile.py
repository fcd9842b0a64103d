"""Hostile names of classes, files, runs, notes, sets and jobs: text on every page, and no more."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import TimeoutException

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.job import Job, write_job
from opsin.studio.jobs.queue import Queue
from tests.browser import needs_chromium, resize, usable
from tests.hostile import FILES, NAMES, write_images
from tests.made_studio import addresses
from tests.studio_browser import StudioProcess, complaints, send, shown, sideways, studio, until
from tests.warm import Warm

pytestmark = [pytest.mark.torch, needs_chromium]


def furnish(folder: Path, warm: Warm) -> dict[str, str]:
    """Fill a studio's folders with hostile names of every kind; return its pages' addresses."""
    table = write_images(folder / FILES[0])
    words = ["train", str(table), "--model", "mlp", "--epochs", "2", "--json"]
    done = warm.run(words, cwd=folder)
    assert done.returncode == 0, done.stderr
    trained = folder / json.loads(done.stdout)["run"]
    for number, name in enumerate(NAMES):
        run = RunDirectory(folder / "runs" / FILES[number])
        shutil.copytree(trained, run.path)
        run.write_notes(name=name[:200], note=name[:10_000])
        if number % 3 == 2:
            run.set_status("failed", cause=name)
    shutil.rmtree(trained)
    jobs = Queue(folder / "home")
    sets = Library(folder / "home", jobs)
    for number, name in enumerate(NAMES):
        sets.new_empty(["a", f"b{number}"], title=name)
        jobs.add("train", name, [sys.executable, "-c", "import time; time.sleep(3600)", name])
        over = Job(
            kind="train",
            title=name[:500],
            argv=(name,),
            run=FILES[number],
            state="failed",
            cause=name,
        )
        write_job(folder / "home" / "jobs" / over.id, over)
    the_set = sets.add_source(str(table), title=NAMES[0])
    return addresses(FILES[0], FILES[1], the_set.id)


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory, warm: Warm
) -> Iterator[tuple[StudioProcess, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("hostile")
    pages = furnish(folder, warm)
    with studio(folder) as running:
        yield running, pages


def hacked(browser: webdriver.Chrome) -> list[str]:
    """Return the marks that scripts left in the page and in its frames."""
    marks = [browser.execute_script("return window.HACKED")]
    for frame in browser.find_elements("css selector", "iframe[src]"):
        browser.switch_to.frame(frame)
        marks.append(browser.execute_script("return window.HACKED"))
        browser.switch_to.default_content()
    return [f"ran: {mark}" for mark in marks if mark is not None]


def faults_of(browser: webdriver.Chrome, width: int) -> list[str]:
    """Return what is wrong with the page at a width, which it takes in time."""
    resize(browser, width)
    with contextlib.suppress(TimeoutException):
        until(browser, lambda: sideways(browser) <= 0, 10)
    found = hacked(browser) + complaints(browser)  # those have what was refused, too
    found += ["evaluated"] * ("49 ${7*7}" in shown(browser))
    return found + [f"wider than {width}"] * (sideways(browser) > 0)


@pytest.mark.slow
def test_names_are_text_on_every_page(
    hostile: tuple[StudioProcess, dict[str, str]], browser: webdriver.Chrome
) -> None:
    running, pages = hostile
    faults = {}
    for name, address in pages.items():
        resize(browser, 1600)
        usable(browser, running.address + address, quiet=0.8)
        if name.startswith("Inside"):  # a process of its own answers
            until(browser, lambda: browser.find_elements("css selector", ".answer"))
        faults[name] = faults_of(browser, 1600) + faults_of(browser, 400)
    assert {name: found for name, found in faults.items() if found} == {}


@pytest.mark.slow
def test_files_that_people_choose(
    hostile: tuple[StudioProcess, dict[str, str]], browser: webdriver.Chrome
) -> None:
    running, pages = hostile
    usable(browser, running.address + pages["Try"])
    folder = running.folder / "chosen"
    folder.mkdir()
    for number in (0, 2, 5, 7, 10):
        Image.new("L", (12, 12), 20 * number).save(folder / f"{FILES[number]}.png")
    send(browser, *folder.iterdir())
    until(browser, lambda: "job=" in browser.current_url)
    until(browser, lambda: "<script>window.HACKED" in shown(browser))
    assert faults_of(browser, 1600) + faults_of(browser, 400) == []
