"""All classifiers in one table: sorted, filtered, compared, removed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import clock, counted, day, file_size
from opsin.studio.context import Studio
from opsin.studio.pages.compare import MOST
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import right_of, span
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui import kit, layout
from opsin.studio.ui.tables import TableRow, plain, table

_STATES: Final = {"running": "is being trained", "done": "ready", "failed": "broke off"}


async def show(studio: Studio) -> None:
    """Build it."""
    rows = await asyncio.to_thread(_rows, studio)
    with layout.page(studio, "All classifiers") as frame:
        if not rows:
            kit.empty("Your classifiers appear here.", "Your projects", "/")
            return
        shown = table(rows, "All classifiers", hidden=("Model", "On disk"), selection=True,
                      sort="-Date")  # fmt: skip
        hint = kit.note("")

    def chosen() -> list[str]:
        """The selected ones, the oldest first: the others are set against it."""
        return [row["id"] for row in sorted(shown.selected, key=lambda row: row["Date_sort"])]

    def enable() -> None:
        number = len(shown.selected)
        compare.set_enabled(2 <= number <= MOST)
        remove_button.set_enabled(number > 0 and allows("owner"))
        hint.set_text(f"Select 2 to {MOST} to compare them." if number < 2
                      else f"{counted(number, 'classifier')} selected.")  # fmt: skip

    async def remove() -> None:
        ids = chosen()
        tokens, fault = await asyncio.to_thread(_delete, studio, ids)
        for id_ in ids:
            studio.opened.forget(id_)
        studio.changed.emit("runs")
        if tokens:
            frame.undo.offer(f"{counted(len(tokens), 'classifier')} removed", partial(back, tokens))
        if fault:
            raise fault

    async def back(tokens: Sequence[str]) -> None:
        await asyncio.to_thread(lambda: list(map(studio.runs.restore, tokens)))
        studio.changed.emit("runs")

    async def heard(topic: str) -> None:
        if topic == "runs":
            rows = await asyncio.to_thread(_rows, studio)
            if not shown.is_deleted:
                shown.update_rows(plain(rows), clear_selection=False)
                ids = {row["id"] for row in rows}
                shown.selected = [row for row in shown.selected if row["id"] in ids]
                enable()

    with frame.actions:
        compare = kit.action("Compare", lambda: ui.navigate.to(
            f"/compare?runs={','.join(chosen())}"
        ), kind="primary")  # fmt: skip
        remove_button = kit.action("Remove", remove, kind="danger", needs="owner")
    shown.on_select(enable)
    enable()
    studio.changed.subscribe(heard)


PAGE = Page("/classifiers", show, more="All classifiers")


def _delete(studio: Studio, ids: Sequence[str]) -> tuple[list[str], OpsinError | None]:
    """Remove classifiers but those that are being trained; tokens restore them."""
    tokens, fault = list[str](), None
    for id_ in ids:
        try:
            tokens.append(studio.runs.delete(id_))
        except OpsinError as error:
            fault = error
    return tokens, fault


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
