"""Rows come back from every format as they were written."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from opsin.commands.predict.answers_file import Answer
from opsin.commands.predict.rows import RowFormat, flat, json_line, row_of
from opsin.core.csv_cells import read_row
from opsin.core.errors import ImageError
from opsin.runtime.prediction import Prediction

# What a file's name can hold: any character, and bytes that are no UTF-8.
NAMES = st.one_of(
    st.text(min_size=1),
    st.text(st.sampled_from('\n\r",;\t\x85\u2028 \\üa'), min_size=1),
    st.binary(min_size=1).map(lambda name: name.decode("utf-8", "surrogateescape")),
)
WORDS = st.text(min_size=1)
SHARES = st.floats(0, 1, width=32)
ROWS = st.one_of(
    st.fixed_dictionaries({
        "image": NAMES,
        "answer": WORDS,
        "label": WORDS,
        "confidence": SHARES,
        "ood_score": st.none() | SHARES,
        "rejected": st.booleans(),
        "top": st.lists(
            st.fixed_dictionaries({"label": WORDS, "probability": SHARES}), max_size=3
        ),
        "notes": st.lists(WORDS, max_size=2),
        "error": st.none(),
    }),
    st.builds(
        lambda name, why: row_of(name, ImageError(why, ""), 3, reject=True), NAMES, WORDS
    ),
)  # fmt: skip


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
        return float(field) if kinds[name] == "float" else read_row([field])[0]

    return [{name: value(name, field) for name, field in row.items()} for row in values]


@given(st.lists(ROWS, max_size=4))
def test_lines_of_json_come_back(rows: list[Any]) -> None:
    form = RowFormat(Path("r.jsonl"), top=3)
    content = b"".join(form.encode(json_line(row)) for row in rows)
    text = content.decode("utf-8")  # the file is UTF-8 whatever the names
    assert [json.loads(line) for line in text.splitlines()] == rows


@given(st.lists(ROWS, max_size=4))
def test_tables_come_back(rows: list[Any]) -> None:
    form = RowFormat(Path("r.CSV"), top=3)
    heading = (",".join(form.columns) + "\n").encode()
    lines = [form.encode(json_line(row)) for row in rows]
    wanted = [flat(json.loads(json_line(row)), 3) for row in rows]
    assert read_back(form, heading + b"".join(lines)) == wanted


def test_numbers_are_short_and_lose_nothing() -> None:
    shares = {"Bag": float(np.float32(0.9)), "Coat": float(np.float32(0.1))}
    answer = Prediction("a.png", "Bag", shares["Bag"], shares, float("nan"), rejected=True)
    row = row_of("a.png", answer, 1, reject=True)
    assert (row["answer"], row["label"], row["confidence"]) == ("none of these", "Bag", 0.9)
    assert row["top"] == [{"label": "Bag", "probability": 0.9}]
    assert row["ood_score"] is None  # no number: JSON has none for it
    assert row_of("a.png", answer, 2, reject=False)["answer"] == "Bag"
    failed = row_of("x/b.png", ImageError("x/b.png: cut off", "Mend."), 2, reject=True)
    assert (failed["image"], failed["answer"], failed["error"]) == ("x/b.png", None, "cut off")
    assert list(failed) == list(row)


def test_a_parquet_file_is_made_of_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("opsin.commands.predict.rows._GROUP", 7)
    out = tmp_path / "r.parquet"
    form = RowFormat(out, top=2)
    answers = [Prediction(f"{n}", "Bag", n / 32, {"Bag": n / 32, "Coat": 0}) for n in range(20)]
    rows = [row_of(answer.name, answer, 2, reject=True) for answer in answers]
    rows.append(row_of("bad \udcff\n.png", ImageError("no image", ""), 2, reject=True))
    rows.append(rows[0] | {"notes": ["one", "two"]})
    form.write(out, lambda: iter([Answer("", 0, json_line(row)) for row in rows]))
    table = parquet.read_table(out)
    assert table.column_names == list(form.columns)
    assert table.num_rows == 22
    assert parquet.read_metadata(out).num_row_groups == 4
    assert table["confidence"].to_pylist()[:20] == [n / 32 for n in range(20)]
    last, noted = table.to_pylist()[-2:]
    assert last["image"] == "bad \\udcff\n.png"  # Arrow takes UTF-8 only
    assert (last["answer"], last["error"]) == (None, "no image")
    assert noted["notes"] == "one; two"
