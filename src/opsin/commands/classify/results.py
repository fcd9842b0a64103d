"""Answers as rows of JSON, CSV or Parquet."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from opsin.core.csv_cells import guard
from opsin.core.errors import ImageError, MissingExtraError, RecipeError
from opsin.core.storage import atomic_file, storage_errors
from opsin.core.stored_json import json_text
from opsin.runtime.prediction import Prediction

Form = Literal["jsonl", "csv", "parquet"]
#: What a cell of a table may hold.
Cell = str | float | bool | None

FORMS: Final[tuple[Form, ...]] = ("jsonl", "csv", "parquet")
#: How an image that cannot be read is spoken of where its answer would stand.
UNREADABLE: Final = "unreadable"
#: Rows of a Parquet file that are held at once.
GROUP: Final = 10_000
#: Where a Parquet file says of what rows it was made.
PARQUET_KEY: Final = b"opsin.rows"
# Ends of lines to some readers, though not to JSON.
_LINES: Final = re.compile("[\x85\u2028\u2029]")


@dataclass(frozen=True)
class ResultRow:
    """What is kept of one image.

    Args:
        image: What it is called: its path below the source.
        answer: Its class, or ``none of these``; ``None`` where it cannot be read.
        label: The most probable class, whether or not the image looks like the training images.
        confidence: Its probability, 0 to 1.
        ood_score: How unlike the training images it is, 0 (alike) to 2; ``None`` where
            the classifier has no measure of it.
        rejected: Whether the answer is ``none of these``.
        top: The most probable classes with their probabilities, the best first.
        notes: What was done to the image beyond decoding and resizing.
        error: Why it cannot be read, in one line; ``None`` where it can.
    """

    image: str
    answer: str | None = None
    label: str | None = None
    confidence: float | None = None
    ood_score: float | None = None
    rejected: bool | None = None
    top: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None


def row_of(
    name: str, answer: Prediction | ImageError, top: int, *, reject: bool = True
) -> ResultRow:
    """Return the row of an answer.

    Args:
        name: What the image is called.
        answer: The answer, or why there is none.
        top: How many classes to keep.
        reject: Whether a strange image's answer is ``none of these``; otherwise it is its label.
    """
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
    """Return why an image cannot be read; its name stands in the row already."""
    if error.received.startswith(f"{name}: "):
        return error.received.removeprefix(f"{name}: ")
    return f"expected {error.expected}; {error.received}"


def _short(value: float | None) -> float | None:
    """Return the shortest number that is the same ``float32``: 0.9 for 0.8999999761581421."""
    return None if value is None or not math.isfinite(value) else float(str(np.float32(value)))


class Results:
    r"""A file of rows: what its ending says, and what is behind it until it is done.

    Args:
        out: The file: ``.jsonl``, ``.csv`` or ``.parquet``.
        top: How many classes a row names.
        hidden: Keep rows in a hidden file beside it, for it is to appear whole.

    Raises:
        RecipeError: Its ending is another.
        MissingExtraError: It is to be a Parquet file, and pyarrow is not installed.

    Example:
        >>> results = Results(Path("results.csv"), top=2)
        >>> results.heading
        b'image,answer,label,confidence,ood_score,rejected,label_2,probability_2,notes,error\n'
        >>> results.encode(ResultRow("a,b.png", "Bag", "Bag", 0.9, None, False, (("Bag", 0.9),)))
        b'"a,b.png",Bag,Bag,0.9,,false,,,,\n'
    """

    def __init__(self, out: Path, top: int, *, hidden: bool = False) -> None:
        self.out, self.top = out, top
        form = out.suffix.lower().removeprefix(".")
        if form not in FORMS:
            raise RecipeError(
                f"a file name that ends in .{', .'.join(FORMS)}",
                f"got {out.name or 'no name'!r}",
                "Give another name.",
            )
        self.form: Form = form
        self._hidden = hidden or form == "parquet"
        if form == "parquet":
            load_pyarrow()

    @property
    def rows(self) -> Path:
        """The file that rows are added to: for Parquet, which takes no additions, lines of JSON."""
        return self.out.with_name(f".{self.out.name}.rows") if self._hidden else self.out

    @property
    def columns(self) -> dict[str, str]:
        """The columns of a table, with the names of Arrow's types."""
        further = {
            name: kind
            for place in range(2, self.top + 1)
            for name, kind in ((f"label_{place}", "string"), (f"probability_{place}", "float"))
        }
        return {
            "image": "string", "answer": "string", "label": "string", "confidence": "float",
            "ood_score": "float", "rejected": "bool", **further, "notes": "string",
            "error": "string",
        }  # fmt: skip

    @property
    def heading(self) -> bytes:
        """What the file of rows begins with."""
        return (",".join(self.columns) + "\n").encode() if self.form == "csv" else b""

    def encode(self, row: ResultRow) -> bytes:
        """Return a row as it is added to the file.

        Names that are no Unicode stay what they are: escaped in JSON, the same bytes in CSV.
        """
        if self.form == "csv":
            fields = flat(_as_json(row), self.top)
            text = ",".join(_field(fields[name]) for name in self.columns) + "\n"
            try:
                return text.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:  # half a surrogate pair, which no file's name can hold
                return text.encode("utf-8", "backslashreplace")
        text = _LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text(_as_json(row)))
        return (text + "\n").encode("utf-8", "backslashreplace")

    def check(self, *keys: str) -> None:
        """See that a Parquet file that is there was made from these rows.

        Args:
            keys: What such a file may say of what rows depend on.

        Raises:
            RecipeError: It was made by something else.
        """
        if self.form == "parquet" and self.out.exists() and self._made_of(*keys) is None:
            raise RecipeError(
                f"{self.out} as this command left it",
                "something else wrote that file",
                "Give another file, or move that one away.",
            )

    def finish(self, key: str, tidied: int = 0) -> None:
        """Make the Parquet file of the rows, whole or not at all; other forms need nothing.

        Args:
            key: Stands for what rows depend on.
            tidied: How often rows were taken out since the work began.

        Raises:
            StorageError: The disk refuses the write; the rows stay, and the same again goes on.
        """
        if self.form != "parquet":
            return
        size = self.rows.stat().st_size
        if self.out.exists() and self._made_of(key) == (size, tidied):
            return
        arrow, _ = load_pyarrow()
        kinds = {"string": arrow.string(), "float": arrow.float32(), "bool": arrow.bool_()}
        schema = arrow.schema([(name, kinds[kind]) for name, kind in self.columns.items()])
        schema = schema.with_metadata({PARQUET_KEY: f"{key} {size} {tidied}".encode()})

        def tables() -> Iterator[Any]:
            rows = self._flat_rows()
            while group := list(islice(rows, GROUP)):
                try:
                    yield arrow.Table.from_pylist(group, schema=schema)
                except arrow.ArrowException as error:
                    raise self._not_ours() from error

        write_tables(self.out, schema, tables())

    def _not_ours(self) -> RecipeError:
        return RecipeError(
            f"{self.rows} as this command left it",
            "a line of it is none of this command's",
            "Give another file, and begin anew.",
        )

    def _flat_rows(self) -> Iterator[dict[str, Cell]]:
        with self.rows.open("rb") as lines:
            for line in lines:
                try:
                    fields = flat(json.loads(line), self.top)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                    raise self._not_ours() from error
                yield {
                    # Arrow's texts are UTF-8, so other bytes become visible escapes.
                    name: value.encode("utf-8", "backslashreplace").decode()
                    if isinstance(value, str)
                    else value
                    for name, value in fields.items()
                }

    def _made_of(self, *keys: str) -> tuple[int, int] | None:
        """Return of which of these rows the Parquet file was made, if of these.

        Returns:
            How many bytes they were, and how often older ones had been taken out.
        """
        arrow, parquet = load_pyarrow()
        try:
            made, *rows = made_of(parquet.read_metadata(self.out).metadata)
        except (arrow.ArrowException, OSError, ValueError):
            return None
        return (rows[0], rows[1]) if made in keys else None


def made_of(metadata: Mapping[bytes, bytes] | None) -> tuple[str, int, int]:
    """Return of what rows a Parquet file of answers says that it was made.

    Returns:
        A key that stands for model and options, how many bytes the rows were, and how often
        older ones had been taken out.

    Raises:
        ValueError: It is none of Opsin's.
    """
    if metadata is None or PARQUET_KEY not in metadata:
        raise ValueError("it is no table of Opsin's answers")
    made, size, *tidied = metadata[PARQUET_KEY].decode().split()
    return made, int(size), int(tidied[0]) if tidied else 0


def write_tables(out: Path, schema: Any, tables: Iterable[Any]) -> None:
    """Write a Parquet file, whole or not at all.

    Args:
        out: The file.
        schema: Arrow's, of all tables.
        tables: Rows, `GROUP` in each but the last.

    Raises:
        StorageError: The disk refuses the write.
    """
    _, parquet = load_pyarrow()
    with (
        storage_errors(out),
        atomic_file(out) as temporary,
        parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for table in tables:
            writer.write_table(table)


def flat(row: Mapping[str, Any], top: int) -> dict[str, Cell]:
    """Return a row of JSON as the columns of a table.

    Example:
        >>> top = [{"label": "Bag", "probability": 0.9}, {"label": "Coat", "probability": 0.1}]
        >>> fields = flat({"image": "a.png", "top": top, "notes": ["a", "b"]}, 2)
        >>> fields["label_2"], fields["probability_2"], fields["notes"]
        ('Coat', 0.1, 'a; b')
    """
    fields = {name: value for name, value in row.items() if name != "top"}
    for place in range(2, top + 1):
        best = row["top"][place - 1] if place <= len(row["top"]) else {}
        fields[f"label_{place}"] = best.get("label")
        fields[f"probability_{place}"] = best.get("probability")
    fields["notes"] = "; ".join(row["notes"]) or None
    return fields


def _as_json(row: ResultRow) -> dict[str, object]:
    return {
        "image": row.image,
        "answer": row.answer,
        "label": row.label,
        "confidence": row.confidence,
        "ood_score": row.ood_score,
        "rejected": row.rejected,
        "top": [{"label": label, "probability": share} for label, share in row.top],
        "notes": list(row.notes),
        "error": row.error,
    }


def _field(value: Cell) -> str:
    """Return a field of a CSV file, in quotes where a reader would take it apart otherwise."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = guard(value) if isinstance(value, str) else str(value)
    if text and not any(c in ',"\r\n' for c in text):
        return text
    return '"' + text.replace('"', '""') + '"'


def load_pyarrow() -> tuple[Any, Any]:
    """Return the modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        MissingExtraError: They are not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(".parquet files", "parquet") from error
    return pa, parquet
