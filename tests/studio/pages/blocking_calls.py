"""Builds pages of a studio, and says which calls of its event loop waited for the disk.

    python blocking_calls.py RUNS HOME PAGE...

prints a line for each: the functions of the studio that led to it, and what was called. All windows
share the event loop: a call that waits for a disk or a process keeps all of them waiting.
"""

import asyncio
import functools
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import httpx
from nicegui import Client
from nicegui.nicegui import _on_handshake

import opsin.studio
from opsin.studio.app import build
from opsin.studio.context import Studio
from opsin.studio.settings import StudioSettings

_STUDIO: Final = str(Path(opsin.studio.__file__).parent) + os.sep
_IMPORTS: Final = ("<frozen importlib", "<frozen zipimport")  # of a module, which is done once
#: What starts processes without waiting, and what looks whether its templates have changed.
_OTHERS: Final = ("asyncio/subprocess.py", "/nicegui/", "/jinja2/")
#: What Python tells its audit hooks of that waits for a disk, a process or the clock.
_WAITS: Final = {
    "open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.utime", "shutil.rmtree", "subprocess.Popen", "time.sleep",
}  # fmt: skip


class Recorder:
    """Writes down what one thread calls that waits."""

    def __init__(self, thread: int) -> None:
        self.found: set[str] = set()
        self._thread = thread
        sys.addaudithook(self._hear)
        for name in ("stat", "lstat"):
            setattr(os, name, self._watched(name, getattr(os, name)))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _WAITS and threading.get_ident() == self._thread:
            self._note(event, arguments, sys._getframe(1))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def watched(*given: Any, **named: Any) -> Any:
            if threading.get_ident() == self._thread:
                self._note(f"os.{name}", given, sys._getframe(1))
            return call(*given, **named)

        return watched

    def _note(self, called: str, given: tuple[Any, ...], frame: FrameType | None) -> None:
        led: list[str] = []
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(_IMPORTS) or (not led and any(each in file for each in _OTHERS)):
                return
            if file.startswith(_STUDIO):
                led.append(f"{file.removeprefix(_STUDIO)} {frame.f_code.co_name}")
            frame = frame.f_back
        if led:
            self.found.add(f"{' < '.join(led)}: {called} {Path(str(given[0])).name}")


async def visit(client: httpx.AsyncClient, page: str) -> None:
    """Open a page as a browser does, and stay for a moment."""
    reply = await client.get(page, follow_redirects=True)
    assert reply.status_code == 200, (page, reply.text)
    match = re.search(r"'client_id': '([0-9a-f-]+)'", reply.text)
    if match is None:
        return  # an image or a file
    window = Client.instances[match.group(1)]
    said = {"client_id": window.id, "tab_id": page, "document_id": page}
    await _on_handshake(f"test-{page}", said)
    await asyncio.sleep(1)
    for image in sorted(set(re.findall(r"/(?:run-)?images/[^\"'\\]+", reply.text)))[:1]:
        await client.get(image)


async def main(runs: Path, home: Path, pages: list[str]) -> set[str]:
    """Return what was found while these pages were open, and while they heard news."""
    studio = Studio(StudioSettings(runs=runs, home=home, roots=(runs,), port=0))
    api = build(studio)
    recorder = Recorder(threading.get_ident())
    transport = httpx.ASGITransport(api)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=transport, base_url="http://studio", timeout=60) as client,
    ):
        await asyncio.gather(*(visit(client, page) for page in pages))
        for topic in ("runs", "jobs", "sets"):
            studio.changed.emit(topic)
            await asyncio.sleep(0.5)
    found = set(recorder.found)
    studio.runs.deleted()
    assert recorder.found > found, "the recorder hears nothing"
    return found


if __name__ == "__main__":
    print(*sorted(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))), sep="\n")
