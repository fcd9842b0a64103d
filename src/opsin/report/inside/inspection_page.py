"""Sections become one self-contained page about a classifier's inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opsin.report.templates import environment


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        anchor: Where the page has it, a word.
        title: Its finding or question, as the headline says it.
        html: Finished and escaped.
    """

    anchor: str
    title: str
    html: str


def section(anchor: str, title: str, template: str, **values: Any) -> Section:
    """Fill one of the templates beside this module and return it as a section.

    Args:
        anchor: Where the page has it, a word.
        title: Its headline.
        template: Name of the file, such as ``layers.html``.
        **values: What the template shows.
    """
    html = environment().get_template(f"inside/{template}").render(**values)
    return Section(anchor, title, html)


def render_page(
    name: str, verdict: str, facts: Mapping[str, str], sections: Sequence[Section]
) -> str:
    """Return the page.

    Args:
        name: What is looked at, such as a run or an image.
        verdict: The headline: what was found.
        facts: A few figures by name, already in words.
        sections: In the order of the page.
    """
    template = environment().get_template("inside/page.html")
    html: str = template.render(name=name, verdict=verdict, facts=facts, sections=sections)
    return html
