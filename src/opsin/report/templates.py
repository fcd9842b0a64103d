"""The pages' templates, and what they may call."""

from __future__ import annotations

import functools
import math

from opsin.core.errors import MissingExtraError
from opsin.core.format import clock, file_size, plus_minus
from opsin.core.glossary import Term, find_term, term_of_layer
from opsin.evaluation.metric_table import known_metrics
from opsin.report.answer_image import image_address

try:
    import jinja2
    from markupsafe import Markup
except ImportError as error:
    raise MissingExtraError("the report", "evaluate") from error


@functools.cache
def environment() -> jinja2.Environment:
    """Return what renders a page: everything escaped, nothing missing passed over."""
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


def _explained(text: str, term: Term | None) -> str | Markup:
    """Return a word with its term's three sentences, which the browser shows when pointed at."""
    if term is None:
        return text
    return Markup('<abbr title="{}: {}">{}</abbr>').format(term.title, term.text, text)
