"""What the table shows is what its address says."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from opsin.studio.parts.runs_view import PER, SORTS, STATES, RunsView, cells, view_of
from opsin.studio.runs.run_index import RunRow, opaque


def run(number: int = 0, **given: object) -> RunRow:
    row = RunRow(id=opaque(f"{number}"), folder=f"{number}", name=f"run {number}", state="done")
    return RunRow(**(vars(row) | given))


ROWS = st.lists(
    st.builds(
        run,
        st.integers(0, 1000),
        accuracy=st.none() | st.floats(0, 1),
        seconds=st.none() | st.floats(0, 1e6),
        sources=st.just(()) | st.tuples(st.text(max_size=5)),
        state=st.sampled_from(["done", "failed", "running"]),
    ),
    max_size=60,
)
SORTED = st.sampled_from([*SORTS, *(f"-{name}" for name in SORTS)])
TICKED = st.lists(st.text("0123456789abcdef", min_size=16, max_size=16), unique=True, max_size=5)


@given(st.text(max_size=30), st.sampled_from(["", "done"]), SORTED, st.integers(1, 9999), TICKED)
def test_an_address_leads_back_to_its_view(
    q: str, state: str, sort: str, page: int, ticked: list[str]
) -> None:
    if any(0xD800 <= ord(each) < 0xE000 for each in q):
        return  # no browser sends half a character
    view = RunsView(q, state, sort, page, tuple(ticked))
    asked = parse_qs(urlsplit(view.address()).query, keep_blank_values=True)
    again = view_of(**{key: values[0] for key, values in asked.items()})
    assert again == view


@given(st.text(), st.text(), st.text(), st.text(), st.text())
def test_any_address_is_some_view(q: str, state: str, sort: str, page: str, tick: str) -> None:
    view = view_of(q, state, sort, page, tick)
    assert view.sort.removeprefix("-") in SORTS
    assert view.page >= 1
    assert view.state in {"", *STATES}
    view.choose([run(1), run(2, accuracy=0.5)])


@given(ROWS, SORTED)
def test_the_unknown_comes_last_whichever_way_the_others_are(rows: list[RunRow], sort: str) -> None:
    column = sort.removeprefix("-")
    chosen = RunsView(sort=sort).choose(rows)
    assert sorted(map(id, chosen)) == sorted(map(id, rows))
    values = [getattr(row, column) for row in chosen]
    known = [value for value in values if value is not None]
    assert values == known + [None] * (len(values) - len(known))
    if known and not isinstance(known[0], str):
        assert known == sorted(known, reverse=sort.startswith("-"))


@given(ROWS)
def test_pages_hold_each_run_once(rows: list[RunRow]) -> None:
    _, pages = RunsView().cut(rows)
    found = [row for page in range(1, pages + 1) for row in RunsView(page=page).cut(rows)[0]]
    assert found == rows
    assert RunsView(page=10_000).cut(rows)[0] == RunsView(page=pages).cut(rows)[0]
    assert all(len(RunsView(page=page).cut(rows)[0]) <= PER for page in range(1, pages + 1))


def test_all_words_must_be_there() -> None:
    rows = [
        run(1, sources=("boots",), model="cnn"),
        run(2, sources=("boots",), note="a CNN, again"),
    ]
    assert RunsView(q="CNN boots").choose(rows) == rows
    assert RunsView(q="again").choose(rows) == rows[1:]
    assert RunsView(state="failed").choose(rows) == []


def test_a_first_click_shows_the_best_and_a_second_turns_it_round() -> None:
    view = RunsView(page=3).sorted_by("accuracy")
    assert (view.sort, view.page) == ("-accuracy", 1)
    assert view.sorted_by("accuracy").sort == "accuracy"
    assert view.sorted_by("name").sort == "name"


def test_cells_are_plain_text_with_intervals() -> None:
    row = run(1, accuracy=0.9214, low=0.916, high=0.9266, split="val", note="x" * 10_000,
              name="\u202e<b>{{7*7}}", curve=(0.5, 1.0), seconds=72.0)  # fmt: skip
    shown = cells(row)
    assert shown["accuracy"] == "0.9214 ± 0.0054"
    assert shown["on"] == "validation, optimistic"
    assert shown["seconds"] == "1:12"
    assert len(shown["note"]) <= 130
    assert "\u202e" not in shown["name"]
    assert shown["points"] == "3,21 93,3"
    assert shown["curve"] == "Validation accuracy from 0.5000 to 1.0000, at best 1.0000"
    assert not any(isinstance(value, list | tuple | dict) for value in shown.values())
    assert cells(run(2, curve=(0.5,)))["points"] == ""
