"""The pages' templates and their filters, and the page about a classifier's inside."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opsin.core.errors import MissingExtraError
from opsin.core.format import clock, file_size, plus_minus
from opsin.core.glossary import Term, find_term, term_of_layer
from opsin.evaluation.metric_table import known_metrics
from opsin.report.maps import image_address

try:
    import jinja2
    from markupsafe import Markup
except ImportError as error:
    raise MissingExtraError("the report", "evaluate") from error


@functools.cache
def environment() -> jinja2.Environment:
    """Return the renderer of pages: everything is escaped, missing values are errors."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("opsin", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "clock": clock,
        "file_size": file_size,
        "plus_minus": plus_minus,
        "image": image_address,
        "figure": lambda value: "" if value is None or math.isnan(value) else f"{value:.4f}",
        "known_metrics": known_metrics,
        "kind": lambda kind: _explained(kind, term_of_layer(kind)),
        "term": lambda text: _explained(text, find_term(text)),
        "shape": lambda sides: "×".join(f"{side:,}" for side in sides),
        "thousands": lambda value: f"{value:,}",
    }
    return templates


def fill(template: str, **values: object) -> str:
    """Return one of the pages, or a part of one, with these values."""
    page: str = environment().get_template(template).render(**values)
    return page


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, headline, and finished HTML."""

    anchor: str
    title: str
    html: str


def section(anchor: str, title: str, template: str, **values: object) -> Section:
    """Fill one of the templates in ``inside``, such as ``layers.html``."""
    return Section(anchor, title, fill(f"inside/{template}", **values))


def render_page(
    name: str, verdict: str, facts: Mapping[str, str], sections: Sequence[Section]
) -> str:
    """Return the page about a run or an image, with the verdict as its headline."""
    return fill("inside/page.html", name=name, verdict=verdict, facts=facts, sections=sections)


def _explained(text: str, term: Term | None) -> str | Markup:
    """Return a word with its term's three sentences, which the browser shows when pointed at."""
    if term is None:
        return text
    return Markup('<abbr title="{}: {}">{}</abbr>').format(term.title, term.text, text)
