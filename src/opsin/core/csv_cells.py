"""CSV cells that no spreadsheet takes for formulas.

A spreadsheet runs a cell as a formula if it begins with ``=``, ``+``, ``-``, ``@``, a tab or a
carriage return. Names of files and classes may begin so. They are written with an apostrophe in
front, which reading takes away again (OWASP, "CSV Injection").
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import Any, Final, TextIO

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
# Leaves an image out in a table of corrections; alone it is no formula.
_DASH: Final = "-"


def guard(text: str) -> str:
    """A cell's text, escaped so that no spreadsheet runs it."""
    return f"'{text}" if text != _DASH and _FORMULA.match(text) else text


def write_rows(stream: TextIO, rows: Iterable[Iterable[Any]], **dialect: Any) -> None:
    """Write rows as CSV (RFC 4180), their texts guarded; numbers stay numbers."""
    csv.writer(stream, **dialect).writerows(
        [guard(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )


def read_row(cells: Iterable[str]) -> list[str]:
    """A row that `csv.reader` read, as `write_rows` was given it."""
    return [cell[1:] if cell[:1] == "'" and _FORMULA.match(cell[1:]) else cell for cell in cells]
