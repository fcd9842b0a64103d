"""`opsin studio` as a process of its own, and the browser that looks at it."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import COOKIES, console, requests_of, resize

START = (sys.executable, "-W", "error", "-m", "opsin", "studio", "--json", "--no-browser")


class StudioProcess:
    """A studio that runs, into which the tests' browsers are signed in."""

    def __init__(self, folder: Path, roots: Sequence[Path] = (), words: Sequence[str] = ()) -> None:
        self.folder, self.runs, self.home = folder, folder / "runs", folder / "home"
        self.runs.mkdir(parents=True, exist_ok=True)
        self._words = [*words]
        for root in roots or [folder]:
            self._words += ["--root", str(root)]
        self.address = self.once = self.cookie = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, port: int = 0) -> None:
        places = f"--runs={self.runs}", f"--home={self.home}", f"--port={port}"
        command = [*START, *places, *self._words]
        with (self.folder / "stderr").open("ab") as errors:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
            self.process = subprocess.Popen(command, cwd=self.folder, stderr=errors, **streams)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.said()
        answer = json.loads(line)
        assert "url" in answer, answer
        self.once = answer["url"]
        once = urlsplit(self.once)
        self.address = f"http://{once.netloc}"
        connection = http.client.HTTPConnection(once.netloc, timeout=30)
        connection.request("GET", f"{once.path}?{once.query}")
        reply = connection.getresponse()
        self.cookie = (reply.getheader("set-cookie") or "").partition(";")[0]
        connection.close()
        assert (reply.status, bool(self.cookie)) == (303, True), self.said()
        COOKIES[self.address] = self.cookie

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def said(self) -> str:
        return (self.folder / "stderr").read_text("utf-8", "replace")

    def memory(self) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return 1024 * int(line.split()[1])

    def jobs(self) -> list[dict[str, Any]]:
        files = sorted((self.home / "jobs").glob("*/job.json"))
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def kill(self, by: signal.Signals = signal.SIGKILL) -> int:
        """End it, at once where nothing else is said; return its exit status."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(by)
        status = self.process.wait(60)
        self.process.stdout.close()
        return status

    def restart(self) -> None:
        self.start(self.port)


@contextlib.contextmanager
def studio(
    folder: Path, *, roots: Sequence[Path] = (), words: Sequence[str] = ()
) -> Iterator[StudioProcess]:
    """Run a studio with files of its own; what it started ends with the block."""
    running = StudioProcess(folder, roots, words)
    running.start()
    try:
        yield running
        assert "Traceback" not in running.said()
    finally:
        if running.process and running.process.poll() is None:
            running.kill()
        for job in running.jobs():
            if job["state"] in {"running", "stopping"} and job.get("pid"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job["pid"], signal.SIGKILL)


def until(browser: webdriver.Chrome, holds: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something holds, which may look at elements that are just being replaced."""
    passing = (
        StaleElementReferenceException,
        NoSuchElementException,
        ElementNotInteractableException,
        ElementClickInterceptedException,
    )
    try:
        WebDriverWait(browser, seconds, ignored_exceptions=passing).until(lambda _: holds())
    except TimeoutException as error:
        text = f"{browser.current_url} shows\n{shown(browser)[:2000]}"
        raise TimeoutException(text) from error


def one(browser: webdriver.Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def button(browser: webdriver.Chrome, words: str) -> WebElement:
    path = f"//*[self::button or self::a][normalize-space(.)={json.dumps(words)}]"
    return browser.find_element(By.XPATH, path)


def press(browser: webdriver.Chrome, words: str) -> None:
    """Click a button, link, question or entry of a menu by its words, once it can be clicked."""
    text = json.dumps(words)
    is_it = f"normalize-space(.)={text} or .//*[normalize-space(text())={text}]"
    kinds = "self::button or self::a or @role='button' or contains(@class, 'q-item--clickable')"
    here = "not(@disabled) and not(ancestor::nav[contains(@class, 'path')])"
    path = f"//*[{kinds}][{here}][{is_it}]"
    until(browser, lambda: _clicked(browser, browser.find_element(By.XPATH, path)))


def _clicked(browser: webdriver.Chrome, element: WebElement) -> bool:
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()
    return True


def send(browser: webdriver.Chrome, *files: Path, to: str = "input[type=file]") -> None:
    until(browser, lambda: one(browser, to))
    one(browser, to).send_keys("\n".join(map(str, files)))


def calm(running: StudioProcess, browser: webdriver.Chrome) -> None:
    """Check what holds for every page, on a telephone too."""
    assert complaints(browser) == []
    assert requests_elsewhere(browser, running.address) == []
    resize(browser, 400)
    until(browser, lambda: sideways(browser) == 0)
    resize(browser, 1200)


def field(label: str) -> str:
    return f'[aria-label="{label}"]'


def choose(browser: webdriver.Chrome, label: str, option: str) -> None:
    """Choose an option of a field, which may only be unfolding."""
    path = f"//*[@role='option'][contains(., '{option}')]"
    for _ in range(3):  # a click on a menu that is just being built anew may be lost
        until(browser, lambda: _clicked(browser, one(browser, field(label))))
        with contextlib.suppress(TimeoutException):
            until(browser, lambda: _clicked(browser, browser.find_element(By.XPATH, path)), 8)
            until(browser, lambda: option in _value(browser, label), 5)
            return


def _value(browser: webdriver.Chrome, label: str) -> str:
    inner = one(browser, field(label))
    box = inner.find_element(By.XPATH, "ancestor::*[contains(@class, 'q-field')][last()]")
    return f"{box.text} {inner.get_attribute('value')}"


def drawn(browser: webdriver.Chrome, selector: str = "img", least: int = 1) -> bool:
    """Tell whether there are so many images that a selector finds, and all of them have arrived."""
    script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.naturalWidth)"
    widths = browser.execute_script(script, selector)
    return len(widths) >= least and all(widths)


def shown(browser: webdriver.Chrome) -> str:
    return one(browser, "body").text


def complaints(browser: webdriver.Chrome) -> list[str]:
    return [each["message"] for each in console(browser, "browser") if each["level"] == "SEVERE"]


def requests_elsewhere(browser: webdriver.Chrome, address: str) -> list[str]:
    """Return the addresses that pages asked for on any other host."""
    ours = (address, address.replace("http:", "ws:"), "data:", "blob:", "chrome:", "about:")
    return [asked for asked in requests_of(browser) if not asked.startswith(ours)]


def sideways(browser: webdriver.Chrome) -> int:
    """Return by how many pixels the page is wider than the window."""
    script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(browser.execute_script(script))
