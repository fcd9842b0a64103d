"""All classifiers in one table: sorted, filtered, compared, removed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import clock, counted, day, span
from opsin.studio.context import Studio
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import right_of
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui import kit, layout
from opsin.studio.ui.tables import TableRow, plain, table

_STATES: Final = {"running": "is being trained", "done": "ready", "failed": "broke off"}


@Page("/classifiers", more="All classifiers")
async def show(studio: Studio) -> None:
    """Build it."""
    rows = await asyncio.to_thread(_rows, studio)
    with layout.page(studio, "All classifiers") as frame:
        if not rows:
            kit.empty("Your classifiers appear here.", "Your projects", "/")
            return
        shown = table(rows, "All classifiers", hidden=("Model",), selection=True, sort="-Date")
        hint = kit.note("")

    def enable() -> None:
        number = len(shown.selected)
        compare.set_enabled(number == 2)
        remove_button.set_enabled(number > 0 and allows("owner"))
        hint.set_text(f"{counted(number, 'classifier')} selected. Select 2 to compare them.")

    async def remove() -> None:
        """Remove the selected ones; those that are being trained stay."""
        token, number, fault = "", 0, None
        for id_ in _chosen(shown):
            try:
                token = await asyncio.to_thread(studio.runs.delete, id_, token)
                number += 1
            except OpsinError as error:
                fault = error
        if token:
            back = partial(asyncio.to_thread, studio.runs.restore, token)
            frame.undo.offer(f"{counted(number, 'classifier')} removed", back, "runs")
        if fault:
            raise fault

    async def refresh() -> None:
        rows = await asyncio.to_thread(_rows, studio)
        if not shown.is_deleted:
            shown.update_rows(plain(rows), clear_selection=False)
            ids = {row["id"] for row in rows}
            shown.selected = [row for row in shown.selected if row["id"] in ids]
            enable()

    with frame.actions:
        compare = kit.action(
            "Compare",
            lambda: ui.navigate.to(f"/compare?runs={','.join(_chosen(shown))}"),
            kind="primary",
        )
        remove_button = kit.action("Remove", remove, kind="danger", needs="owner")
    shown.on_select(enable)
    enable()
    studio.changed.subscribe(refresh, "runs")


def _chosen(shown: ui.table) -> list[str]:
    """The selected ones, the oldest first: the others are set against it."""
    return [row["id"] for row in sorted(shown.selected, key=lambda row: row["Date_sort"])]


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
        "id": row.id,
        "address": layout.address(project, "results", run=row.id),
        "Classifier": project.title_of(row),
        "Project": project.name,
        "Right": (right, order),
        "Accuracy": (accuracy, order),
        "Date": (day(row.started or 0), row.started or 0),
        "State": _STATES.get(row.state, row.state),
        "Notes": row.note,
        "Trained for": ("" if row.seconds is None else clock(row.seconds), row.seconds or 0),
        "Model": row.model or "",
    }
