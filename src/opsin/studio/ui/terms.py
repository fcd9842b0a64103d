"""Words that the glossary explains: a dotted line, and a card on a click."""

from __future__ import annotations

from nicegui import ui

from opsin.core.glossary import Term, find_term
from opsin.studio.image_routes import HELP
from opsin.studio.words import safe


def word(text: str, term: Term | None = None) -> ui.element:
    """A word, with a card where the glossary explains it (default: what it has under the text)."""
    term = term or find_term(text)
    if term is None:
        return ui.label(safe(text))
    with ui.element("button").classes("term").props('type="button"') as button:
        ui.label(safe(text))
        _card(term)
    return button


def ask_beside(field: ui.element, term: Term | None) -> None:
    """Show a ? that explains a term at the end of a form's field; nothing without a term."""
    if term is not None:
        with field.add_slot("after"):
            button = ui.button(icon="help_outline", color=None).props("flat round dense")
            button.props["aria-label"] = f"Explain: {term.title}"
            with button:
                _card(term)


def _card(term: Term) -> None:
    with ui.menu().props('max-width="360px"').classes("term-card"):
        ui.label(term.title).classes("text-weight-bold")
        ui.label(term.text)
        ui.link("More", f"{HELP}/reference/glossary.html#{term.key}", new_tab=True)
