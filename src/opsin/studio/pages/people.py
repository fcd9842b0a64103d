"""People: who may do what here, and who changed what."""

from __future__ import annotations

import asyncio
from functools import partial

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from opsin.core.format import ago
from opsin.studio.context import Studio
from opsin.studio.pages.page import Page
from opsin.studio.people import Person, Role
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


@Page("/people", more="People", needs="owner")
def people(studio: Studio) -> None:
    """Build the page."""
    with layout.page(studio, "People", guide="how-to/share-the-studio.html") as frame:
        if studio.settings.share:
            _People(studio, frame)
        else:
            kit.empty(
                "This studio is not shared. To invite others, start it for sharing: Help says how."
            )


class _People:
    def __init__(self, studio: Studio, frame: layout.Frame) -> None:
        self._studio, self._known = studio, studio.people
        with frame.actions:
            kit.action("Invite", self._invite, kind="primary", icon="person_add")
        self._status = kit.StatusLine()
        self._everybody()
        kit.question("Who changed what?", self._changes)

    @ui.refreshable_method
    def _everybody(self) -> None:
        people = self._known.all()
        if not people:
            kit.empty("People whom you invite appear here.")
        for person in people:
            with ui.element("div").classes("line card q-mb-md"):
                with ui.element("div").classes("col").style("min-width: min(100%, 160px)"):
                    ui.label(safe(person.name)).classes("text-weight-bold")
                    kit.note(f"joined {ago(person.joined)}" if person.joined else "not here yet")
                names = {role: text.partition(":")[0] for role, text in _ROLES.items()}
                role = ui.select(names, value=person.role, label="Role")
                role.on_value_change(partial(self._change, person))
                end = kit.action("End access", partial(self._end, person), kind="danger")
                end.props["aria-label"] = f"End access: {safe(person.name)}"

    async def _invite(self) -> None:
        with kit.dialog("Invite somebody") as asked:
            name = ui.input("Name").props("autofocus maxlength=60")
            role = ui.radio(_ROLES, value="viewer")
            days = ui.select(_DAYS, value=30, label="Access for")
            if not await kit.submitted(asked, "Make a link"):
                return
        with self._status.errors():
            given = (name.value, role.value, days.value)
            code = await asyncio.to_thread(self._known.invite, *given)
            start = await ui.run_javascript("location.origin + window.path_prefix")
            link = f"{start}/?{FIELD}={code}"
            with kit.dialog(f"Send this link to {safe(name.value)}") as shown:
                ui.label(link).classes("mono")
                kit.note("It works once, within seven days, and is not shown again.")
                with ui.element("div").classes("line"):
                    kit.action("Copy", lambda: ui.clipboard.write(link), kind="primary")
                    kit.action("Close", shown.close)
            shown.open()
        self._everybody.refresh()

    async def _change(self, person: Person, event: ValueChangeEventArguments[Role]) -> None:
        with self._status.errors():
            await asyncio.to_thread(self._known.change_role, person.id, event.value)
            self._studio.changed.emit(f"person:{person.id}")

    async def _end(self, person: Person) -> None:
        with self._status.errors():
            await asyncio.to_thread(self._known.revoke, person.id)
            self._studio.changed.emit(f"person:{person.id}")  # closes their pages
        self._everybody.refresh()

    async def _changes(self) -> None:
        changes = await asyncio.to_thread(self._known.changes)
        rows = [
            {"id": i, "When": (ago(change.when), -i), "Who": change.name, "What": change.change}
            for i, change in enumerate(changes)
        ]
        if rows:
            table(rows, "Changes")
        else:
            kit.note("Nothing was changed yet.")
