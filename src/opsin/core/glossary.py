"""The documentation: the site that wheels hold, and the terms of its glossary."""

from __future__ import annotations

import difflib
import functools
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import OpsinError


@dataclass(frozen=True)
class Term:
    """A word of the field, as Opsin uses it, explained in three sentences."""

    title: str
    says: tuple[str, ...]
    #: The page of the studio and the command that show it at work.
    studio: str
    command: str
    #: Other names that it is printed under: headings, labels, and options with dashes.
    words: tuple[str, ...] = ()
    #: Words in the kinds of layers that it explains, such as ``BatchNorm``.
    layers: tuple[str, ...] = ()
    #: Name of the picture that explains it, where one does.
    picture: str = ""

    @property
    def key(self) -> str:
        """Its anchor on the glossary's page."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def text(self) -> str:
        """The three sentences, without the marks around code."""
        return " ".join(self.says).replace("`", "")

    @property
    def address(self) -> str:
        """Its place in the documentation, within the site."""
        return f"reference/glossary.html#{self.key}"


@functools.cache
def glossary() -> dict[str, tuple[Term, ...]]:
    """Return all terms by the heading that they stand under, as the documentation has them."""
    content = tomllib.loads(Path(__file__).with_name("terms.toml").read_text(encoding="utf-8"))

    def term(fields: Mapping[str, Any]) -> Term:
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return Term(**{**fields, **lists})

    return {each["title"]: tuple(map(term, each["terms"])) for each in content["sections"]}


@functools.cache
def _terms_by_word() -> tuple[dict[str, Term], dict[str, Term]]:
    """Return the terms by the names that they are printed under, and by words of layers' kinds."""
    terms = [term for section in glossary().values() for term in section]
    names = {word.lower(): term for term in terms for word in (term.title, *term.words)}
    return names, {word: term for term in terms for word in term.layers}


def find_term(text: str) -> Term | None:
    """Return the term for a word as it is printed, or ``None`` where the glossary has none."""
    names, _ = _terms_by_word()
    return names.get(re.split(r" \(| over ", text)[0].strip().lower())


def term_of_layer(kind: str) -> Term | None:
    """Return the term for a layer, or ``None`` where the glossary has none."""
    _, layers = _terms_by_word()
    words = (word.strip(",").removesuffix("1d").removesuffix("2d") for word in kind.split())
    return next((layers[word] for word in words if word in layers), None)


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
