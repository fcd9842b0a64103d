"""Nobody gets past the studio's guard: every route that it has, NiceGUI's own included."""

from __future__ import annotations

import itertools
import json
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.browser import chromium, needs_chromium
from tests.processes import python
from tests.studio_browser import StudioProcess, shown, studio, until
from tests.web.made_requests import TOKEN

ID = "0123456789abcdef"  # of any project
# In a process of its own: NiceGUI keeps one application a process.
LIST_AND_TRY = """
import asyncio, json, sys
from pathlib import Path
from opsin.studio.app import build
from opsin.studio.settings import StudioSettings
from opsin.studio.context import Studio
from opsin.studio.door import Door
from tests.web.made_requests import TOKEN, passed, paths_of

folder = Path(sys.argv[1])
settings = StudioSettings(runs=folder / "runs", home=folder / "home", roots=(folder,), token=TOKEN)
settings.home.mkdir()
studio = Studio(settings)
app = build(studio)
door = Door(settings, studio.people).guard(app)
paths = sorted({*paths_of(app.routes, "0123456789abcdef"), "/nowhere"})
print(json.dumps({"paths": paths, "passed": asyncio.run(passed(door, paths))}))
"""


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the built application answers to, and the strangers that it answered."""
    folder = tmp_path_factory.mktemp("routes")
    done = python("-W", "error", "-c", LIST_AND_TRY, folder, cwd=Path(__file__).parents[2])
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def guarded_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioProcess]:
    folder = tmp_path_factory.mktemp("guarded")
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with studio(folder, words=["--token-file", str(token)]) as running:
        yield running


def test_no_stranger_passes_anywhere(routes: dict[str, list[str]]) -> None:
    pages = {"/", "/jobs", "/settings", "/add", "/import", "/compare", f"/projects/{ID}/"}
    others = {f"/covers/{ID}/{ID}", f"/images/{ID}/{ID}", f"/uploads/{ID}", "/_nicegui_ws/anything"}
    assert pages | others <= set(routes["paths"])
    assert any(path.startswith("/_nicegui/") for path in routes["paths"])
    assert routes["passed"] == []


def test_who_signed_in_meets_no_fault(
    routes: dict[str, list[str]], guarded_studio: StudioProcess
) -> None:
    with httpx.Client(base_url=guarded_studio.address, timeout=30) as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 303
        statuses = {path: client.get(path).status_code for path in routes["paths"]}
        statuses |= {f"PUT {path}": client.put(path).status_code for path in routes["paths"]}
    assert (statuses["/"], statuses["/jobs"], statuses["/add"]) == (200, 200, 200)
    assert statuses[f"/projects/{ID}/"] == 404
    odd = {path: status for path, status in statuses.items() if status in (401, 403, 421)}
    faults = {path: status for path, status in statuses.items() if status >= 500}
    assert (odd, faults) == ({}, {})
    assert "Traceback" not in guarded_studio.said()


def upgrade(port: int, *headers: str) -> int:
    """Ask for the pages' WebSocket by hand, and return the status of the answer."""
    lines = [
        "GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    ]
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        first = connection.recv(4096)
    found = re.match(rb"HTTP/1.1 (\d{3})", first)
    assert found, first
    return int(found[1])


def test_browsers_that_go_away_leave_no_traceback(tmp_path: Path) -> None:
    """Connections that are reset while a page, a file, an upload or a WebSocket is under way."""
    socket_io = "/_nicegui_ws/socket.io/?EIO=4&transport="
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    put = f"PUT /uploads/{'a' * 32}?offset=0"
    with studio(tmp_path) as running, httpx.Client(base_url=running.address) as client:
        client.headers["cookie"] = running.cookie
        found = re.findall(r'"(/_nicegui/[^"]+\.m?js)"', client.get("/").text)
        asked = [(f"GET {path}", "") for path in (*found, "/", "/jobs", "/add", "/x")]
        asked += [(f"GET {socket_io}polling", ""), (f"GET {socket_io}websocket", upgrade)]
        asked += [(line, "Content-Length: 9999\r\n") for line in (put, "POST /", "POST /x")]
        own = f"Host: 127.0.0.1:{running.port}\r\nCookie: {running.cookie}\r\n"
        for (line, more), seconds in itertools.product(asked, (0, 0.01, 0.05, 0.2)):
            with socket.create_connection(("127.0.0.1", running.port), 10) as connection:
                connection.sendall(f"{line} HTTP/1.1\r\n{own}{more}\r\nbegun".encode())
                time.sleep(seconds)
                # Closed by a reset, as of a window whose browser is ended.
                reset = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        assert client.get("/", timeout=60).status_code == 200
        running.kill(signal.SIGINT)
        assert not re.search("Traceback|Stack|Error|Exception", running.said()), running.said()


def test_signing_in(guarded_studio: StudioProcess) -> None:
    html = {"accept": "text/html"}
    with httpx.Client(base_url=guarded_studio.address, headers=html) as client:
        asked = client.get("/jobs?a=1&token=sesame")
        assert (asked.status_code, 'role="alert"' in asked.text) == (401, True)
        assert 'name="a" value="1"' in asked.text
        there = client.get(f"/jobs?a=1&token={TOKEN}")
        assert (there.status_code, there.headers["location"]) == (303, "/jobs?a=1")
        assert client.get(there.headers["location"]).status_code == 200
        for reply in (asked, there):
            assert "script-src-attr 'none'" in reply.headers["content-security-policy"]
    # Told on a terminal alone: this one's words go to a file, as a service's do.
    assert TOKEN not in guarded_studio.said()
    assert TOKEN not in "".join(
        path.read_text(errors="replace")
        for path in guarded_studio.home.rglob("*")
        if path.is_file()
    )


@pytest.mark.slow
def test_other_accounts_of_the_machine_are_strangers(running: StudioProcess) -> None:
    with httpx.Client(base_url=running.address) as client:
        for path in ("/", "/jobs", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"):
            assert client.get(path).status_code == 401, path
        bearer = {"authorization": "Bearer None"}
        assert client.get("/", headers=bearer).status_code == 401
        assert client.get("/", headers={"cookie": running.cookie}).status_code == 200
    assert upgrade(running.port) == 403
    assert upgrade(running.port, f"Cookie: {running.cookie}") == 101


@needs_chromium
def test_a_browser_enters_by_a_page_of_its_owner(running: StudioProcess, tmp_path: Path) -> None:
    page = running.home / "sign-in.html"
    assert page.stat().st_mode & 0o077 == 0
    with chromium(tmp_path) as browser:
        browser.get(page.as_uri())
        until(browser, lambda: browser.current_url == running.address + "/")
        until(browser, lambda: "Drop photographs" in shown(browser))


def test_where_nothing_can_be_written_it_says_so_and_shows_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "home" / "sign-in.unfinished").mkdir(parents=True)  # in the way of its page
    with studio(tmp_path) as running, httpx.Client(base_url=running.address, timeout=30) as client:
        assert "what is there can be looked at" in running.said()
        assert "Sign in" not in running.said()
        assert client.get("/settings", headers={"cookie": running.cookie}).status_code == 200
