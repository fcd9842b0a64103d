"""A run whose images were moved: the studio asks where they are, and proves it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

import opsin
from opsin.studio.runs.run_index import opaque
from tests.browser import needs_chromium
from tests.conftest import write_shapes
from tests.made_runs import answers_right, write_run
from tests.made_studio import project_of_run
from tests.studio_browser import StudioProcess, calm, one, press, shown, studio, until

pytestmark = needs_chromium

RUN = opaque("shapes")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[StudioProcess]:
    """A studio with a run on a folder that was moved since, beside a folder of others."""
    source = tmp_path / "photos"
    write_shapes(source)
    data = opsin.load(source)
    write_run(tmp_path / "runs", "shapes", data, answers_right(data, 0.0))
    source.rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "others")
    next((tmp_path / "others" / "disc").iterdir()).unlink()
    with studio(tmp_path) as process:
        yield process
        assert "Traceback" not in process.said()


def enter(browser: webdriver.Chrome, folder: str) -> None:
    """Open a folder of the list or above it."""
    press(browser, folder)
    bold = ".text-weight-bold"
    until(browser, lambda: folder in one(browser, bold).text)


@pytest.mark.slow
def test_the_place_is_asked_for_proved_and_remembered(
    running: StudioProcess, browser: webdriver.Chrome
) -> None:
    project = project_of_run(running.folder, "shapes")
    browser.get(f"{running.address}/projects/{project}/results?run={RUN}")
    until(browser, lambda: "of this classifier were moved" in shown(browser))
    assert "Right for " in shown(browser)  # the figures are there all the same
    assert str(running.folder) not in shown(browser)
    assert "--data" not in shown(browser)
    press(browser, "Find them")
    until(browser, lambda: "what was called photos" in shown(browser))
    calm(running, browser)

    enter(browser, "others")
    press(browser, "They are here")
    until(browser, lambda: "1 are missing" in shown(browser), 60)
    assert str(running.folder) not in shown(browser)
    about = json.loads((running.runs / "shapes" / "dataset.json").read_text())
    assert about["location"]["sources"] == [str(running.folder / "photos")]

    enter(browser, running.folder.name)
    enter(browser, "elsewhere")
    press(browser, "They are here")
    until(browser, lambda: "/results" in browser.current_url, 60)
    about = json.loads((running.runs / "shapes" / "dataset.json").read_text())
    assert about["location"]["sources"] == [str(running.folder / "elsewhere")]
    until(browser, lambda: browser.find_elements("css selector", ".gallery-item img"))
    assert "were moved" not in shown(browser)
    script = "return fetch(arguments[0]).then((answer) => answer.status)"
    assert browser.execute_script(script, f"/run-images/{RUN}/0") == 200
    calm(running, browser)
