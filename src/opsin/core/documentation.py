"""The documentation: a site of files that wheels hold, and `make site` builds."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Final

from opsin.core.errors import OpsinError

#: Where the site is, if it is there; its pages need no server.
SITE: Final = Path(__file__).parents[1] / "site"

_GLOSSARY: Final = "reference/glossary.html"


def find_page(topic: str, site: Path = SITE) -> str:
    """Return the address of the page or the section about something, within the site."""
    index = site / "search.json"
    if not index.is_file():
        raise OpsinError(
            "the documentation", "it is not part of this installation",
            "In a clone of the repository, build it: make site.",
        )  # fmt: skip
    wanted = _slug(topic)
    if not wanted:
        return "index.html"
    found: dict[str, tuple[int, str]] = {}
    for item in json.loads(index.read_text(encoding="utf-8"))["items"]:
        address: str = item["location"]
        for rank, name in enumerate(_names(address, item["title"])):
            if name and (name not in found or rank < found[name][0]):
                found[name] = (rank, address)
    if wanted not in found:
        near = ", ".join(difflib.get_close_matches(wanted, found, n=3)) or "nothing"
        raise OpsinError(
            "a page, a verb, a term or a heading of the documentation",
            f"nothing in it is called {topic!r}; {near} comes nearest",
            "Search in it: opsin docs.",
        )
    return found[wanted][1]


def _names(address: str, title: str) -> tuple[str, ...]:
    """Return what a place of the site is called, the name that decides first."""
    page, _, anchor = address.partition("#")
    path = page.removesuffix(".html").removesuffix("/index")
    return (
        "" if anchor else _slug(path),
        "" if anchor else _slug(path.rpartition("/")[2]),
        anchor if page == _GLOSSARY else "",
        _slug(title),
        anchor,
    )


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
