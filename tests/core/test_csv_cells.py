"""Names that spreadsheets would run, in every CSV that Opsin writes, and read back unchanged."""

import csv
import io
from pathlib import Path
from typing import Any

from hypothesis import given, strategies as st

from opsin.commands.predict.rows import RowFormat, json_line
from opsin.core.csv_cells import read_row, write_rows

RUN = "=+-@\t\r"
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
RISKY = st.builds(lambda marks, sign, rest: marks + sign + rest,
                  st.text("'"), st.sampled_from(RUN), ANY)  # fmt: skip
CELLS = ANY | RISKY | st.sampled_from(["-", "'-", "''-", "'", "=", "'="])


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=1, max_size=6))
def test_what_was_written_is_read(rows: list[list[str]]) -> None:
    stream = io.StringIO(newline="")
    write_rows(stream, rows)
    cells = list(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    assert [read_row(row) for row in cells] == rows
    assert all(cell == "-" or cell[:1] not in tuple(RUN) for row in cells for cell in row)


def test_answers_are_no_formulas_and_their_figures_are_numbers() -> None:
    form = RowFormat(Path("answers.csv"), top=1)
    texts: dict[str, Any] = {"image": "=1.png", "answer": "+1", "label": "+1", "error": "@error"}
    figures = {"confidence": 0.9, "ood_score": -0.25, "rejected": False}
    row = {**texts, **figures, "top": [], "notes": ["-note"]}
    assert form.encode(json_line(row)) == b"'=1.png,'+1,'+1,0.9,-0.25,false,'-note,'@error\n"
