"""The path through the studio in Firefox: from a zip of photographs to an answer."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.studio_browser import StudioProcess

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
needs_firefox = pytest.mark.skipif(not FIREFOX, reason="needs Debian's firefox-esr")


class Firefox:
    def __init__(self, socket: Any) -> None:
        self._socket, self._last = socket, 0
        self.call("session.new", capabilities={})
        self._context = self.call("browsingContext.getTree")["contexts"][0]["context"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while (answer := json.loads(self._socket.recv())).get("id") != self._last:
            pass
        assert answer["type"] == "success", answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, address: str) -> None:
        self.call("browsingContext.navigate", context=self._context, url=address, wait="complete")

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height}
        self.call("browsingContext.setViewport", context=self._context, viewport=size)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, which is text, a number, a truth or nothing."""
        answer = self.call(
            "script.evaluate",
            expression=expression,
            target={"context": self._context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 30) -> None:
        """Wait until an expression is true; it may fail while a page is loaded."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):
                if self.evaluate(expression):
                    return
            assert time.monotonic() < end, f"never true: {expression}\n{self.text()}"
            time.sleep(0.2)

    def until_shown(self, words: str, seconds: float = 30) -> None:
        self.until(f"document.body.innerText.includes({json.dumps(words)})", seconds)

    def text(self) -> str:
        return str(self.evaluate("document.body?.innerText"))

    def press(self, words: str, inside: str = "body") -> None:
        find = (
            f"[...document.querySelector('{inside}').querySelectorAll('button, a, [role=button]')]"
            f".find((e) => e.innerText.includes({json.dumps(words)}) && !e.disabled)"
        )
        self.until(f"!!{find}")
        self.evaluate(f"{find}.click()")

    def choose_files(self, selector: str, files: Sequence[Path]) -> None:
        locator = {"type": "css", "value": selector}
        nodes = self.call("browsingContext.locateNodes", context=self._context, locator=locator)
        element = {"sharedId": nodes["nodes"][0]["sharedId"]}
        self.call(
            "input.setFiles",
            context=self._context,
            element=element,
            files=[str(file) for file in files],
        )


@contextlib.contextmanager
def firefox(profile: Path) -> Iterator[Firefox]:
    websocket = pytest.importorskip("websocket")
    assert FIREFOX
    profile.mkdir(parents=True, exist_ok=True)
    words = ["--headless", "--profile", str(profile), "--remote-debugging-port", "0"]
    log = profile / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen([FIREFOX, *words], stderr=errors)
    try:
        end = time.monotonic() + 60
        while not (found := re.search(r"BiDi listening on (ws://\S+)", log.read_text("utf-8"))):
            assert time.monotonic() < end, log.read_text("utf-8")
            time.sleep(0.2)
        socket = websocket.create_connection(
            f"{found[1]}/session", timeout=120, suppress_origin=True
        )
        yield Firefox(socket)
        socket.close()
    finally:
        process.terminate()
        process.wait(30)


pytestmark = [pytest.mark.slow, needs_firefox]

_LONG = 180


def write_photo(path: Path, red: bool, seed: int) -> Path:
    """A made photograph: a red disc or a blue square, somewhere on a noisy table."""
    random = np.random.default_rng(seed)
    scene = random.normal(200, 12, (96, 128, 3))
    rows, columns = np.mgrid[:96, :128]
    away = np.abs(np.stack([rows - random.integers(30, 66), columns - random.integers(30, 98)]))
    scene[np.hypot(*away) < 24 if red else away.max(axis=0) < 20] = (
        (190, 40, 30) if red else (30, 60, 190)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).save(path)
    return path


def test_the_path_from_a_zip_to_an_answer(running: StudioProcess, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for number in range(24):
            name = ("disc", "square")[number % 2]
            file = write_photo(tmp_path / f"{number}.jpg", name == "disc", number)
            archive.write(file, f"{name}/{number}.jpg")
    new = write_photo(tmp_path / "new.jpg", red=False, seed=99)

    with firefox(tmp_path / "profile") as browser:
        browser.resize(1200, 900)
        browser.open(running.address)
        assert "Open the link" in browser.text()
        # The file that `opsin studio` opens holds a link which works once, as the printed one does.
        browser.open((running.home / "sign-in.html").as_uri())
        browser.until_shown("Drop photographs")
        assert browser.evaluate("location.search") == ""

        browser.choose_files("input[type=file]", [tmp_path / "shapes.zip"])
        browser.until("location.pathname.endsWith('/photos')", _LONG)
        browser.until_shown("24 photographs in 2 classes")
        browser.until("[...document.querySelectorAll('.gallery img')].every((i) => i.naturalWidth)")

        browser.press("Train", ".page-head")
        browser.until("location.pathname.endsWith('/results')", _LONG)
        browser.until("/Right for \\d+ of 24/.test(document.body.innerText)")

        browser.press("Try it")
        browser.until("location.pathname.endsWith('/try')")
        browser.until("!!document.querySelector('input[type=file]')")
        browser.choose_files("input[type=file]", [new])
        browser.until("!!document.querySelector('.try .headline')", _LONG)
        assert browser.evaluate(
            "document.querySelector('.try .headline').innerText.startsWith('square, ')"
        )
        assert "That is wrong" in browser.text()
