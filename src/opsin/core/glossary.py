"""The documentation's site and the terms of its glossary."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: The site's folder, which may be missing; its pages need no server.
SITE: Final = Path(__file__).parents[1] / "site"


@dataclass(frozen=True)
class Term:
    """A technical term, explained in three sentences."""

    title: str
    says: Sequence[str]
    #: The command that shows it.
    command: str
    #: The studio's page that shows it, if any.
    studio: str = ""
    #: Other names in print: headings, labels, and options with dashes.
    words: Sequence[str] = ()
    #: Words in kinds of layer that it explains, such as ``BatchNorm``.
    layers: Sequence[str] = ()
    #: Name of its picture, if any.
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
    """All terms by their headings in the documentation."""
    content = tomllib.loads(Path(__file__).with_name("terms.toml").read_text(encoding="utf-8"))
    return {
        section["title"]: tuple(Term(**fields) for fields in section["terms"])
        for section in content["sections"]
    }


@functools.cache
def _terms_by_word() -> tuple[dict[str, Term], dict[str, Term]]:
    terms = [term for section in glossary().values() for term in section]
    names = {word.lower(): term for term in terms for word in (term.title, *term.words)}
    return names, {word: term for term in terms for word in term.layers}


def find_term(text: str) -> Term | None:
    """The term for a word as it is printed."""
    names, _ = _terms_by_word()
    return names.get(re.split(r" \(| over ", text)[0].strip().lower())


def term_of_layer(kind: str) -> Term | None:
    """The term for a kind of layer."""
    _, layers = _terms_by_word()
    words = (word.strip(",").removesuffix("1d").removesuffix("2d") for word in kind.split())
    return next((layers[word] for word in words if word in layers), None)
