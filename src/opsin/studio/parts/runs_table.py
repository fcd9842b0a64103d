"""The table of runs: filter, sort, tick, compare."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NotRequired, TypedDict

from nicegui import events, ui
from nicegui.element import Element

from opsin.core.format import count
from opsin.studio.parts import terms
from opsin.studio.parts.runs_view import PER, STATES, RunCells, RunsView, cells
from opsin.studio.runs.run_index import RunRow

CSS: Final = """
.op-runs { border: 1px solid var(--line); border-radius: .7rem; overflow-x: auto;
  max-width: 100%; margin: 0 0 .6rem; padding: 0 .5rem; }
.op-runs table { border-collapse: collapse; width: 100%; font-size: .94rem;
  font-variant-numeric: tabular-nums; }
.op-runs th, .op-runs td { padding: .5rem .55rem; text-align: left; vertical-align: top;
  font-weight: 400; white-space: nowrap; }
.op-runs thead th { color: var(--muted); }
.op-runs tbody tr > * { border-top: 1px solid var(--line); }
.op-runs thead a { color: inherit; text-decoration: none; white-space: nowrap; }
.op-runs thead a:hover, .op-runs th[aria-sort] a { color: var(--ink); text-decoration: underline; }
.op-runs .op-number { text-align: right; }
.op-runs .op-run-tick { width: 1.4rem; padding-right: .2rem; }
.op-runs .op-run-tick input { width: 1.05rem; height: 1.05rem; margin: .2rem 0 0;
  color-scheme: light dark; accent-color: var(--accent); }
.op-runs tr.op-ticked > * { background: var(--right-soft); }
.op-runs .op-run-name { white-space: normal; overflow-wrap: anywhere; min-width: 9rem;
  max-width: 26rem; }
.op-runs .op-run-name a { font-weight: 600; text-decoration: none; }
.op-runs .op-run-name a:hover { text-decoration: underline; }
.op-runs .op-run-text { white-space: normal; overflow-wrap: anywhere; min-width: 7.5rem;
  max-width: 13rem; }
.op-runs small { display: block; color: var(--muted); line-height: 1.35; font-size: .84rem; }
.op-runs small.op-wrong { color: var(--wrong); }
.op-runs svg { display: block; width: 96px; height: 24px; }
.op-runs polyline { fill: none; stroke: var(--right); stroke-width: 1.6; }
.op-runs circle { fill: var(--right); }
.op-state { white-space: nowrap; }
.op-state::before { content: ""; display: inline-block; width: .55em; height: .55em;
  margin-right: .45em; border-radius: 50%; background: var(--muted); vertical-align: .05em; }
.op-state-running::before, .op-state-pausing::before, .op-state-stopping::before {
  background: var(--accent); }
.op-state-done::before { background: var(--ink); }
.op-state-failed::before, .op-state-damaged::before { background: var(--wrong); }
.op-state-waiting::before, .op-state-held::before, .op-state-paused::before,
.op-state-stopped::before { background: none; box-shadow: inset 0 0 0 .12em var(--muted); }
.op-runs .op-narrow { display: none; }
@media (max-width: 62rem) { .op-runs .op-middle { display: none; } }
@media (max-width: 44rem) { .op-runs { padding: 0 .1rem; } .op-runs .op-broad { display: none; }
  .op-runs .op-narrow { display: block; } .op-runs th, .op-runs td { padding: .5rem .35rem; } }
.op-pages { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: baseline;
  margin: .6rem 0 1.2rem; }
.op-find { display: flex; flex-wrap: wrap; gap: .6rem; align-items: flex-end; margin: 0 0 .8rem; }
.op-find .q-field { min-width: 9rem; }
.op-find > .op-find-text { flex: 1 1 14rem; max-width: 26rem; }
"""

#: Name, heading and classes of each column.
_COLUMNS: Final = (
    ("name", "Run", ""),
    ("state", "State", "op-broad"),
    ("source", "Source", "op-broad op-middle"),
    ("model", "Model", "op-broad op-middle"),
    ("accuracy", "Accuracy", "op-number"),
    ("curve", "Curve", "op-broad"),
    ("seconds", "Time", "op-broad op-middle op-number"),
    ("started", "Date", "op-broad op-number"),
)


class _Column(TypedDict):
    """A column's heading, classes (``kind``) and term; ``sorted`` is for those who do not see."""

    name: str
    label: str
    kind: str
    term: str
    href: NotRequired[str]
    sorted: NotRequired[str]
    arrow: NotRequired[str]


class _Table(Element, component="runs_table.js"):
    """The rows, as one element; emits ``tick`` with the numbers that were ticked or unticked."""


class RunsTable:
    """The table of runs with its filter, its pages and what can be done with those ticked.

    Args:
        rows: All runs.
        view: Which of them are shown at first.
        delete: Is given the numbers of the ticked runs that are to be deleted.
    """

    def __init__(
        self, rows: Sequence[RunRow], view: RunsView, delete: Callable[[list[str]], Awaitable[None]]
    ) -> None:
        self._rows, self._view, self._delete = list(rows), view, delete
        self._shown: list[RunCells] = []
        # The controls around the rows: rebuilt only for another view, since they may be in use.
        self._around: tuple[object, ...] = ()
        with ui.element("div").classes("op-find").props('role="search"'):
            find = ui.input(
                "Search by name, source, model or note", value=view.q, on_change=self._find
            )
            find.classes("op-find-text").props("dense outlined debounce=300 clearable")
            choices = {"": "All states"} | {state: state for state in STATES}
            state = ui.select(
                choices, value=view.state, label="State", on_change=self._choose_state
            )
            state.props("dense outlined options-dense")
        self._actions = ui.element("div").classes("op-actions").props('role="status"')
        self._table = _Table()
        self._table.on("tick", self._tick)
        self._none = ui.label("No run matches these filters.").classes("op-muted")
        self._pages = ui.element("nav").classes("op-pages").props('aria-label="Pages of the table"')
        self._show()

    def show(self, rows: Sequence[RunRow]) -> None:
        """Show these runs from now on, filtered and sorted as before."""
        self._rows = list(rows)
        there = {row.id for row in rows}
        ticked = tuple(id_ for id_ in self._view.ticked if id_ in there)
        self._change(replace(self._view, ticked=ticked))

    def _find(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self._change(replace(self._view, q=str(event.value or "")[:200], page=1))

    def _choose_state(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self._change(replace(self._view, state=str(event.value or ""), page=1))

    def _tick(self, event: events.GenericEventArguments) -> None:
        """Tick or untick; a browser may only name runs of this page."""
        asked = event.args.get("ids") if isinstance(event.args, dict) else None
        here = [row["id"] for row in self._shown]
        named = [id_ for id_ in here if isinstance(asked, list) and id_ in asked]
        others = [id_ for id_ in self._view.ticked if id_ not in named]
        on = bool(asked) and event.args.get("on") is True
        self._change(replace(self._view, ticked=(*others, *(named if on else ()))))

    def _untick(self) -> None:
        self._change(replace(self._view, ticked=()))

    def _change(self, view: RunsView) -> None:
        """Show another view, and let the address say so: a reload shows the same again."""
        if view != self._view:
            self._view = view
            ui.navigate.history.replace(view.address())
        self._show()

    def _show(self) -> None:
        view = self._view
        chosen = view.choose(self._rows)
        rows, pages = view.cut(chosen)
        self._shown = [cells(row) for row in rows]
        props = {
            "columns": [_column(view, *column) for column in _COLUMNS],
            "rows": self._shown,
            "ticked": list(view.ticked),
        }
        if any(self._table._props.get(key) != value for key, value in props.items()):
            self._table._props.update(props)
            self._table.update()
        self._table.set_visibility(bool(rows))
        self._none.set_visibility(not rows)
        told = (view, len(chosen), pages)
        if told != self._around:
            self._around = told
            self._tell_pages(len(chosen), pages)
            self._tell_actions()

    def _tell_pages(self, found: int, pages: int) -> None:
        self._pages.clear()
        view = replace(self._view, page=min(self._view.page, pages))
        first = (view.page - 1) * PER
        with self._pages:
            last = min(first + PER, found)
            # Few enough to be counted at a glance.
            if found > PER:
                ui.label(f"{count(first + 1)}–{count(last)} of {count(found)}").classes("op-muted")
            if view.page > 1:
                ui.link("Previous", view.address(page=view.page - 1))
            if view.page < pages:
                ui.link("Next", view.address(page=view.page + 1))
        self._pages.set_visibility(found > PER)

    def _tell_actions(self) -> None:
        self._actions.clear()
        ticked = list(self._view.ticked)
        self._actions.set_visibility(bool(ticked))
        if not ticked:
            return
        with self._actions:
            ui.label(f"{count(len(ticked))} ticked").classes("op-muted")
            if len(ticked) > 1:
                ui.link("Compare", f"/compare?runs={','.join(ticked)}").classes("op-button")
            else:
                ui.label("Select another run to compare.").classes("op-muted")
            ui.button("Delete", on_click=lambda: self._delete(ticked)).props("outline")
            ui.button("Untick", on_click=self._untick).props("flat")


def _column(view: RunsView, name: str, label: str, kind: str) -> _Column:
    column = _Column(name=name, label=label, kind=kind, term=terms.keys([label])[0])
    if name != "curve":
        column["href"] = view.sorted_by(name).address()
        if view.sort.removeprefix("-") == name:
            down = view.sort.startswith("-")
            column["sorted"] = "descending" if down else "ascending"
            column["arrow"] = " ↓" if down else " ↑"
    return column
