"""Rows of answers in JSON, CSV or Parquet, and their selection."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from opsin.core.csv_cells import guard
from opsin.core.errors import ImageError, MissingExtraError, RecipeError
from opsin.core.stored_json import json_text
from opsin.data.spelling import closest_first
from opsin.runtime.prediction import NONE_OF_THESE, Prediction

if TYPE_CHECKING:
    from opsin.commands.predict.answers_file import Rows

Cell = str | float | bool | None

_FORMS: Final = ("jsonl", "csv", "parquet")
#: The answer for an unreadable image.
UNREADABLE: Final = "unreadable"
# Rows of a group in a Parquet file.
_GROUP: Final = 10_000
# Ends of lines to some readers, though not to JSON.
_LINES: Final = re.compile("[\x85\u2028\u2029]")


@dataclass(frozen=True)
class ResultRow:
    """The row of one image; `error` says in one line why it cannot be read."""

    image: str
    answer: str | None = None
    label: str | None = None
    confidence: float | None = None
    ood_score: float | None = None
    rejected: bool | None = None
    top: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None

    def to_json_line(self) -> bytes:
        """Return the row as JSON, without a line end; bytes that are not Unicode are escaped."""
        top = [{"label": label, "probability": share} for label, share in self.top]
        text = json_text({**vars(self), "top": top, "notes": list(self.notes)})
        text = _LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        return text.encode("utf-8", "backslashreplace")


def row_of(
    name: str, answer: Prediction | ImageError, top: int, *, reject: bool = True
) -> ResultRow:
    """Return an answer's row with the ``top`` classes; without ``reject`` none is refused."""
    if isinstance(answer, ImageError):
        return ResultRow(name, error=reason_of(name, answer))
    answer = answer if reject else replace(answer, rejected=False)
    return ResultRow(
        name,
        answer.answer,
        answer.label,
        _short(answer.confidence),
        _short(answer.ood_score),
        answer.rejected,
        tuple((label, _short(share) or 0.0) for label, share in answer.top(top)),
        answer.notes,
    )


def reason_of(name: str, error: ImageError) -> str:
    """Return why an image cannot be read, without its name."""
    _, prefix, reason = error.message.partition(f"{name}: ")
    return reason if prefix else error.message


def _short(value: float | None) -> float | None:
    """The shortest number that is the same ``float32``: 0.9 for 0.8999999761581421."""
    return None if value is None or not math.isfinite(value) else float(str(np.float32(value)))


class Selection:
    """Conditions on rows (``label=Bag``): those on one key are ORed, on different keys ANDed."""

    def __init__(
        self,
        where: Sequence[str],
        min_confidence: float,
        classes: Sequence[str],
        *,
        rejects: bool = True,
    ) -> None:
        if not 0 <= min_confidence <= 1:
            raise RecipeError(f"--min-confidence must be 0 to 1, not {min_confidence}")
        self.min_confidence = min_confidence
        none_of_these = [NONE_OF_THESE] if rejects else []
        known = {"label": [*classes], "answer": [*classes, *none_of_these, UNREADABLE]}
        self._wanted: dict[str, set[str]] = {}
        for condition in (where,) if isinstance(where, str) else where:
            key, _, value = condition.partition("=")
            if "=" not in condition or key not in known:
                raise RecipeError(f"{condition!r} is no condition label=CLASS or answer=CLASS")
            if value not in known[key]:
                choices = closest_first(known[key], value)
                raise RecipeError(f"{key}= must be one of {choices}, not {value!r}")
            self._wanted.setdefault(key, set()).add(value)
        #: The conditions in one order, however they were given.
        self.where = sorted(f"{key}={v}" for key, values in self._wanted.items() for v in values)

    def keeps(self, row: ResultRow) -> bool:
        """Whether a row is wanted."""
        if row.confidence is not None and row.confidence < self.min_confidence:
            return False
        answer = row.answer if row.error is None else UNREADABLE
        values = {"label": row.label, "answer": answer}
        return all(values[key] in wanted for key, wanted in self._wanted.items())


class RowFormat:
    """The format of rows in a file, by its ending."""

    def __init__(self, out: Path, top: int) -> None:
        form = out.suffix.lower().removeprefix(".")
        if form not in _FORMS:
            raise RecipeError(f"{out} does not end in .{', .'.join(_FORMS)}")
        self.out, self.form, self.top = out, form, top
        # The columns of a table, with the names of Arrow's types.
        self.columns = {
            "image": "string", "answer": "string", "label": "string", "confidence": "float",
            "ood_score": "float", "rejected": "bool",
        }  # fmt: skip
        for rank in range(2, top + 1):
            self.columns |= {f"label_{rank}": "string", f"probability_{rank}": "float"}
        self.columns |= {"notes": "string", "error": "string"}
        if form == "parquet":
            load_pyarrow()

    def encode(self, line: bytes) -> bytes:
        """Return a row of the file from its stored line of JSON."""
        if self.form == "jsonl":
            return line + b"\n"
        fields = flat(json.loads(line), self.top)
        text = ",".join(_field(fields[name]) for name in self.columns) + "\n"
        try:  # a name that is no Unicode keeps its bytes
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half a surrogate pair, which no file's name can hold
            return text.encode("utf-8", "backslashreplace")

    def write(self, file: Path, rows: Rows) -> None:
        """Write a whole new file from rows whose lines are JSON."""
        lines = (row.line or b"" for row in rows())
        if self.form == "parquet":
            self._write_parquet(file, lines)
            return
        with file.open("wb") as stream:
            if self.form == "csv":
                stream.write((",".join(self.columns) + "\n").encode())
            for line in lines:
                stream.write(self.encode(line))

    def _write_parquet(self, file: Path, lines: Iterator[bytes]) -> None:
        arrow, parquet = load_pyarrow()
        kinds = {"string": arrow.string(), "float": arrow.float32(), "bool": arrow.bool_()}
        schema = arrow.schema([(name, kinds[kind]) for name, kind in self.columns.items()])

        def cells(line: bytes) -> dict[str, Cell]:
            # Bytes that are no Unicode become visible escapes.
            return {
                name: cell.encode("utf-8", "backslashreplace").decode()
                if isinstance(cell, str)
                else cell
                for name, cell in flat(json.loads(line), self.top).items()
            }

        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            while group := [cells(line) for line in islice(lines, _GROUP)]:
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def flat(row: Mapping[str, Any], top: int) -> dict[str, Cell]:
    """Flatten a row of JSON into the columns of a table."""
    fields = {name: value for name, value in row.items() if name != "top"}
    for rank in range(2, top + 1):
        best = row["top"][rank - 1] if rank <= len(row["top"]) else {}
        fields[f"label_{rank}"] = best.get("label")
        fields[f"probability_{rank}"] = best.get("probability")
    fields["notes"] = "; ".join(row["notes"]) or None
    return fields


def _field(value: Cell) -> str:
    """Return a field of a CSV file, quoted if needed."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = guard(value) if isinstance(value, str) else str(value)
    if text and not any(c in ',"\r\n' for c in text):
        return text
    return '"' + text.replace('"', '""') + '"'


def load_pyarrow() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``."""
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(".parquet files", "parquet") from error
    return pa, parquet
