"""Sections become one self-contained page about a classifier's inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opsin.report.templates import fill


@dataclass(frozen=True)
class Section:
    """A part of the page: where the page has it, its headline, and finished HTML."""

    anchor: str
    title: str
    html: str


def section(anchor: str, title: str, template: str, **values: object) -> Section:
    """Fill one of the templates beside this module, such as ``layers.html``."""
    return Section(anchor, title, fill(f"inside/{template}", **values))


def render_page(
    name: str, verdict: str, facts: Mapping[str, str], sections: Sequence[Section]
) -> str:
    """Return the page about a run or an image; its headline says what was found."""
    return fill("inside/page.html", name=name, verdict=verdict, facts=facts, sections=sections)
