"""All classifiers in one table: sorted, filtered, compared, removed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

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
from opsin.studio.trash import Removed
from opsin.studio.ui import kit, layout
from opsin.studio.ui.tables import Column, TableRow, plain, table
from opsin.studio.words import safe

_COLUMNS: Final = (
    Column("name", "Classifier", text=True, link="address"),
    Column("project", "Project", text=True),
    Column("right", "Right"),
    Column("accuracy", "Accuracy"),
    Column("date", "Date"),
    Column("state", "State", text=True),
    Column("note", "Notes", text=True),
    Column("seconds", "Trained for"),
    Column("model", "Model", text=True, hidden=True),
    Column("size", "On disk", hidden=True),
)
_STATES: Final = {"running": "is being trained", "done": "ready", "stopped": "stopped",
                  "failed": "broke off", "damaged": "damaged"}  # fmt: skip


async def show(studio: Studio) -> None:
    """Build it."""
    rows = await asyncio.to_thread(_rows, studio)
    gone = await asyncio.to_thread(studio.projects.removed)
    with layout.page(studio, "All classifiers") as frame:
        _Classifiers(studio, frame, rows).show_removed(gone)


PAGE = Page("/classifiers", show, more="All classifiers")


class _Classifiers:
    """The table for one window."""

    def __init__(self, studio: Studio, frame: layout.Frame, rows: list[TableRow]) -> None:
        self._studio, self._frame = studio, frame
        self._table: ui.table | None = None
        studio.changed.subscribe(self._heard)
        if not rows:
            kit.empty("Your classifiers appear here.", "Your projects", "/")
        else:
            with frame.actions:
                self._compare = kit.action("Compare", self._go, kind="primary")
                self._remove_button = kit.action(
                    "Remove", self._remove, kind="danger", needs="owner"
                )
            self._table = table(_COLUMNS, rows, "All classifiers", selection=True, sort="-date")
            self._table.on_select(self._enable)
            self._hint = kit.note("")
            self._enable()
        self._gone = ui.element("div")

    def show_removed(self, gone: Sequence[Removed]) -> None:
        """Show what can be restored."""
        self._gone.clear()
        with self._gone:
            removed_list(self._studio, gone)

    @property
    def _chosen(self) -> list[TableRow]:
        """The selected rows, the oldest first: the others are set against it."""
        rows = self._table.selected if self._table else []
        return sorted(rows, key=lambda row: float(str(row["date_sort"])))

    def _enable(self) -> None:
        number = len(self._chosen)
        self._compare.set_enabled(2 <= number <= MOST)
        self._remove_button.set_enabled(number > 0 and allows("owner"))
        self._hint.set_text(f"Select 2 to {MOST} to compare them." if number < 2
                            else f"{counted(number, 'classifier')} selected.")  # fmt: skip

    def _go(self) -> None:
        ui.navigate.to(f"/compare?runs={','.join(str(row['id']) for row in self._chosen)}")

    async def _remove(self) -> None:
        """Remove the selected ones; those that are being trained stay."""
        runs, tokens, faults = self._studio.runs, list[str](), list[OpsinError]()
        for row in self._chosen:
            try:
                tokens.append(await asyncio.to_thread(runs.delete, str(row["id"])))
                self._studio.opened.forget(str(row["id"]))
            except OpsinError as error:
                faults.append(error)
        self._studio.changed.emit("runs")

        async def restore() -> None:
            for token in tokens:
                await asyncio.to_thread(runs.restore, token)
            self._studio.changed.emit("runs")

        if tokens:
            self._frame.undo.offer(f"{counted(len(tokens), 'classifier')} removed", restore)
        if faults:
            raise faults[0]

    async def _heard(self, topic: str) -> None:
        if topic != "runs":
            return
        rows = await asyncio.to_thread(_rows, self._studio)
        gone = await asyncio.to_thread(self._studio.projects.removed)
        if self._gone.is_deleted:
            return
        if self._table is None and rows:
            ui.navigate.reload()
        elif self._table is not None:
            self._table.update_rows(plain(rows))
            ids = {row["id"] for row in rows}
            self._table.selected = [row for row in self._table.selected if row["id"] in ids]
            self._enable()
        self.show_removed(gone)


def _rows(studio: Studio) -> list[TableRow]:
    return [_row(project, row) for project in studio.projects.all() for row in project.runs]


def _row(project: Project, row: RunRow) -> TableRow:
    known = None not in (row.accuracy, row.low, row.high, row.images)
    accuracy, low, high = row.accuracy or 0.0, row.low or 0.0, row.high or 0.0
    optimistic = ", optimistic" if row.split == "val" else ""
    return {
        "id": row.id, "name": project.title_of(row), "project": project.name,
        "address": layout.address(project, "results", run=row.id),
        "right": right_of(accuracy, row.images or 0).removeprefix("Right for ") if known else "",
        "right_sort": accuracy if known else -1,
        "accuracy": f"{100 * accuracy:.1f}% ({span(low, high)}{optimistic})" if known else "",
        "accuracy_sort": accuracy if known else -1,
        "date": day(row.started) if row.started else "", "date_sort": row.started or 0,
        "state": _STATES.get(row.state, row.state), "note": safe(row.note, 400),
        "seconds": "" if row.seconds is None else clock(row.seconds),
        "seconds_sort": row.seconds or 0, "model": row.model or "",
        "size": file_size(row.disk_bytes), "size_sort": row.disk_bytes,
    }  # fmt: skip
