"""A real Chromium, for pages that people look at."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
