"""A real Chromium, for pages that people look at."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
)

#: Without a screen, and without what it does of its own accord.
FLAGS = """
headless no-sandbox disable-dev-shm-usage disable-gpu disable-quic no-first-run disable-sync
disable-background-networking disable-component-update hide-scrollbars
"""
#: What browsers show at an address that they visit, as if people had signed in there.
COOKIES: dict[str, str] = {}


class SignedIn(webdriver.Chrome):
    """Chromium that has the cookies of the studios that the tests have started."""

    def get(self, url: str) -> None:
        for address, cookie in COOKIES.items():
            if url.startswith(address):
                name, _, value = cookie.partition("=")
                shown = {"url": address, "name": name, "value": value}
                self.execute_cdp_cmd("Network.setCookie", shown)
        super().get(url)


@contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[webdriver.Chrome]:
    """Open Chromium without a screen; its console is kept."""
    assert CHROMIUM
    assert DRIVER
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"user-data-dir={profile}", *flags):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = SignedIn(options=options, service=Service(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


def resize(browser: webdriver.Chrome, width: int, height: int = 900) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def console(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    """Return what was logged since it was last asked for: ``browser`` or ``performance``."""
    entries: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return entries


def requests_of(browser: webdriver.Chrome) -> list[str]:
    """Return the addresses that pages asked for since the log was last read."""
    messages = [
        json.loads(entry["message"])["message"] for entry in console(browser, "performance")
    ]
    sent = [each for each in messages if each["method"] == "Network.requestWillBeSent"]
    return [each["params"]["request"]["url"] for each in sent]


def requests_beyond(browser: webdriver.Chrome, page: str) -> list[str]:
    """Return the addresses that the page asked for, other than itself and what is inside it."""
    return [
        address
        for address in requests_of(browser)
        if not address.startswith(("data:", "blob:", "chrome:"))
        and address.partition("#")[0] != page
    ]


def check_page(browser: webdriver.Chrome, page: Path, width: int) -> int:
    """Open a page that was written, and check what holds for each; return how many images it has.

    It complains of nothing, asks nobody, and nothing of it is cut, not even what is folded away;
    each image has a text, each anchor leads somewhere, and no two elements have one name.
    """
    address = page.absolute().as_uri()
    console(browser, "performance")
    resize(browser, width)
    browser.get(address)
    assert console(browser, "browser") == [], page.name
    assert requests_beyond(browser, address) == [], page.name
    browser.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") == width, page.name
    texts: list[str] = browser.execute_script("return [...document.images].map(e => e.alt)")
    assert all(texts), page.name
    # Figures name their parts alike.
    faults = browser.execute_script(
        """const ids = [...document.querySelectorAll("[id]")].filter(e => !e.closest("svg"))
             .map(e => e.id);
        return [...document.querySelectorAll("a[href^='#']")]
          .filter(e => !document.getElementById(e.hash.slice(1))).map(e => e.outerHTML)
          .concat(ids.filter((id, place) => ids.indexOf(id) !== place));"""
    )
    assert faults == [], page.name
    return len(texts)


AXE = Path(__file__).parents[1] / ".venv-node" / "node_modules" / "axe-core" / "axe.min.js"
needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: make node")

_RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(found => done(found.violations.map(
  rule => `${rule.id}: ${rule.help}: ` + rule.nodes.map(node => node.html.slice(0, 160)).join(" | ")
)));
"""


def prefer(browser: webdriver.Chrome, scheme: str) -> None:
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)


def violations(browser: webdriver.Chrome) -> list[str]:
    """Return each rule that the page breaks, with the elements that break it."""
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found: list[str] = browser.execute_async_script(_RUN)
    return found


# Words, and the images and drawings that are in the window.
_STATE: Final = """
const shown = [...document.images].filter(each => {
  const box = each.getBoundingClientRect();
  return box.bottom > 0 && box.top < innerHeight && box.width > 0;
});
return document.readyState + '|' + document.body.innerText.length + '|' + shown.length + '|' +
  shown.filter(each => each.complete).length + '|' +
  document.querySelectorAll('canvas, svg').length;
"""


def usable(
    browser: webdriver.Chrome,
    address: str,
    *,
    quiet: float = 0.5,
    most: float = 20.0,
    every: float = 0.1,
) -> float:
    """Open an address, and wait until the page stands still."""
    began = time.perf_counter()
    browser.get(address)
    last, state = time.perf_counter(), ""
    while (now := time.perf_counter()) - last < quiet and now - began < most:
        seen = str(browser.execute_script(_STATE))
        if seen != state:
            last, state = time.perf_counter(), seen
        time.sleep(every)
    return last - began
