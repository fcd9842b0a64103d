"""Several people in one studio: who may do what, in real browsers."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from tests.browser import COOKIES, chromium, needs_chromium
from tests.studio_browser import choose, one, press, shown, studio, until

# A studio with a page that names its visitor wherever pages do something.
WHO = """
import asyncio, sys
from pathlib import Path
from nicegui import background_tasks, ui
from opsin.core.events import SILENT
from opsin.studio.settings import StudioSettings
from opsin.studio import app
from opsin.studio.pages.page import Page
from opsin.studio.people import visitor
from opsin.studio.threads import IMAGES

def name():
    return visitor.get().name

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
    studio.changed.subscribe(lambda: note("event"), "jobs")
    studio.changed.subscribe(lambda: later("later event"), "jobs")

app.try_.who = Page("/who")(who)
folder = Path(sys.argv[1])
settings = StudioSettings(
    runs=folder / "runs", home=folder / "home", roots=(folder,), port=0, share=True
)
app.serve(settings, False, SILENT, lambda link: print(link, flush=True))
"""


def see(browser: webdriver.Chrome, words: str) -> None:
    until(browser, lambda: words in shown(browser))


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
                see(browser, "later timer")
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


# Every event that the page listens to is sent, of hidden and switched-off elements, too.
FIRE = """
const file = {key: '00000000000000aa', name: 'a.png', path: '', size: 3};
const page = document.querySelector('#app')._vnode.component.proxy;
let sent = 0;
for (const [id, element] of Object.entries(page.elements))
  for (const {listener_id, type} of element.events ?? []) {
    if (type === 'key') continue;  // NiceGUI itself falls over these arguments
    const args = [JSON.stringify([file])];
    window.socket.emit('event', {id: +id, client_id: window.clientId, listener_id, args});
    sent += 1;
  }
return sent;
"""


@needs_chromium
def test_a_viewer_changes_nothing_and_ends_with_their_access(
    browsers: tuple[webdriver.Chrome, webdriver.Chrome], tmp_path: Path
) -> None:
    owner, guest = browsers
    sets = Library(tmp_path / "home", Queue(tmp_path / "home"))
    waste = sets.new_empty(["glass", "paper"], title="Waste")
    with studio(tmp_path, words=["--share"]) as running:
        owner.get(running.address)
        del COOKIES[running.address]  # the guest has another one
        link = invite(owner, running.address, "Bob", "Viewer")
        guest.get(link)
        see(guest, "Bob, viewer")
        assert "token=" not in guest.current_url
        before = state_of(tmp_path)
        project = f"/projects/{waste.id}"
        for path in ("/", f"{project}/photos", f"{project}/train", "/jobs", "/import", "/add"):
            guest.get(running.address + path)
            see(guest, "Bob, viewer")
            until(guest, lambda: guest.execute_script("return window.did_handshake"))
            assert guest.execute_script(FIRE), path
            time.sleep(0.7)  # an event may lead to another page
        assert state_of(tmp_path) == before
        guest.get(f"{running.address}/people")
        see(guest, "As a viewer, you cannot do this")
        owner.get(f"{running.address}/people")
        # Another role holds at once, and loads the open page again.
        guest.get(f"{running.address}{project}/photos")
        see(guest, "Bob, viewer")
        assert "Add class" not in shown(guest)
        choose(owner, "Role", "Labeller")
        see(guest, "Bob, labeller")
        see(guest, "Add class")
        press(owner, "End access")
        ask = "fetch(arguments[0], {method: arguments[1], body: arguments[2]})"
        status = f"const done = arguments[3]; {ask}.then((reply) => done(reply.status))"
        until(guest, lambda: guest.execute_async_script(status, "/jobs", "GET", None) == 401)
        put = "/uploads/00000000000000aa?offset=0"
        assert guest.execute_async_script(status, put, "PUT", "abc") == 401
        until(guest, lambda: not guest.execute_script("return window.socket.connected"))
        press(owner, "Who changed what?")
        see(owner, "ended the access of Bob")
        # The same events of the owner do change something.
        owner.get(running.address)
        see(owner, "Waste")
        assert "Remove" not in shown(guest)
        before = state_of(tmp_path)
        owner.execute_script(FIRE)
        until(owner, lambda: state_of(tmp_path) != before)
        running.kill()
        (tmp_path / "stderr").write_text("")  # what is forged may be a fault


def state_of(folder: Path) -> dict[str, bytes]:
    """The files of a studio that say what its people did."""
    files = [path for path in (folder / "home").rglob("*") if path.is_file()]
    lasting = [path for path in files if path.suffix != ".unfinished"]
    return {str(path): path.read_bytes() for path in lasting if path.parent.parent.name != "jobs"}
