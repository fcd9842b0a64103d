"""Words that the glossary explains: a dotted line or a ?, and a card to read."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from nicegui import ui
from starlette.responses import Response

from opsin.core.glossary import Term, find_term, glossary

CSS: Final = """
.op-term, .op-ask { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  margin: 0; cursor: help; text-align: inherit; letter-spacing: inherit; }
.op-term { text-decoration: underline dotted var(--muted); text-underline-offset: .25em;
  text-decoration-thickness: 1.5px; }
.op-term:hover { text-decoration-color: var(--accent); }
.op-term > div { display: inline; }
.op-ask { width: 1.5rem; height: 1.5rem; border: 1px solid var(--line); border-radius: 50%;
  font-size: .8rem; line-height: 1; color: var(--muted); text-align: center; flex: none; }
.op-ask:hover { color: var(--accent); border-color: currentColor; }
th .op-ask { margin: -.3rem 0 -.3rem .3rem; }
#op-term-card { position: fixed; inset: auto; margin: 0; box-sizing: border-box;
  padding: .8rem 1rem; width: min(24rem, calc(100vw - 1.5rem)); border: 1px solid var(--line);
  border-radius: .7rem; background: var(--paper); color: var(--ink); font-size: .94rem;
  line-height: 1.5; box-shadow: 0 .4rem 1.6rem rgb(0 0 0 / .18); }
#op-term-card h2 { font-size: 1rem; font-weight: 650; line-height: 1.4; margin: 0 0 .2rem; }
#op-term-card p { margin: 0 0 .4rem; }
#op-term-card a { color: var(--right); }
"""
#: Where the browser gets the cards from.
SCRIPT: Final = "/terms.js"


def word(text: str, term: Term | None = None) -> ui.element:
    """Show a word, with a card where the glossary explains it.

    Args:
        text: What is printed.
        term: What explains it (default: what the glossary has under this text).

    Example:
        ``with ui.element("h3"): terms.word("Learning rate")``
    """
    term = term or find_term(text)
    if term is None:
        return ui.label(text)
    with _button(term).classes("op-term") as button:
        ui.label(text)
    return button


def ask(term: Term) -> ui.element:
    """Show a ? that opens a term's card, for words that cannot be marked themselves."""
    with _button(term).classes("op-ask") as button:
        ui.label("?")
    button._props["aria-label"] = f"Explain: {term.title}"
    return button


def ask_beside(field: ui.element, term: Term | None) -> None:
    """Show a term's ? at the end of a form's field; nothing without a term."""
    if term is not None:
        with field.add_slot("after"):
            ask(term)


def _button(term: Term) -> ui.element:
    button = ui.element("button").props('type="button" aria-haspopup="dialog"')
    button._props["data-term"] = term.key
    return button


def keys(texts: Iterable[str]) -> list[str]:
    """Return the key of each text's term, or nothing: what components of our own mark words by."""
    return [term.key if (term := find_term(text)) else "" for text in texts]


@functools.cache
def script() -> str:
    """Return what shows the cards, the terms in it."""
    said = {
        term.key: [term.title, term.text] for section in glossary().values() for term in section
    }
    own = Path(__file__).with_name("terms.js").read_text(encoding="utf-8")
    return f"const TERMS = {json.dumps(said, ensure_ascii=False)};\n{own}"


def head() -> str:
    """Return what loads the script; its address changes with its content."""
    digest = hashlib.blake2s(script().encode(), digest_size=6).hexdigest()
    return f'<script src="{SCRIPT}?{digest}" defer></script>'


def add_routes(api: FastAPI) -> None:
    """Serve the script."""

    @api.get(SCRIPT)
    def terms() -> Response:
        kept = {"cache-control": "private, max-age=31536000, immutable"}
        return Response(script(), media_type="text/javascript", headers=kept)
