"""What the table of runs shows, and its address."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypedDict
from urllib.parse import urlencode

from opsin.core.format import clock, counted, day, file_size, with_interval
from opsin.studio.parts.paging import page_number
from opsin.studio.runs.run_index import RunRow
from opsin.studio.words import safe

#: Rows of a page.
PER: Final = 25
#: What can be sorted by: the columns, and whether the largest comes first at the first click.
SORTS: Final[Mapping[str, bool]] = {
    "name": False,
    "state": False,
    "source": False,
    "model": False,
    "accuracy": True,
    "seconds": True,
    "started": True,
}
#: What a run's state can be.
STATES: Final = ("running", "done", "stopped", "failed", "damaged")
_USUAL: Final = "-started"
# Size of the small curve's drawing, in its own units, and its margin.
_WIDTH, _HEIGHT, _EDGE = 96.0, 24.0, 3.0


@dataclass(frozen=True)
class RunsView:
    """Which runs are shown, in which order, and which are ticked: all of it is in the address.

    Args:
        q: Words that must all be in a run's name, note, source or model.
        state: The only state that is shown; all where it is empty.
        sort: Column to sort by, with a minus for the largest first.
        page: Page, from 1.
        ticked: Numbers of the runs that are ticked, also those on other pages.

    Example:
        >>> RunsView(q="boots", page=2).address()
        '/?q=boots&page=2'
    """

    q: str = ""
    state: str = ""
    sort: str = _USUAL
    page: int = 1
    ticked: tuple[str, ...] = ()

    def address(self, **changes: Any) -> str:
        """Return the address of this view, or of one that differs in a few things."""
        view = replace(self, **changes)
        asked = {
            "q": view.q,
            "state": view.state,
            "sort": view.sort if view.sort != _USUAL else "",
            "page": str(view.page) if view.page > 1 else "",
            "tick": ",".join(view.ticked),
        }
        query = urlencode({key: value for key, value in asked.items() if value})
        return f"/?{query}" if query else "/"

    def sorted_by(self, column: str) -> RunsView:
        """Return the view that a click on a column's heading leads to."""
        largest = SORTS[column]
        if self.sort.removeprefix("-") == column:
            largest = not self.sort.startswith("-")
        return replace(self, sort=f"{'-' * largest}{column}", page=1)

    def choose(self, rows: Sequence[RunRow]) -> list[RunRow]:
        """Return the runs of all pages that are shown, in order."""
        words = self.q.casefold().split()
        found = [row for row in rows if self.state in {"", row.state} and _has(row, words)]
        column = self.sort.removeprefix("-")
        known = [row for row in found if _key(row, column) is not None]
        known.sort(key=lambda row: _key(row, column), reverse=self.sort.startswith("-"))
        # What has no such value comes last, whichever way the others are.
        return known + [row for row in found if _key(row, column) is None]

    def cut(self, rows: Sequence[RunRow]) -> tuple[list[RunRow], int]:
        """Return the rows of this page, and how many pages there are."""
        pages = max(1, math.ceil(len(rows) / PER))
        page = min(max(1, self.page), pages)
        return list(rows[(page - 1) * PER : page * PER]), pages


def view_of(
    q: str = "", state: str = "", sort: str = "", page: str = "", tick: str = ""
) -> RunsView:
    """Return the view that an address asks for; what it cannot mean is as if it were not there."""
    known = sort if sort.removeprefix("-") in SORTS else _USUAL
    ticked = [part for part in tick.split(",") if len(part) == 16][:100]
    state = state if state in STATES else ""
    return RunsView(q[:200], state, known, page_number(page), tuple(dict.fromkeys(ticked)))


class RunCells(TypedDict):
    """A run as the table shows it: plain text, nothing that a browser obeys."""

    id: str
    name: str
    whole: str
    note: str
    state: str
    cause: str
    bad: bool
    source: str
    model: str
    accuracy: str
    on: str
    points: str
    end: str
    curve: str
    seconds: str
    started: str
    brief: str


def cells(row: RunRow) -> RunCells:
    """Return what the table shows of a run."""
    known = row.accuracy is not None
    on = "" if not known or row.split != "val" else "validation, optimistic"
    took = "" if row.seconds is None else clock(row.seconds)
    brief = [row.source or "", row.model or "", took]
    return {
        "id": row.id,
        "name": safe(row.name, 80),
        "whole": safe(row.name, 500),
        "note": safe(row.note, 120),
        "state": row.state,
        "cause": safe(row.cause or "", 160),
        "bad": row.state in {"failed", "damaged"},
        "source": safe(row.source or "", 60),
        "model": safe(row.model or "", 40),
        "accuracy": with_interval(row.accuracy, row.low, row.high) if known else "",
        "on": " · ".join(part for part in (on, row.corrections) if part),
        "points": polyline(row.curve),
        "end": end_point(row.curve),
        "curve": curve_in_words(row.curve),
        "seconds": took,
        "started": day(row.started) if row.started else "",
        "brief": safe(" · ".join(part for part in brief if part), 120),
    }


def polyline(curve: Sequence[float]) -> str:
    """Return a small curve's points as SVG wants them, scaled to its own range.

    Example:
        >>> polyline((0.5, 0.75, 1.0))
        '3,21 48,12 93,3'
    """
    if len(curve) < 2:
        return ""
    return " ".join(f"{x:g},{y:g}" for x, y in _places(curve))


def end_point(curve: Sequence[float]) -> str:
    """Return the place of a curve's last point: two numbers, or nothing for a single point.

    Example:
        >>> end_point((0.5, 1.0))
        '93,3'
    """
    return "{:g},{:g}".format(*_places(curve)[-1]) if len(curve) > 1 else ""


def curve_in_words(curve: Sequence[float]) -> str:
    """Return what a small curve shows, for those who do not see it."""
    if len(curve) < 2:
        return ""
    best = max(curve)
    return f"Validation accuracy from {curve[0]:.4f} to {curve[-1]:.4f}, at best {best:.4f}"


def total(rows: Sequence[RunRow]) -> str:
    """Return how many runs there are and what they take on the disk."""
    one = counted(len(rows), "run takes", "runs take")
    return f"{one} {file_size(sum(row.disk_bytes for row in rows))}"


def _places(curve: Sequence[float]) -> list[tuple[float, float]]:
    low, high = min(curve), max(curve)
    wide, tall = _WIDTH - 2 * _EDGE, _HEIGHT - 2 * _EDGE
    steps = len(curve) - 1
    span = high - low or 1.0
    return [
        (round(_EDGE + wide * (place / steps), 1), round(_EDGE + tall * (high - value) / span, 1))
        for place, value in enumerate(curve)
    ]


def _has(row: RunRow, words: Sequence[str]) -> bool:
    text = f"{row.name}\n{row.folder}\n{row.note}\n{row.source}\n{row.model}".casefold()
    return all(word in text for word in words)


def _key(row: RunRow, column: str) -> Any:
    value = getattr(row, column)
    return value.casefold() if isinstance(value, str) else value
