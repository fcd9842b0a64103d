"""Header, navigation, style and errors of every page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import ui

from opsin.core.errors import MovedError, OpsinError
from opsin.studio import parts
from opsin.studio.errors import NotThere
from opsin.studio.image_routes import HELP
from opsin.studio.parts import terms
from opsin.studio.runs.run_index import opaque
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio


@functools.cache
def head() -> str:
    """Return what stands in the head of every page: style, and what explains terms."""
    own = (Path(__file__).parent / "studio.css").read_text(encoding="utf-8")
    style = own + "".join(parts.styles())
    scheme = '<meta name="color-scheme" content="light dark">'
    return f"{scheme}<style>{style}</style>{terms.head()}"


@contextmanager
def page(
    studio: Studio, title: str, here: str, *, guide: str = "how-to/studio.html"
) -> Iterator[Callable[[str], None]]:
    """Put what the block builds into a page: header, navigation, one heading.

    An `OpsinError` of the block is shown where it happened, in one line.

    Args:
        studio: What all windows share; the header tells what its queue does.
        title: The heading, and the window's title.
        here: The address of the navigation's page that it belongs to, or nothing.
        guide: The page of the documentation that explains it, which its "?" opens.

    Yields:
        What gives the page another title.

    Raises:
        NotThere: From the block: the address leads to nothing, which a page of its own says.
    """
    ui.add_head_html(head())
    ui.page_title(f"{safe(title, 80)} · Opsin")
    ui.element("a").props('href="#content"').classes("op-skip").add_slot(
        "default", "Skip to content"
    )
    with ui.element("header").classes("op-header"):
        with ui.element("a").props('href="/"').classes("op-brand"):
            ui.label("Opsin")
        with ui.element("nav").props('aria-label="Pages"'):
            for word, address in studio.navigation:
                link = ui.link(word, address)
                if address == here:
                    link.props('aria-current="page"')
        _queue_line(studio)
        with ui.element("a").classes("op-guide") as question_mark:
            ui.label("?")
        question_mark._props.update({
            "href": f"{HELP}/{guide}", "target": "opsin-help", "aria-label": "Help with this page",
            "title": "Help with this page",
        })  # fmt: skip
    with (
        ui.element("div")
        .props('role="region" id="content" tabindex="-1"')
        .classes("op-page") as region
    ):
        region._props["aria-label"] = safe(title, 80)
        with ui.element("h1"):
            heading = ui.label(safe(title))

        _say_faults()

        def retitle(text: str) -> None:
            heading.set_text(safe(text))
            region._props["aria-label"] = safe(text, 80)
            region.update()
            ui.page_title(f"{safe(text, 80)} · Opsin")

        try:
            yield retitle
        except NotThere:
            raise
        except OpsinError as error:
            error_line(error)


def _queue_line(studio: Studio) -> None:
    """Tell, in the header and live, what the queue does."""
    with ui.element("div").classes("op-queue-line").props('role="status"') as line:
        link = ui.link("", "/queue")

    def tell(topic: str = "jobs") -> None:
        if topic == "jobs":
            text = studio.queue_in_words()
            link.set_text(text)
            line.set_visibility(bool(text))

    tell()
    studio.changed.subscribe(tell)


def _say_faults() -> None:
    """Show errors that a button's work raises: the terminal is out of sight."""
    place = ui.element("div")

    def say(error: Exception) -> None:
        place.clear()
        with place:
            error_line(error if isinstance(error, OpsinError) else fault_in_words(error))

    ui.on_exception(say)


def fault_in_words(error: Exception) -> str:
    """Describe an unexpected error to a visitor, without paths or traceback.

    Example:
        >>> "/home" in fault_in_words(KeyError("/home/me"))
        False
    """
    return (
        f"the studio has a bug ({type(error).__name__}). See its terminal for "
        "details, then reload the page."
    )


def error_line(error: OpsinError | str) -> ui.element:
    """Show an error where it happened: one line, and what to do."""
    if isinstance(error, MovedError):
        return _moved_line(error)
    text = str(error) if isinstance(error, OpsinError) else error
    with ui.element("p").classes("op-error").props('role="alert"') as line:
        ui.label(safe(text, 600))
    return line


def _moved_line(error: MovedError) -> ui.element:
    """Say that a run's images are gone, without their path, and ask where they are now."""
    names = ", ".join(Path(place).name or place for place in error.gone)
    with ui.element("p").classes("op-error").props('role="alert"') as line:
        ui.label(f"The images of this run were moved: {safe(names, 200)}.")
        ui.link("Find them", f"/runs/{opaque(Path(error.run).name)}/moved")
    return line


def empty(text: str, label: str | None = None, target: str | None = None) -> ui.element:
    """Say what would be here and how to get it, with a link that leads there.

    Args:
        text: What would be here.
        label: The link's words.
        target: Its address; one of ours.
    """
    with ui.element("div").classes("op-empty") as element:
        ui.label(text)
        if label and target:
            ui.link(label, target).classes("op-button")
    return element


def figures(items: list[tuple[str, str]]) -> ui.element:
    """Show quantities with their names: a list of definitions in columns."""
    with ui.element("dl").classes("op-figures") as element:
        for name, value in items:
            with ui.element("div"):
                with ui.element("dt"):
                    terms.word(name)
                with ui.element("dd"):
                    ui.label(value)
    return element


def panel(title: str | None = None) -> ui.element:
    """Open a section of a page, with its heading; to be used in a ``with`` statement."""
    element = ui.element("section").classes("op-panel")
    if title:
        with element, ui.element("h2"):
            terms.word(title)
    return element


def action(label: str, on_click: Callable[..., object], *, primary: bool = False) -> ui.button:
    """Show a button that does something here; the page's main one is filled."""
    button = ui.button(label, on_click=on_click)
    return button.props("unelevated" if primary else "outline").classes(
        "op-primary" if primary else ""
    )
