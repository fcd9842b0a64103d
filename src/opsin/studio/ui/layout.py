"""The frame of every page: header, a project's path, heading, help, undo and errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import counted
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.image_routes import HELP
from opsin.studio.people import allows, visitor
from opsin.studio.projects import Project
from opsin.studio.ui import kit
from opsin.studio.words import safe

#: The pages of a project in their order: key, word, icon.
PATH: Final = (
    ("photos", "Photos", "photo_library"),
    ("train", "Train", "model_training"),
    ("results", "Results", "fact_check"),
    ("try", "Try", "photo_camera"),
    ("inside", "Look inside", "visibility"),
)
_MARK: Final = (
    '<svg viewBox="0 0 32 32" aria-hidden="true"><path d="M2 16Q16 1 30 16Q16 31 2 16Z" '
    'fill="currentColor" style="color: var(--accent)"/><circle cx="16" cy="16" r="6.2" '
    'fill="#fff"/><circle cx="16" cy="16" r="3" fill="#1c2127"/></svg>'
)
# Keeps the help open on the next page.
_HELP_COOKIE: Final = "opsin-help"
# Characters of a heading, which a name of 200 would fill a telephone with.
_TITLE_MOST: Final = 60


@functools.cache
def head() -> str:
    """What stands in the head of every page: the style."""
    style = Path(__file__).with_name("studio.css").read_text(encoding="utf-8")
    return f'<meta name="color-scheme" content="light dark"><style>{style}</style>'


@dataclass
class Frame:
    """What a page may change about its frame."""

    heading: ui.label
    actions: ui.element  # beside the heading, for the page's primary button
    undo: kit.UndoBar
    training: tuple[str, bool] | None = None  # what *Train* beside the heading says

    def retitle(self, text: str) -> None:
        """Give the page another title."""
        self.heading.set_text(safe(text, _TITLE_MOST))
        ui.page_title(f"{safe(text, 80)} · Opsin")


def address(project: Project | str, page: str = "", **query: str) -> str:
    """The address of a page of a project."""
    id_ = project if isinstance(project, str) else project.id
    asked = {name: value for name, value in query.items() if value}
    return f"/projects/{id_}/{page}" + (f"?{urlencode(asked)}" if asked else "")


@contextmanager
def page(
    studio: Studio,
    title: str,
    *,
    project: Project | None = None,
    here: str = "",
    guide: str = "how-to/studio.html",
) -> Iterator[Frame]:
    """Put what the block builds into a page; an `OpsinError` of it is shown there.

    ``here`` is the page's key in `PATH`, ``guide`` the page of the documentation for *Help*. A
    `NotThere` of the block is raised: the address leads to nothing, which a page of its own says.
    """
    ui.add_head_html(head())
    name = project.name if project else ""
    ui.page_title(" · ".join(filter(None, [safe(title, 80), safe(name, 60), "Opsin"])))
    with ui.element("a").props('href="#content"').classes("skip"):  # Quasar's page is the main
        ui.label("Skip to content")
    show_help = _help(guide)
    with ui.element("header").classes("frame"):
        with ui.link(target="/").classes("mark") as home:
            ui.html(_MARK, sanitize=False)
            with ui.element("span"):
                ui.label("Opsin")
        home.props["aria-label"] = "Opsin: your projects"
        if project is not None:
            ui.link(safe(name, 60), address(project)).classes("frame-project")
            with ui.element("nav").classes("path").props('aria-label="Project"'):
                for key, text, icon in PATH:
                    with ui.link(target=address(project, key)) as link:
                        ui.icon(icon).props('aria-hidden="true"')
                        ui.label(text)
                    if key == here:
                        link.props('aria-current="page"')
        with ui.element("div").classes("frame-end"):
            _working(studio)
            if (person := visitor.get()).id:
                ui.label(f"{safe(person.name, 30)}, {person.role}").classes("note")
                studio.changed.subscribe(ui.navigate.reload, f"person:{person.id}")  # of a new role
            # Beside the page, where there is room.
            kit.icon_action("help_outline", "Help with this page").on(
                "click",
                show_help,
                js_handler="() => innerWidth < 1024 ? "
                f"window.open('{kit.rooted(f'{HELP}/{guide}')}') : emit()",
            )
            with kit.icon_action("more_vert", "More"), ui.menu():
                for word, path, needs in studio.menu:
                    if allows(needs) and (project or "{project}" not in path):
                        target = path.replace("{project}", project.id if project else "")
                        ui.menu_item(word, functools.partial(ui.navigate.to, target))
    with ui.element("div").classes("page").props('id="content" tabindex="-1"'):
        with ui.element("div").classes("page-head"):
            with ui.element("h1"):
                heading = ui.label(safe(title, _TITLE_MOST))
            actions = ui.element("div").classes("line")
        faults, undo = kit.StatusLine(), kit.UndoBar(studio.changed)
        ui.on_exception(
            lambda error: faults.fail(error if isinstance(error, OpsinError) else kit.FAULT)
        )
        try:
            yield Frame(heading, actions, undo)
        except NotThere:
            raise
        except OpsinError as error:
            kit.error_line(error)


def offer_training(frame: Frame, project_id: str, why_not: str, *, main: bool = True) -> None:
    """Put *Train* beside the heading, or why it cannot be; ``main`` if it is the next step."""
    if frame.training == (why_not, main):
        return  # a button that is being clicked stays
    frame.training = why_not, main
    kind: kit.Kind = "primary" if main else "plain"
    frame.actions.clear()
    with frame.actions:
        if why_not:
            kit.action("Train", None, kind=kind, off=why_not)
            kit.note(why_not)
        else:
            kit.link_button("Train", address(project_id, "train", start="1"), kind=kind)


def _working(studio: Studio) -> None:
    """How many jobs there are now, live."""
    with ui.element("div").classes("working").props('role="status"'):
        link = ui.link("", "/jobs")

    def show() -> None:
        number = sum(not job.over for job in studio.jobs.jobs())
        link.set_text(counted(number, "job"))
        link.set_visibility(number > 0)

    show()
    studio.changed.subscribe(show, "jobs")


def _help(guide: str) -> Callable[[], object]:
    """The documentation beside a page, kept while one goes on to others; return its switch."""
    kept = ui.context.client.request.cookies.get(_HELP_COOKIE) == "1"
    panel = ui.right_drawer(value=None if kept else False, bordered=True)  # None: if there is room
    with panel.props("width=440").classes("help"):
        with ui.element("div").classes("line"):
            ui.label("Help")
            kit.icon_action("close", "Close the help", panel.hide)
        shown = ui.element("iframe").props('title="Documentation"')

    def changed() -> None:
        cookie = f"{_HELP_COOKIE}={int(bool(panel.value))}; path={kit.rooted('/')}; samesite=strict"
        ui.run_javascript(f"document.cookie = '{cookie}'")
        if panel.value:
            shown.props["src"] = kit.rooted(f"{HELP}/{guide}")

    panel.on_value_change(changed)
    return panel.toggle
