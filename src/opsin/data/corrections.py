"""The user's corrections of labels: a small table. The sources themselves are never changed."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from opsin.core.artifacts.records import CorrectionCounts
from opsin.core.csv_cells import write_rows
from opsin.core.errors import SourceError
from opsin.core.storage import atomic_file
from opsin.data.sources.table import fields

#: The label of an image to leave out; an empty cell means the same.
LEFT_OUT: Final = "-"
#: The columns that are written. ``label`` and one of the first two must be there to be read;
#: ``suggested`` and ``score`` are for people.
COLUMNS: Final = ("digest", "name", "label", "suggested", "score")
_DIGEST: Final = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")


class Correction(NamedTuple):
    """A row of a corrections file."""

    digest: str
    name: str
    label: str
    suggested: str = ""
    score: float = math.nan
    line: int = 0

    def __str__(self) -> str:
        return f"line {self.line:,} ({self.name or self.digest})"


@dataclass(frozen=True)
class Applied:
    """The corrections applied, and how many labels they changed."""

    rows: tuple[Correction, ...]
    counts: CorrectionCounts


def write_corrections(path: str | os.PathLike[str], rows: Iterable[Correction]) -> Path:
    """Write a corrections file: CSV (RFC 4180) for any spreadsheet or editor."""
    table: list[Sequence[str]] = [COLUMNS]
    for row in rows:
        score = "" if math.isnan(row.score) else f"{row.score:.4g}"
        table.append([*map(as_written, row[:4]), score])
    # Unquoted, leading blanks are lost, and a carriage return ends the row.
    quoted = any(text[:1].isspace() or "\r" in text for texts in table for text in texts)
    with (
        atomic_file(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        dialect: Any = {"quoting": csv.QUOTE_ALL} if quoted else {}
        write_rows(stream, table, lineterminator="\n", **dialect)
    return Path(path)


def with_earlier(rows: Sequence[Correction], earlier: Sequence[Correction]) -> list[Correction]:
    """Return new rows, followed by earlier ones about other images."""
    named = {(row.digest, row.name) for row in rows}
    return [*rows, *(row for row in earlier if (row.digest, row.name) not in named)]


def read_corrections(path: str | os.PathLike[str]) -> list[Correction]:
    """Read a corrections file: ``label``, and ``digest`` or ``name`` or both."""
    table = Path(os.path.expanduser(path))  # noqa: PTH111  never raises
    lines = fields(table)
    _, head = next(lines, (0, list[str]()))
    there = [name.lower() for name in head]
    if "label" not in there or not {"digest", "name"} & set(there):
        raise SourceError(
            f"{table} has the columns {', '.join(filter(None, head)) or '(none)'}; label, and "
            "digest or name, are expected",
            "Write such a file with: opsin report RUN --fix labels.csv",
        )
    twice = sorted({name for name in there if name in COLUMNS and there.count(name) > 1})
    if twice:
        raise SourceError(f"{table} has the column {', '.join(twice)} twice", "Rename one of them.")
    places = {name: there.index(name) for name in COLUMNS[:3] if name in there}
    corrections = []
    for line, row in lines:
        if not any(field.strip() for field in row):
            continue  # as spreadsheets leave them
        cell = {name: row[at] if at < len(row) else "" for name, at in places.items()}
        digest, name = cell.get("digest", "").strip().lower(), cell.get("name", "")
        where = f"Line {line:,} of {table}"
        if len(row) > len(head):
            raise SourceError(
                f"{where} has {len(row)} fields, and the header {len(head)}",
                'Put fields that hold the separator into quotes: "a, b".',
            )
        if digest and not _DIGEST.fullmatch(digest):
            raise SourceError(
                f"{where} has {digest!r:.70}, which is no digest of 32 or 64 hexadecimal digits",
                "Copy it whole, or leave it empty.",
            )
        if not digest and not name:
            raise SourceError(f"{where} has neither digest nor name", "Name the image.")
        corrections.append(Correction(digest[:32], name, cell["label"], line=line))
    return corrections


def as_written(text: str) -> str:
    """Return text as written to a file: bytes that are not Unicode are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
