"""The site: complete, alone, light, and usable by everybody, in a real browser."""

import functools
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.shadowroot import ShadowRoot

from opsin.core.glossary import SITE
from tests.browser import (
    chromium,
    console,
    needs_axe,
    needs_chromium,
    prefer,
    requests_of,
    resize,
    violations,
)
from tests.conftest import a_few
from tests.http_servers import listening
from tests.studio_browser import sideways, until

pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: make site")

#: Pages of each kind.
EXAMPLES = ("index.html", "how-to/index.html", "how-to/data.html", "reference/recipe.html")


def pages() -> list[Path]:
    """Return every page of the site; a tutorial's example is a page of another server."""
    others = {SITE / "404.html", SITE / "learn" / "select-a-picture.html"}
    return sorted(page for page in SITE.rglob("*.html") if page not in others)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.places: set[str] = set()
        self.unnamed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if "src" in given:
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") in {"stylesheet", "icon", "preload", "modulepreload"}:
            self.loads.append(given["href"])
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])
        if tag == "img" and not given.get("alt"):
            self.unnamed.append(given.get("src", ""))


@functools.cache
def links(page: Path) -> _Links:
    found = _Links()
    found.feed(page.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        resize(browser, 1200)
        yield browser


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the site below a path of its own, as a project's pages are."""

    class Below(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(SITE.parent))

    with listening(Below) as address:
        yield f"{address}/{SITE.name}"


def test_every_link_and_picture_is_there_has_words_and_is_of_no_other_machine() -> None:
    for page in pages():
        assert not links(page).unnamed, page
        assert not any(urlsplit(loaded).netloc for loaded in links(page).loads), page
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(/home/|/root/|/work/|file:///)", text), page  # of this machine
        for target in (*links(page).leads, *links(page).loads):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = there / "index.html" if there.is_dir() else there
            assert there.is_relative_to(SITE), f"{page}: {target}"
            assert there.is_file(), f"{page}: {target}"
            if parts.fragment and there.suffix == ".html":
                assert unquote(parts.fragment) in links(there).places, f"{page}: {target}"


def test_the_search_knows_every_page() -> None:
    index = json.loads((SITE / "search.json").read_text(encoding="utf-8"))
    known = {item["location"].partition("#")[0] for item in index["items"]}
    assert {page.relative_to(SITE).as_posix() for page in pages()} <= known


@needs_chromium
@pytest.mark.parametrize("served", [True, False], ids=["served", "from the disk"])
def test_a_reader_searches(browser: webdriver.Chrome, address: str, served: bool) -> None:
    browser.get(f"{address}/how-to/data.html" if served else (SITE / "index.html").as_uri())
    console(browser, "performance")
    until(browser, lambda: _opened(browser))
    until(browser, lambda: "reference/recipe.html" in _found(browser, "recipe"))
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert _elsewhere(browser, address) == []


def _dialog(browser: webdriver.Chrome) -> ShadowRoot | None:
    """Return the search, where it is open: it has the focus."""
    focused = browser.switch_to.active_element
    inside = browser.execute_script("return Boolean(arguments[0].shadowRoot)", focused)
    return focused.shadow_root if inside else None


def _opened(browser: webdriver.Chrome) -> bool:
    """Press the search's key, which does nothing before the page's script has run."""
    if not _dialog(browser):
        browser.find_element(By.TAG_NAME, "body").send_keys("/")
    return _dialog(browser) is not None


def _found(browser: webdriver.Chrome, words: str) -> str:
    """Search for words, which are forgotten when the index arrives; return where hits lead."""
    dialog = _dialog(browser)
    assert dialog
    field = dialog.find_element(By.CSS_SELECTOR, "input")
    if field.get_attribute("value") != words:
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(words)
    hits = dialog.find_elements(By.CSS_SELECTOR, "a[href]")
    return " ".join(hit.get_attribute("href") or "" for hit in hits)


def _elsewhere(browser: webdriver.Chrome, address: str) -> list[str]:
    ours = (address.rpartition("/")[0], SITE.as_uri(), "data:", "blob:", "chrome:", "about:")
    return [asked for asked in requests_of(browser) if not asked.startswith(ours)]


@needs_chromium
@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", a_few(EXAMPLES, 2))
def test_everybody_can_read_it(
    page: str, scheme: str, browser: webdriver.Chrome, address: str
) -> None:
    prefer(browser, scheme)
    browser.get(f"{address}/{page}")
    worn, wanted = "return document.body.dataset.mdColorScheme", {"dark": "slate"}
    until(browser, lambda: browser.execute_script(worn) == wanted.get(scheme, "default"))
    assert violations(browser) == []
    resize(browser, 400)
    assert sideways(browser) <= 0
    resize(browser, 1200)
