"""Rows of answers in JSON, CSV or Parquet."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from pydantic import PlainSerializer

from opsin.core.csv_cells import write_rows
from opsin.core.errors import ImageError, MissingExtraError, RecipeError
from opsin.core.stored_json import JsonObject, json_text
from opsin.runtime.prediction import Prediction

if TYPE_CHECKING:
    from opsin.commands.predict.answers_file import Rows

#: Name and reason of each file that was left out.
Unreadable = Annotated[
    tuple[tuple[str, str], ...],
    PlainSerializer(lambda files: [{"name": name, "reason": why} for name, why in files]),
]
_FORMS: Final = ("jsonl", "csv", "parquet")
# Rows of a group in a Parquet file.
_GROUP: Final = 10_000
# Ends of lines to some readers, though not to JSON.
_LINES: Final = re.compile("[\x85\u2028\u2029]")


def row_of(name: str, answer: Prediction | ImageError, top: int, *, reject: bool) -> JsonObject:
    """Return an answer's row with the ``top`` classes; without ``reject`` none is refused."""
    if isinstance(answer, ImageError):
        row: JsonObject = dict.fromkeys(
            ("image", "answer", "label", "confidence", "ood_score", "rejected")
        )
        return row | {"image": name, "top": [], "notes": [], "error": reason_of(name, answer)}
    best = [{"label": label, "probability": _short(share)} for label, share in answer.top(top)]
    return {
        "image": name,
        "answer": answer.answer if reject else answer.label,
        "label": answer.label,
        "confidence": _short(answer.confidence),
        "ood_score": _short(answer.ood_score),
        "rejected": answer.rejected if reject else False,
        "top": best,
        "notes": list(answer.notes),
        "error": None,
    }


def reason_of(name: str, error: ImageError) -> str:
    """Return why an image cannot be read, without its name."""
    _, prefix, reason = error.message.partition(f"{name}: ")
    return reason if prefix else error.message


def _short(value: float | None) -> float | None:
    """The shortest number that is the same ``float32``: 0.9 for 0.8999999761581421."""
    return None if value is None or not math.isfinite(value) else float(str(np.float32(value)))


def json_line(row: JsonObject) -> bytes:
    """Return a row as JSON, without a line end; bytes that are not Unicode are escaped."""
    text = _LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", json_text(row))
    return text.encode("utf-8", "backslashreplace")


class RowFormat:
    """The format of rows in a file, by its ending."""

    def __init__(self, out: Path, top: int) -> None:
        self.form, self.top = out.suffix.lower().removeprefix("."), top
        if self.form not in _FORMS:
            raise RecipeError(f"{out} does not end in .{', .'.join(_FORMS)}")
        # The columns of a table, with the names of Arrow's types.
        self.columns = {
            "image": "string",
            "answer": "string",
            "label": "string",
            "confidence": "float",
            "ood_score": "float",
            "rejected": "bool",
        }
        for rank in range(2, top + 1):
            self.columns |= {f"label_{rank}": "string", f"probability_{rank}": "float"}
        self.columns |= {"notes": "string", "error": "string"}
        if self.form == "parquet":
            _load_pyarrow()

    def encode(self, line: bytes) -> bytes:
        """Return a row of the file from its stored line of JSON."""
        if self.form == "jsonl":
            return line + b"\n"
        fields, text = flat(json.loads(line), self.top), io.StringIO(newline="")
        values = [fields[name] for name in self.columns]
        cells = [str(value).lower() if isinstance(value, bool) else value for value in values]
        write_rows(text, [cells])
        row = text.getvalue().removesuffix("\r\n") + "\n"
        try:  # a name that is no Unicode keeps its bytes
            return row.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half a surrogate pair, which no file's name can hold
            return row.encode("utf-8", "backslashreplace")

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
        arrow, parquet = _load_pyarrow()
        kinds = {"string": arrow.string(), "float": arrow.float32(), "bool": arrow.bool_()}
        schema = arrow.schema([(name, kinds[kind]) for name, kind in self.columns.items()])

        def cells(line: bytes) -> JsonObject:
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


def flat(row: Mapping[str, Any], top: int) -> dict[str, Any]:
    """Flatten a row of JSON into the columns of a table."""
    fields = {name: value for name, value in row.items() if name != "top"}
    for rank in range(2, top + 1):
        best = row["top"][rank - 1] if rank <= len(row["top"]) else {}
        fields[f"label_{rank}"] = best.get("label")
        fields[f"probability_{rank}"] = best.get("probability")
    fields["notes"] = "; ".join(row["notes"]) or None
    return fields


def _load_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(".parquet files", "parquet") from error
    return pa, parquet
