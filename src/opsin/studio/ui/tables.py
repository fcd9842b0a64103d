"""Tables that sort, filter, hide columns, and never break on a long text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nicegui import ui

from opsin.core.csv_cells import write_rows
from opsin.studio.ui.kit import action, icon_action, rooted
from opsin.studio.words import safe

_LONG: Final = 20
# Quasar's boxes have no names, and boxes in a slot would lose the focus with each click.
_NAME_BOXES: Final = """
const table = document.getElementById("{}"), name = () => {{
  for (const box of table.querySelectorAll(".q-checkbox")) {{
    const row = box.closest("tbody tr");
    const text = row ? "Select " + row.children[1].innerText : "Select all";
    if (box.getAttribute("aria-label") !== text) box.setAttribute("aria-label", text);
  }}
}};
new MutationObserver(name).observe(table, {{childList: true, subtree: true, characterData: true}});
name();
"""
_SORT: Final = "(a, b, x, y) => (x['{0}_sort'] ?? x['{0}']) > (y['{0}_sort'] ?? y['{0}']) ? 1 : -1"
#: A row's values by the keys of its columns, its ``id``, and what else it needs.
TableRow = Mapping[str, object]


@dataclass(frozen=True)
class Column:
    """A column: the key of its values in the rows, and how they are shown.

    Args:
        key: The key; sorting is by ``<key>_sort`` where the rows have it.
        title: The heading.
        text: Whether it is text, to the left; numbers are to the right.
        link: The key of the rows' addresses that its cells lead to.
        hidden: Whether it is hidden at first.
    """

    key: str
    title: str
    text: bool = False
    link: str = ""
    hidden: bool = False


def table(
    columns: Sequence[Column], rows: Sequence[TableRow], label: str, *, selection: bool = False,
    sort: str = "",
) -> ui.table:  # fmt: skip
    """A table; long ones have a filter, pages and a choice of columns, and all save as CSV."""
    is_long = len(rows) > _LONG
    with ui.element("div").classes("stack"):
        tools = ui.element("div").classes("line")
        made = ui.table(
            columns=[
                {"name": column.key, "label": column.title, "field": column.key, "sortable": True,
                 "align": "left" if column.text else "right", ":sort": _SORT.format(column.key)}
                for column in columns
            ],
            rows=plain(rows),
            row_key="id",
            selection="multiple" if selection else None,
            pagination={"rowsPerPage": 25 if is_long else 0, "sortBy": sort.lstrip("-") or None,
                        "descending": sort.startswith("-")},
        )  # fmt: skip
        made.classes("table").props("flat dense wrap-cells")
        made.props["aria-label"] = safe(label)
        made.props["visible-columns"] = [column.key for column in columns if not column.hidden]
        if not is_long:
            made.props("hide-pagination")
        with tools:
            if is_long:
                search = ui.input(placeholder="Filter").props("clearable")
                search.props["aria-label"] = f"Filter: {safe(label)}"
                made.bind_filter_from(search, "value", backward=lambda value: value or "")
            if is_long or any(column.hidden for column in columns):
                _choice_of_columns(columns, made)
            icon_action("table_view", "Save as CSV", lambda: save_csv(
                label, [column.title for column in columns],
                ([row.get(column.key, "") for column in columns] for row in made.rows),
            ))  # fmt: skip
        if selection:
            ui.run_javascript(_NAME_BOXES.format(made.html_id))
        for column in filter(lambda column: column.link, columns):
            made.add_slot(
                f"body-cell-{column.key}",
                f'<q-td :props="props"><a v-if="props.row.{column.link}" '
                f":href=\"'{rooted('/')[:-1]}' + props.row.{column.link}\">{{{{ props.value }}}}"
                "</a><span v-else>{{ props.value }}</span></q-td>",
            )
    return made


def plain(rows: Iterable[TableRow]) -> list[dict[str, object]]:
    """Rows whose texts are safe, for `ui.table.update_rows`."""
    return [
        {key: safe(value) if isinstance(value, str) else value for key, value in row.items()}
        for row in rows
    ]


def _choice_of_columns(columns: Sequence[Column], made: ui.table) -> None:
    def show() -> None:
        made.props["visible-columns"] = [key for key, box in boxes.items() if box.value]
        made.update()

    with action("Columns", lambda: None, icon="view_column").props("dense"), ui.menu(), ui.list():
        boxes = {column.key: ui.checkbox(column.title, value=not column.hidden, on_change=show)
                 for column in columns}  # fmt: skip


def save_csv(label: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Let the browser save values as CSV, in which no spreadsheet finds formulas."""
    stream = io.StringIO(newline="")
    write_rows(stream, [columns, *rows])
    ui.download.content(stream.getvalue().encode(), f"{file_name(label)}.csv", "text/csv")


def file_name(label: str) -> str:
    """The name of a file, without its ending, for what a label names."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in label).split()
    return "-".join(words[:8]).lower() or "table"
