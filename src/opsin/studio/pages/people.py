"""People: who may do what here, and who changed what."""

from __future__ import annotations

import asyncio

from nicegui import ui

from opsin.core.format import ago
from opsin.studio.context import Studio
from opsin.studio.pages.page import Page
from opsin.studio.people import Person, Role, require
from opsin.studio.ui import kit, layout
from opsin.studio.ui.tables import table
from opsin.studio.words import safe
from opsin.web.access import FIELD

_ROLES: dict[Role, str] = {
    "viewer": "Viewer: looks at results and tries classifiers",
    "labeller": "Labeller: also adds and sorts photographs",
    "owner": "Owner: also trains, removes and invites",
}
_DAYS = {1: "1 day", 7: "7 days", 30: "30 days", 365: "A year"}


async def people(studio: Studio) -> None:
    """Build the page."""
    with layout.page(studio, "People", guide="how-to/share-the-studio.html") as frame:
        if not studio.settings.share:
            kit.empty(
                "Only you use this studio. To invite others, somebody who runs it has to start it "
                "for sharing; the help says how."
            )
            return
        require("owner")
        _PeoplePage(studio, frame).build()


PAGE = Page("/people", people, more="People")


class _PeoplePage:
    """The invitations, the people and their changes."""

    def __init__(self, studio: Studio, frame: layout.Frame) -> None:
        self._studio, self._frame = studio, frame

    def build(self) -> None:
        """Show everything."""
        with self._frame.actions:
            kit.action("Invite", self._ask, kind="primary", icon="person_add")
        self._status = kit.StatusLine()
        self._people()
        kit.question("Who changed what?", self._changes)

    @ui.refreshable_method
    def _people(self) -> None:
        people = self._studio.people.all()
        if not people:
            kit.empty("People whom you invite appear here.")
        with ui.element("div").classes("stack"):
            for person in people:
                self._line(person)

    def _line(self, person: Person) -> None:
        name = safe(person.name)
        with ui.element("div").classes("line card"):
            with ui.element("div").classes("col").style("min-width: min(100%, 160px)"):
                ui.label(name).classes("text-weight-bold")
                kit.note(f"last here {ago(person.seen)}" if person.joined else "not here yet")
            ui.select(
                {role: text.partition(":")[0] for role, text in _ROLES.items()},
                value=person.role, label="Role",
                on_change=lambda event: self._change(person, event.value),
            )  # fmt: skip
            button = kit.action("End access", lambda: self._revoke(person), kind="danger")
            button.props["aria-label"] = f"End access: {name}"

    async def _ask(self) -> None:
        with ui.dialog() as dialog, ui.card().classes("stack"):
            dialog.props["aria-label"] = "Invite"
            kit.heading("Invite somebody")
            name = ui.input("Name").props("autofocus maxlength=60")
            role = ui.radio(_ROLES, value="viewer")
            days = ui.select(_DAYS, value=30, label="Access for")
            with ui.element("div").classes("line"):
                kit.action("Cancel", dialog.close)
                kit.action("Make a link", lambda: dialog.submit(True), kind="primary")
        if await dialog:
            with self._status.errors():
                code = await asyncio.to_thread(
                    self._studio.people.invite, name.value, role.value, days.value
                )
                await self._show_link(safe(name.value), code)
        dialog.delete()
        self._people.refresh()

    async def _show_link(self, name: str, code: str) -> None:
        start = await ui.run_javascript("location.origin + window.path_prefix")
        link = f"{start}/?{FIELD}={code}"
        with ui.dialog(value=True) as dialog, ui.card().classes("stack"):
            dialog.props["aria-label"] = "Invitation"
            kit.heading(f"Send this link to {name}")
            ui.label(link).classes("mono")
            kit.note("It works once, within seven days, and is not shown again.")
            with ui.element("div").classes("line"):
                kit.action("Copy", lambda: ui.clipboard.write(link), kind="primary")
                kit.action("Close", dialog.close)

    async def _change(self, person: Person, role: Role) -> None:
        with self._status.errors():
            await asyncio.to_thread(self._studio.people.change_role, person.id, role)
            self._studio.changed.emit(f"person:{person.id}")

    async def _revoke(self, person: Person) -> None:
        with self._status.errors():
            await asyncio.to_thread(self._studio.people.revoke, person.id)
        self._people.refresh()

    async def _changes(self) -> None:
        changes = await asyncio.to_thread(self._studio.people.changes)
        if not changes:
            kit.note("Nothing was changed yet.")
            return
        rows = [
            {"id": i, "When": (ago(entry.when), -i), "Who": entry.name, "What": entry.change}
            for i, entry in enumerate(changes)
        ]
        table(rows, "Changes")
