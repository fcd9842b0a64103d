"""Numbered pages of a list."""

from __future__ import annotations

from nicegui import ui

from opsin.core.format import count


def page_number(text: str) -> int:
    """Return the page that an address asks for, from 1; what can be none means the first.

    Example:
        >>> page_number("3"), page_number("-1"), page_number("all")
        (3, 1, 1)
    """
    known = text.isascii() and text.isdigit() and len(text) < 7
    return max(1, int(text)) if known else 1


def page_links(address: str, page: int, total: int, per: int, end: str = "") -> None:
    """Link the pages before and after this one.

    Args:
        address: What stands before a page's number.
        page: The page that is shown, from 1.
        total: Entries of the whole list.
        per: Entries of a page.
        end: What stands after the number.
    """
    last = max(1, -(-total // per))
    with ui.element("nav").classes("op-row").props('aria-label="Pages of the list"'):
        if page > 1:
            ui.link("Previous", f"{address}{page - 1}{end}")
        ui.label(f"Page {count(page)} of {count(last)}").classes("op-muted")
        if page < last:
            ui.link("Next", f"{address}{page + 1}{end}")
