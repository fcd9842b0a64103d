"""Tables that sort, filter, hide columns, and never break on a long text."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from nicegui import ui

from opsin.core.csv_cells import write_rows
from opsin.studio.ui.kit import action, icon_action, rooted
from opsin.studio.words import safe

_LONG: Final = 20
# Quasar's boxes have no names, and boxes in a slot would lose the focus with each click; its
# headings sort by the mouse alone.
_FOR_KEYS: Final = """
const table = document.getElementById("{}"), name = () => {{
  for (const box of table.querySelectorAll(".q-checkbox")) {{
    const row = box.closest("tbody tr");
    const text = row ? "Select " + row.children[1].innerText : "Select all";
    if (box.getAttribute("aria-label") !== text) box.setAttribute("aria-label", text);
  }}
  for (const heading of table.querySelectorAll("th.sortable")) heading.tabIndex = 0;
}};
new MutationObserver(name).observe(table, {{childList: true, subtree: true, characterData: true}});
table.addEventListener("keydown", ({{key, target}}) =>
  key === "Enter" && target.matches("th.sortable") && target.click());
name();
"""
_SORT: Final = "(a, b, x, y) => (x[{1}] ?? x[{0}]) > (y[{1}] ?? y[{0}]) ? 1 : -1"
#: A row's values by their headings, and its ``id``. A pair is what is shown, and what it is sorted
#: by. The first value is a link if there is an ``address``.
TableRow = Mapping[str, object]


def table(
    rows: Sequence[TableRow],
    label: str,
    *,
    hidden: Collection[str] = (),
    selection: bool = False,
    sort: str = "",
) -> ui.table:
    """A table of at least a row; long ones have a filter, pages and a choice of columns.

    Texts are to the left, numbers and pairs to the right.
    """
    titles = [title for title in rows[0] if title not in ("id", "address")]
    is_long = len(rows) > _LONG
    columns = []
    for title in titles:
        align = "left" if isinstance(rows[0][title], str) else "right"
        order = _SORT.format(json.dumps(title), json.dumps(f"{title}_sort"))
        names = dict.fromkeys(("name", "label", "field"), title)
        columns.append(names | {"sortable": True, "align": align, ":sort": order})
    first = {"sortBy": sort.lstrip("-") or None, "descending": sort.startswith("-")}

    def save() -> None:
        save_csv(label, [titles, *([row.get(title, "") for title in titles] for row in made.rows)])

    with ui.element("div").classes("stack"):
        tools = ui.element("div").classes("line")
        made = ui.table(
            columns=columns,
            rows=plain(rows),
            row_key="id",
            pagination={"rowsPerPage": 25 if is_long else 0} | first,
            selection="multiple" if selection else None,
        )
        made.classes("table").props(
            "flat dense wrap-cells hide-selected-banner" + " hide-pagination" * (not is_long)
        )
        made.props["aria-label"] = safe(label)
        made.props["visible-columns"] = [title for title in titles if title not in hidden]
        with tools:
            if is_long:
                search = ui.input(placeholder="Filter").props("clearable")
                search.props["aria-label"] = f"Filter: {safe(label)}"
                made.bind_filter_from(search, "value", backward=lambda value: value or "")
            if is_long or hidden:
                _choice_of_columns(made, titles, hidden)
            icon_action("table_view", "Save as CSV", save)
        ui.run_javascript(_FOR_KEYS.format(made.html_id))
        if "address" in rows[0]:
            root = rooted("/")[:-1]
            made.add_slot(
                f"body-cell-{titles[0]}",
                f"""<q-td :props="props">
                <a :href="'{root}' + props.row.address">{{{{ props.value }}}}</a></q-td>""",
            )
    return made


def _choice_of_columns(made: ui.table, titles: Sequence[str], hidden: Collection[str]) -> None:
    def show() -> None:
        made.props["visible-columns"] = [title for title, box in boxes.items() if box.value]
        made.update()

    with (
        action("Columns", lambda: None, icon="view_column").props("dense"),
        ui.menu().props("role=group"),
    ):
        boxes = {t: ui.checkbox(t, value=t not in hidden, on_change=show) for t in titles}


def plain(rows: Iterable[TableRow]) -> list[dict[str, object]]:
    """Rows as a browser gets them: texts are safe, and pairs taken apart."""
    made = list[dict[str, object]]()
    for row in rows:
        values = {
            key: value[0] if isinstance(value, tuple) else value for key, value in row.items()
        }
        order = {f"{key}_sort": v[1] for key, v in row.items() if isinstance(v, tuple)}
        made.append({k: safe(v) if isinstance(v, str) else v for k, v in values.items()} | order)
    return made


def save_csv(label: str, rows: Iterable[Iterable[object]]) -> None:
    """Let the browser save values as CSV, in which no spreadsheet finds formulas."""
    stream = io.StringIO(newline="")
    write_rows(stream, rows)
    ui.download.content(stream.getvalue().encode(), f"{file_name(label)}.csv", "text/csv")


def file_name(label: str) -> str:
    """The name of a file, without its ending, for what a label names."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in label).split()
    return "-".join(words[:8]).lower() or "table"
