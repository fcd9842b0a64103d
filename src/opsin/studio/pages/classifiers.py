"""All classifiers in one table: sorted, filtered, compared, removed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import clock, counted, day, file_size
from opsin.studio.context import Studio
from opsin.studio.pages.home import removed_list
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import right_of, span
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.runs.compared import MOST
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui import kit, layout
from opsin.studio.ui.tables import TableRow, plain, table

_STATES: Final = {"running": "is being trained", "done": "ready", "failed": "broke off"}


async def show(studio: Studio) -> None:
    """Build it."""
    rows = await asyncio.to_thread(_rows, studio)
    gone = await asyncio.to_thread(studio.projects.removed)
    with layout.page(studio, "All classifiers") as frame:
        if rows:
            _Classifiers(studio, frame, rows)
        else:
            kit.empty("Your classifiers appear here.", "Your projects", "/")
        with ui.element("div") as removed:
            removed_list(studio, gone)

    async def heard(topic: str) -> None:
        if topic == "runs":
            gone = await asyncio.to_thread(studio.projects.removed)
            if not removed.is_deleted:
                removed.clear()
                with removed:
                    removed_list(studio, gone)
                if not rows and studio.runs.rows():
                    ui.navigate.reload()

    studio.changed.subscribe(heard)


PAGE = Page("/classifiers", show, more="All classifiers")


class _Classifiers:
    """The table for one window."""

    def __init__(self, studio: Studio, frame: layout.Frame, rows: list[TableRow]) -> None:
        self._studio, self._frame = studio, frame
        with frame.actions:
            self._compare = kit.action("Compare", lambda: ui.navigate.to(
                f"/compare?runs={','.join(str(row['id']) for row in self._chosen)}"
            ), kind="primary")  # fmt: skip
            self._remove_button = kit.action("Remove", self._remove, kind="danger", needs="owner")
        self._table = table(rows, "All classifiers", hidden=("Model", "On disk"), selection=True,
                            sort="-Date")  # fmt: skip
        self._table.on_select(self._enable)
        self._hint = kit.note("")
        self._enable()
        studio.changed.subscribe(self._heard)

    @property
    def _chosen(self) -> list[dict[str, Any]]:
        """The selected rows, the oldest first: the others are set against it."""
        return sorted(self._table.selected, key=lambda row: row["Date_sort"])

    def _enable(self) -> None:
        number = len(self._table.selected)
        self._compare.set_enabled(2 <= number <= MOST)
        self._remove_button.set_enabled(number > 0 and allows("owner"))
        self._hint.set_text(f"Select 2 to {MOST} to compare them." if number < 2
                            else f"{counted(number, 'classifier')} selected.")  # fmt: skip

    async def _remove(self) -> None:
        """Remove the selected ones; those that are being trained stay."""
        runs, tokens, fault = self._studio.runs, list[str](), None
        for row in self._chosen:
            try:
                tokens.append(await asyncio.to_thread(runs.delete, str(row["id"])))
                self._studio.opened.forget(str(row["id"]))
            except OpsinError as error:
                fault = error
        self._studio.changed.emit("runs")

        async def restore() -> None:
            for token in tokens:
                await asyncio.to_thread(runs.restore, token)
            self._studio.changed.emit("runs")

        if tokens:
            self._frame.undo.offer(f"{counted(len(tokens), 'classifier')} removed", restore)
        if fault:
            raise fault

    async def _heard(self, topic: str) -> None:
        if topic == "runs":
            rows = await asyncio.to_thread(_rows, self._studio)
            if not self._table.is_deleted:
                self._table.update_rows(plain(rows))
                ids = {row["id"] for row in rows}
                self._table.selected = [row for row in self._table.selected if row["id"] in ids]
                self._enable()


def _rows(studio: Studio) -> list[TableRow]:
    return [_row(project, row) for project in studio.projects.all() for row in project.runs]


def _row(project: Project, row: RunRow) -> TableRow:
    right = accuracy = ""
    if row.accuracy is not None and row.low is not None and row.high is not None:
        optimistic = ", optimistic" if row.split == "val" else ""
        right = right_of(row).removeprefix("Right for ")
        accuracy = f"{100 * row.accuracy:.1f}% ({span(row.low, row.high)}{optimistic})"
    order = -1 if row.accuracy is None else row.accuracy
    return {
        "id": row.id, "address": layout.address(project, "results", run=row.id),
        "Classifier": project.title_of(row), "Project": project.name,
        "Right": (right, order), "Accuracy": (accuracy, order),
        "Date": (day(row.started or 0), row.started or 0),
        "State": _STATES.get(row.state, row.state), "Notes": row.note,
        "Trained for": ("" if row.seconds is None else clock(row.seconds), row.seconds or 0),
        "Model": row.model or "", "On disk": (file_size(row.disk_bytes), row.disk_bytes),
    }  # fmt: skip
