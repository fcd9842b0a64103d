"""Rows come back from every format as they were written; conditions keep those they name."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.commands.predict.answers_file import Answer
from opsin.commands.predict.rows import ResultRow, RowFormat, Selection, flat, row_of
from opsin.core.csv_cells import unguard
from opsin.core.errors import ImageError, RecipeError
from opsin.runtime.prediction import Prediction

# What a file's name can hold: any character, and bytes that are no UTF-8.
NAMES = st.one_of(
    st.text(min_size=1),
    st.text(st.sampled_from('\n\r",;\t\x85\u2028 \\üa'), min_size=1),
    st.binary(min_size=1).map(lambda name: name.decode("utf-8", "surrogateescape")),
)
SHARES = st.floats(0, 1, width=32)
ROWS = st.one_of(
    st.builds(
        ResultRow,
        image=NAMES,
        answer=st.text(min_size=1),
        label=st.text(min_size=1),
        confidence=SHARES,
        ood_score=st.none() | SHARES,
        rejected=st.booleans(),
        top=st.lists(st.tuples(st.text(min_size=1), SHARES), max_size=3).map(tuple),
        notes=st.lists(st.text(min_size=1), max_size=2).map(tuple),
    ),
    st.builds(ResultRow, image=NAMES, error=st.text(min_size=1)),
)


def read_back(form: RowFormat, content: bytes) -> list[dict[str, Any]]:
    """Read a CSV file as any reader would, and turn its texts into values, formulas into text."""
    text = content.decode("utf-8", "surrogateescape")
    values = list(csv.DictReader(io.StringIO(text, newline="")))
    kinds = form.columns

    def value(name: str, field: str) -> Any:
        if field == "":
            return None
        if kinds[name] == "bool":
            return {"true": True, "false": False}[field]
        return float(field) if kinds[name] == "float" else unguard(field)

    return [{name: value(name, field) for name, field in row.items()} for row in values]


@given(st.lists(ROWS, max_size=4))
def test_lines_of_json_come_back(rows: list[ResultRow]) -> None:
    form = RowFormat(Path("r.jsonl"), top=3)
    content = b"".join(form.encode(row.to_json_line()) for row in rows)
    text = content.decode("utf-8")  # the file is UTF-8 whatever the names
    assert len(text.splitlines()) == len(rows)
    for row, line in zip(rows, text.splitlines(), strict=True):
        found = json.loads(line)
        top = [(entry["label"], entry["probability"]) for entry in found.pop("top")]
        assert (top, tuple(found.pop("notes"))) == (list(row.top), row.notes)
        assert found == {name: getattr(row, name) for name in found}
        assert len(found) == 7


@given(st.lists(ROWS, max_size=4))
def test_tables_come_back(rows: list[ResultRow]) -> None:
    form = RowFormat(Path("r.CSV"), top=3)
    heading = (",".join(form.columns) + "\n").encode()
    lines = [form.encode(row.to_json_line()) for row in rows]
    wanted = [flat(json.loads(row.to_json_line()), 3) for row in rows]
    assert read_back(form, heading + b"".join(lines)) == wanted


def test_numbers_are_short_and_lose_nothing() -> None:
    shares = {"Bag": float(np.float32(0.9)), "Coat": float(np.float32(0.1))}
    answer = Prediction("a.png", "Bag", shares["Bag"], shares, float("nan"), rejected=True)
    row = row_of("a.png", answer, 1)
    assert (row.answer, row.label, row.confidence) == ("none of these", "Bag", 0.9)
    assert np.float32(row.confidence) == np.float32(0.9)
    assert row.top == (("Bag", 0.9),)
    assert row.ood_score is None  # no number: JSON has none for it
    given_anyway = row_of("a.png", answer, 2, reject=False)
    assert (given_anyway.answer, given_anyway.rejected) == ("Bag", False)
    failed = row_of("x/b.png", ImageError("x/b.png: cut off", "Mend."), 2)
    assert failed == ResultRow("x/b.png", error="cut off")


def test_other_endings_are_refused() -> None:
    for name in ("r.json", "r", "", "jsonl"):
        with pytest.raises(RecipeError, match=r"\.jsonl, \.csv, \.parquet"):
            RowFormat(Path(name), 5)


def test_a_parquet_file_is_made_of_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("opsin.commands.predict.rows._GROUP", 7)
    out = tmp_path / "r.parquet"
    form = RowFormat(out, top=2)
    rows = [
        ResultRow(f"{n}.png", "Bag", "Bag", n / 32, None, False, (("Bag", n / 32), ("Coat", 0.0)))
        for n in range(20)
    ]
    rows += [ResultRow("bad \udcff\n.png", error="no image"), ResultRow("n", notes=("one", "two"))]
    form.write(out, lambda: iter([Answer(r.image, 0, r.to_json_line()) for r in rows]))
    table = parquet.read_table(out)
    assert table.column_names == list(form.columns)
    assert table.num_rows == 22
    assert parquet.read_metadata(out).num_row_groups == 4
    assert table["confidence"].to_pylist()[:20] == [n / 32 for n in range(20)]
    last, noted = table.to_pylist()[-2:]
    assert last["image"] == "bad \\udcff\n.png"  # Arrow takes UTF-8 only
    assert (last["answer"], last["error"]) == (None, "no image")
    assert noted["notes"] == "one; two"


CLASSES = ("Bag", "Coat", "a=b")
SURE = ResultRow("1", "Bag", "Bag", 0.9)
STRANGE = ResultRow("2", "none of these", "Bag", 0.95)
UNSURE = ResultRow("3", "Coat", "Coat", 0.4)
ODD = ResultRow("4", "a=b", "a=b", 0.7)
BROKEN = ResultRow("5", error="no image")
ANY = (SURE, STRANGE, UNSURE, ODD, BROKEN)


def kept(*where: str, least: float = 0.0) -> str:
    wanted = Selection(where, least, CLASSES)
    return "".join(row.image for row in ANY if wanted.keeps(row))


def test_each_condition_keeps_what_it_names() -> None:
    assert kept() == "12345"
    assert kept("label=Bag") == "12"
    assert kept("answer=Bag") == "1"
    assert kept("answer=none of these") == "2"
    assert kept("answer=unreadable") == "5"
    assert kept("label=a=b") == "4"
    assert kept("label=Bag", "label=Coat") == "123"
    assert kept("label=Bag", "answer=Bag", "answer=Coat") == "1"
    assert kept(least=0.7) == "1245"  # a broken file has no confidence to be too low
    assert kept("label=Coat", least=0.7) == ""
    assert Selection("label=Bag", 0, CLASSES).where == ["label=Bag"]  # one may come by itself


@pytest.mark.parametrize(
    "condition", ["label=Bog", "label=unreadable", "label", "class=Bag", "", "answer=none"]
)
def test_conditions_that_cannot_work_are_refused(condition: str) -> None:
    with pytest.raises(RecipeError):
        Selection([condition], 0, CLASSES)


def test_what_never_is_answered_cannot_be_asked_for() -> None:
    with pytest.raises(RecipeError, match="answer= must be one of"):
        Selection(["answer=none of these"], 0, CLASSES, rejects=False)
    for least in (-0.1, 1.1, float("nan")):
        with pytest.raises(RecipeError, match="must be 0 to 1"):
            Selection([], least, CLASSES)
