"""Tables that sort, filter, hide columns, and never break on a long text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nicegui import ui

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
#: A row's values by the keys of its columns, and what else it needs.
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
    columns: Sequence[Column],
    rows: Sequence[TableRow],
    label: str,
    *,
    selection: bool = False,
    sort: str = "",
    row_key: str = "id",
) -> ui.table:
    """A table; long ones have a filter, pages and a choice of columns, and all save as CSV."""
    is_long = len(rows) > _LONG
    shown = [column.key for column in columns if not column.hidden]
    with ui.element("div").classes("stack"):
        tools = ui.element("div").classes("line")
        made = ui.table(
            columns=[_as_quasar(column) for column in columns],
            rows=[{key: _plain(value) for key, value in row.items()} for row in rows],
            row_key=row_key,
            selection="multiple" if selection else None,
            pagination={"rowsPerPage": 25 if is_long else 0, "sortBy": sort.lstrip("-") or None,
                        "descending": sort.startswith("-")},
        )  # fmt: skip
        made.classes("table").props("flat dense wrap-cells")
        made.props["aria-label"] = safe(label)
        if not is_long:
            made.props("hide-pagination")
        with tools:
            if is_long:
                search = ui.input(placeholder="Filter").props("clearable")
                search.props["aria-label"] = f"Filter: {safe(label)}"
                made.bind_filter_from(search, "value", backward=lambda value: value or "")
            if is_long or any(column.hidden for column in columns):
                _choice_of_columns(columns, lambda keys: _show_columns(made, columns, keys))
            icon_action("table_view", "Save as CSV", lambda: _download(columns, made.rows, label))
        if selection:
            ui.run_javascript(_NAME_BOXES.format(made.html_id))
        prefix = rooted("/")[:-1]
        for column in columns:
            if column.link:
                made.add_slot(
                    f"body-cell-{column.key}",
                    f'<q-td :props="props"><a v-if="props.row.{column.link}" '
                    f":href=\"'{prefix}' + props.row.{column.link}\">{{{{ props.value }}}}</a>"
                    "<span v-else>{{ props.value }}</span></q-td>",
                )
        _show_columns(made, columns, shown)
    return made


def _as_quasar(column: Column) -> dict[str, Any]:
    align = "left" if column.text else "right"
    shared = {"name": column.key, "label": column.title, "field": column.key, "align": align}
    by_number = "(a, b, x, y) => (x['{0}_sort'] ?? x['{0}']) > (y['{0}_sort'] ?? y['{0}']) ? 1 : -1"
    return shared | {"sortable": True, ":sort": by_number.format(column.key)}


def _plain(value: Any) -> Any:
    return safe(value) if isinstance(value, str) else value


def _choice_of_columns(columns: Sequence[Column], on_change: Any) -> None:
    chosen = {column.key: not column.hidden for column in columns}

    def toggle(key: str, value: bool) -> None:
        chosen[key] = value
        on_change([key for key, shown in chosen.items() if shown])

    with action("Columns", lambda: None, icon="view_column").props("dense"), ui.menu(), ui.list():
        for column in columns:
            box = ui.checkbox(column.title, value=chosen[column.key])
            box.on_value_change(lambda event, key=column.key: toggle(key, event.value))


def _show_columns(made: ui.table, columns: Sequence[Column], keys: Sequence[str]) -> None:
    made.props["visible-columns"] = [column.key for column in columns if column.key in keys]
    made.update()


def _download(columns: Sequence[Column], rows: Sequence[TableRow], label: str) -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([column.title for column in columns])
    writer.writerows([row.get(column.key, "") for column in columns] for row in rows)
    ui.download.content(file.getvalue().encode(), f"{label.lower()}.csv", "text/csv")
