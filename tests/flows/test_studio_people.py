"""Several people in one studio: who may do what, in real browsers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("nicegui")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.browser import chromium, needs_chromium
from tests.studio_browser import one, shown, until

# A studio with a page that names its visitor wherever pages do something.
WHO = """
import asyncio, sys
from pathlib import Path
from nicegui import background_tasks, ui
from opsin.studio import StudioSettings, app
from opsin.studio.pages.page import Page
from opsin.studio.people import visitor
from opsin.studio.threads import IMAGES

def name():
    return visitor.get().person.name

def who(studio):
    def note(where, by=""):
        with place:
            ui.label(f"{where}: {by or name()}")

    async def later(where, *_):
        await asyncio.sleep(0)
        note(where)

    async def clicked():
        note("click")
        note("to_thread", await asyncio.to_thread(name))
        note("threads", await IMAGES.run(name))
        background_tasks.create(later("task"))
        ui.timer(0, lambda: note("timer of a click"), once=True)
        note("answered by the browser " + str(await ui.run_javascript("1")))

    ui.button("Click", on_click=clicked)
    ui.button("Emit", on_click=lambda: studio.changed.emit("jobs"))
    place = ui.column()
    note("page")
    ui.timer(0.2, lambda: note("timer"), once=True)
    ui.timer(0.2, lambda: later("later timer"), once=True)
    studio.changed.subscribe(lambda topic: note("event"))
    studio.changed.subscribe(lambda topic: later("later event"))

pages = app.all_pages
app.all_pages = lambda: [*pages(), Page("/who", who)]
folder = Path(sys.argv[1])
settings = StudioSettings(
    runs=folder / "runs", home=folder / "home", roots=(folder,), port=0, share=True
)
app.serve(settings, open_browser=False, announce=lambda link: print(link, flush=True))
"""


def press(browser: webdriver.Chrome, words: str) -> None:
    """Press a button that may have an icon before its words."""
    path = f"//button[.//span[normalize-space(text())='{words}'] or normalize-space(.)='{words}']"
    until(browser, lambda: browser.find_element(By.XPATH, path).is_displayed())
    browser.find_element(By.XPATH, path).click()


def is_shown(browser: webdriver.Chrome, words: str) -> bool:
    return words in shown(browser)


def invite(owner: webdriver.Chrome, address: str, name: str, role: str) -> str:
    """Invite somebody on the page *People*; return the link."""
    owner.get(f"{address}/people")
    press(owner, "Invite")
    until(owner, lambda: one(owner, '[aria-label="Name"]').is_displayed())
    one(owner, '[aria-label="Name"]').send_keys(name)
    owner.find_element(By.XPATH, f"//*[@role='radio'][contains(., '{role}')]").click()
    press(owner, "Make a link")
    until(owner, lambda: "token=" in one(owner, ".mono").text)
    return one(owner, ".mono").text


@pytest.fixture
def browsers(tmp_path: Path) -> Iterator[tuple[webdriver.Chrome, webdriver.Chrome]]:
    with chromium(tmp_path / "one") as owner, chromium(tmp_path / "two") as guest:
        yield owner, guest


@needs_chromium
def test_every_part_of_a_page_knows_its_visitor(
    browsers: tuple[webdriver.Chrome, webdriver.Chrome], tmp_path: Path
) -> None:
    owner, guest = browsers
    (tmp_path / "home").mkdir()
    command = [sys.executable, "-c", WHO, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            link = process.stdout.readline().strip()
            address = link.partition("/?")[0]
            owner.get(link)
            guest.get(invite(owner, address, "Ada", "Viewer"))
            for browser in (guest, owner):
                browser.get(f"{address}/who")
                until(browser, partial(is_shown, browser, "later timer"))
            press(guest, "Click")
            press(owner, "Emit")  # what the owner causes happens as Ada in her window
            until(guest, lambda: "later event" in shown(guest) and "timer of a" in shown(guest))
            lines = [line for line in shown(guest).splitlines() if ": " in line]
            wrong = [line for line in lines if not line.endswith(": Ada")]
            assert (len(lines), wrong) == (11, [])
            until(owner, lambda: "later event: Owner" in shown(owner))
            assert "Ada" not in shown(owner)
        finally:
            process.terminate()
