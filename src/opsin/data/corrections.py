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

#: What stands for the class of an image that is to be left out; an empty cell does too.
LEFT_OUT: Final = "-"
#: The columns that are written, ``present`` where a row states it. Of those, ``label`` and one of
#: the first two must be there to be read; ``suggested`` and ``score`` are for people.
COLUMNS: Final = ("digest", "name", "present", "label", "suggested", "score")
_DIGEST: Final = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")


class Correction(NamedTuple):
    """A row of a corrections file."""

    digest: str
    name: str
    label: str
    suggested: str = ""
    score: float = math.nan
    line: int = 0
    present: str = ""

    def __str__(self) -> str:
        return f"line {self.line:,} ({self.name or self.digest})"


@dataclass(frozen=True)
class Applied:
    """What corrections have done."""

    file: str
    rows: tuple[Correction, ...]
    relabelled: int
    left_out: int
    by_name: int

    @property
    def words(self) -> str:
        """What was done, in words: ``3 relabelled, 1 left out``."""
        return f"{self.relabelled:,} relabelled, {self.left_out:,} left out"

    def counts(self) -> CorrectionCounts:
        """Return the file and how many of each, as a run's ``dataset.json`` keeps it."""
        return CorrectionCounts(**vars(self) | {"rows": len(self.rows)})


def write_corrections(path: str | os.PathLike[str], rows: Iterable[Correction]) -> Path:
    """Write a corrections file, ready to be edited with any spreadsheet or editor (RFC 4180)."""
    rows = list(rows)
    columns = [name for name in COLUMNS if name != "present" or any(row.present for row in rows)]
    table: list[Sequence[str]] = [columns]
    for row in rows:
        score = "" if math.isnan(row.score) else f"{row.score:.4g}"
        texts = row._asdict() | {"score": score}
        table.append([as_written(texts[name]) for name in columns])
    # Without quotes a blank at the beginning is lost, and a carriage return ends the row.
    quoted = any(text[:1].isspace() or "\r" in text for texts in table for text in texts)
    with (
        atomic_file(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        dialect: Any = {"quoting": csv.QUOTE_ALL} if quoted else {}
        write_rows(stream, table, lineterminator="\n", **dialect)
    return Path(path)


def with_earlier(rows: Iterable[Correction], earlier: Sequence[Correction]) -> list[Correction]:
    """Return rows about images as corrections left them, and those corrections behind them."""
    touched = {text for row in earlier for text in (row.digest, row.name)} - {""}
    stated = [row._replace(present="") if {row.digest, row.name} & touched else row for row in rows]
    named = {(row.digest, row.name) for row in stated}
    return stated + [row for row in earlier if (row.digest, row.name) not in named]


def read_corrections(path: str | os.PathLike[str]) -> list[Correction]:
    """Read a corrections file: ``label``, and ``digest`` or ``name`` or both."""
    table = Path(os.path.expanduser(path))  # noqa: PTH111  never raises
    lines = fields(table)
    _, head = next(lines, (0, list[str]()))
    there = [name.lower() for name in head]
    if "label" not in there or not {"digest", "name"} & set(there):
        raise SourceError(
            "the columns digest, name and label (label, and one of the others, at least)",
            f"{table} has {', '.join(filter(None, head)) or 'none'}",
            "Write such a file with: opsin report RUN --fix labels.csv",
        )
    twice = sorted({name for name in there if name in COLUMNS and there.count(name) > 1})
    if twice:
        raise SourceError(
            "each column once", f"{table} has {', '.join(twice)} twice", "Rename one of them."
        )
    places = {name: there.index(name) for name in COLUMNS[:4] if name in there}
    found = []
    for line, row in lines:
        if not any(field.strip() for field in row):
            continue  # as spreadsheets leave them
        cell = {name: row[at] if at < len(row) else "" for name, at in places.items()}
        digest, name = cell.get("digest", "").strip().lower(), cell.get("name", "")
        wrong = None
        if len(row) > len(head):
            wrong = (f"{len(head)} fields as in the header", f"has {len(row)}",
                     'Put fields that hold the separator into quotes: "a, b".')  # fmt: skip
        elif digest and not _DIGEST.fullmatch(digest):
            wrong = ("a digest of 32 or 64 hexadecimal digits", f"has {digest!r:.70}",
                     "Copy it whole, or leave it empty.")  # fmt: skip
        elif not digest and not name:
            wrong = ("a digest or a name", "has neither", "Name the image, or drop the line.")
        if wrong:
            expected, received, advice = wrong
            raise SourceError(
                f"{expected} in each line", f"line {line:,} of {table} {received}", advice
            )
        found.append(
            Correction(digest[:32], name, cell["label"], line=line, present=cell.get("present", ""))
        )
    return found


def as_written(text: str) -> str:
    """Return text as it stands in a file: bytes of names that are no Unicode are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
