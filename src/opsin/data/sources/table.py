"""Tables that name images and their classes: CSV, TSV and JSON lines."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from opsin.core.csv_cells import read_row
from opsin.core.errors import SourceError
from opsin.core.files import open_regular
from opsin.core.recipe import DataRecipe
from opsin.data.image_stream import Stream
from opsin.data.image_tree import readable
from opsin.data.sources.rows import (
    COLUMNS,
    AllowedFolder,
    Row,
    SourceKind,
    SourceRequest,
    collect,
    stream_of_table,
)
from opsin.data.split import part_named

_JSON: Final = (".jsonl", ".ndjson")
#: Files that are tables.
SUFFIXES: Final = (".csv", ".tsv", *_JSON)
#: Names by which a column is recognised; among images, "image" may mean anything.
USUAL: Final = {
    "path": ("path", "file_name"), "label": ("label",), "split": ("split",), "group": ("group",),
}  # fmt: skip
# Types of columns in Hugging Face's library.
_TYPES: Final = {"path": "Image", "label": "ClassLabel"}
# Characters of the longest line: bounds memory for a file without line ends.
_LONGEST: Final = 1 << 20


def columns_in(
    there: Sequence[str],
    asked: Mapping[str, str] | None,
    source: object,
    *,
    needed: Sequence[str] = COLUMNS[:2],
    usual: Mapping[str, Sequence[str]] = USUAL,
    metadata: Mapping[bytes, bytes] | None = None,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find our columns: as requested, by Hugging Face's features, or by name; and any classes."""
    features, columns, asked = dict[str, Any](), dict[str, str](), asked or {}
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        stated = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        features = {name: about for name, about in stated.items() if isinstance(about, dict)}
    missing = []
    for ours in COLUMNS:
        named = [name for name in usual[ours] if name in there]
        typed = [
            name
            for name, about in features.items()
            if ours in _TYPES and about.get("_type") == _TYPES[ours]
        ]
        both = [name for name in named if name in typed]
        guesses = (both, named[:1], typed)
        theirs = asked.get(ours) or next((g[0] for g in guesses if len(g) == 1), None)
        if theirs is not None and there.count(theirs) > 1:
            raise SourceError(f"{source} has the column {theirs} more than once")
        if theirs is not None and theirs in there:
            columns[ours] = theirs
        elif ours in asked or ours in needed:
            missing.append(theirs or ours)
    if missing:
        raise SourceError(
            f"{source} has no column {' and no column '.join(missing)}, but "
            f"{', '.join(filter(None, there[:20])) or 'none at all'}",
            "Say which is which with --columns, such as path=file,label=species.",
        )
    names = features.get(columns.get("label", ""), {}).get("names")
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return columns, tuple(names) if names and listed else ()


def is_missing(value: Any) -> bool:
    """Tell whether a cell is missing: ``None``, NaN, NaT, or pandas' NA."""
    try:
        return value is None or bool(value != value)  # noqa: PLR0124  these equal not even themselves
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"  # which refuses to be true or false


def text_of(value: Any, column: str, where: str = "A cell is") -> str:
    """Return a cell as text; whole numbers and booleans are class names, too."""
    if isinstance(value, str):
        with contextlib.suppress(UnicodeEncodeError):  # half of a surrogate pair names no file
            os.fsencode(value)
            if "\0" not in value:
                return value
    elif is_missing(value):
        return ""
    elif isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    elif isinstance(value, int | float | np.number):
        whole = isinstance(value, float | np.floating) and float(value).is_integer()
        return str(int(value) if whole else value)
    raise SourceError(f"{where} {value!r:.60}; text or a number is expected as {column}")


def is_table(path: Path) -> bool:
    """Tell whether a file is a table, by its name."""
    return path.suffix.lower() in SUFFIXES


def rows_of(
    path: Path, columns: Mapping[str, str] | None, needed: Sequence[str] = COLUMNS[:2]
) -> Iterator[Row]:
    """Yield a table's rows, named by their paths; columns not ``needed`` may be empty."""
    head, listed = records(path)
    theirs, _ = columns_in(head, columns, path, needed=needed)
    # In JSON lines, later rows may have more than the first.
    names = [theirs.get(ours, ours) for ours in COLUMNS]
    for line, values in listed:
        where = f"line {line:,} of {path} has"
        name, *rest = (text_of(values.get(name), name, where) for name in names)
        # Only a path may begin or end with a blank on purpose.
        label, split, group = map(str.strip, rest)
        for ours, value in (("path", name), ("label", label)):
            if not value and ours in needed:
                raise _wrong(path, line, f"has no {ours}", "Fill it in, or drop the line.")
        if split and part_named(split) is None and "label" in needed:
            problem = f"names the split {split!r}; train, val or test is expected"
            raise _wrong(path, line, problem, "Rename it, or leave it empty.")
        yield Row(name, label, split, group, name, line)


def records(path: Path) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    """Return a table's columns, and each row's line number and values by column."""
    if path.suffix.lower() in _JSON:
        rows = _json_rows(path)
        first = next(rows, None)
        return list(first[1] if first else ()), itertools.chain([first] if first else [], rows)
    lines = _fields(path)
    head = [name.strip() for name in next(lines, (0, list[str]()))[1]]

    def named() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for line, row in lines:
            if len(row) > len(head):
                problem = f"has {len(row)} fields, and the header {len(head)}"
                advice = 'Put fields that hold the separator into quotes: "a, b".'
                raise _wrong(path, line, problem, advice)
            yield line, dict(zip(head, row, strict=False))

    return head, named()


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(_lines_of(path), start=1):
        if text.strip():
            try:
                values = json.loads(text)
                problem = "" if isinstance(values, dict) else f"holds a {type(values).__name__}"
            except (ValueError, RecursionError) as error:
                problem = f"is broken ({error})"
            if problem:
                raise _wrong(path, line, problem, 'Write {"path": …, "label": …}, one a line.')
            yield line, values


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of each non-empty line, the header first."""
    lines = _lines_of(path)
    filled = ((blank, text) for blank, text in enumerate(lines) if text.strip())
    blank, first = next(filled, (0, ""))

    def count(separator: str) -> int:
        try:  # a quoted name may hold another separator
            return len(next(csv.reader([first], delimiter=separator), []))
        except csv.Error:
            return 0

    delimiter, whole = max(",;\t", key=count), itertools.chain([first], lines)
    reader = csv.reader(whole, delimiter=delimiter, skipinitialspace=True, strict=True)
    line = blank + 1
    try:
        for row in reader:
            if row:
                yield line, read_row(row)
            line = reader.line_num + blank + 1
    except csv.Error as error:
        raise _wrong(path, line, f"is broken ({error})", "Mend its quotes.") from error


def _lines_of(path: Path) -> Iterator[str]:
    """Yield lines with their ends, LF, CR LF or CR, holding a megabyte at a time."""
    line, advice, mark = 0, "Save the table as text in UTF-8.", codecs.BOM_UTF8.decode()
    try:
        with (
            readable(path),
            open_regular(path) as file,
            io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="") as stream,
        ):
            for line in itertools.count(1):
                text = stream.readline(_LONGEST + 1)
                if not text:
                    return
                if len(text) > _LONGEST:
                    raise _wrong(path, line, "is longer than 1 MB", "Is it a table?")
                if "\0" in text:
                    raise _wrong(path, line, "holds a NUL byte", advice)
                text.encode()  # fails where a byte was escaped
                yield text.removeprefix(mark) if line == 1 else text
    except UnicodeEncodeError as error:
        raise _wrong(path, line, "is not in UTF-8", advice) from error


def _wrong(path: Path, line: int, problem: str, advice: str) -> SourceError:
    return SourceError(f"Line {line:,} of {path} {problem}", advice)


def name_of(written: str, table: Path, line: int, inside: AllowedFolder | None = None) -> str:
    """Return an image's path with ``/``; refuse one that leaves ``inside``."""
    if "\\" in written and not os.path.exists(os.path.join(table.parent, written)):  # noqa: PTH110, PTH118
        written = written.replace("\\", "/")  # written on Windows
    if inside is not None and not inside.holds(written, table.parent):
        problem = f"names {written!r:.200}, which leads out of the table's folder"
        raise _wrong(table, line, problem, inside.advice)
    return written


def columns_of(
    recipe: DataRecipe, names: Sequence[str], groups: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return texts of images by column: their groups, and other columns of a recipe's table."""
    columns = {"group": list(groups)} if groups else {}
    path = Path(recipe.sources[0])
    if len(recipe.sources) == 1 and recipe.test is None and path.is_absolute() and is_table(path):
        for column, texts in _other_columns(path, recipe.columns).items():
            columns[column] = [texts.get(name, "") for name in names]
    return {column: texts for column, texts in columns.items() if len(set(texts)) > 1}


def _other_columns(path: Path, columns: Mapping[str, str] | None) -> dict[str, dict[str, str]]:
    head, listed = records(path)
    used, _ = columns_in(head, columns, path)
    others = {name: dict[str, str]() for name in head if name not in ("", *used.values())}
    for line, values in listed:
        name = name_of(text_of(values.get(used["path"]), "path"), path, line)
        for column, texts in others.items():
            value = values.get(column)
            # Lists and objects of JSON stand for no kind of image.
            if isinstance(value, str | bool | int | float):
                texts[name] = text_of(value, column).strip()
    return others


def _rows(request: SourceRequest, needed: Sequence[str] = COLUMNS[:2]) -> Iterator[Row]:
    """Yield a table's rows with the paths of their images, even of those that do not exist."""
    path = request.path
    inside = request.allowed(path.parent)
    start, folder = os.path.abspath(path.parent), os.path.realpath(path.parent)  # noqa: PTH100
    for row in rows_of(path, request.columns, needed):
        name = name_of(row.name, path, row.line, inside)
        place = os.path.join(folder, name)  # noqa: PTH118  a million paths as text
        if ".." in name:  # relative to the target of a link
            above, last = os.path.split(place)
            place = os.path.join(os.path.realpath(above), last)  # noqa: PTH118
        place = os.path.normpath(place)  # one spelling for all that follow no link
        yield row._replace(reference=os.path.join(start, name), name=name, place=place)  # noqa: PTH118


def _iter_unlabelled(request: SourceRequest) -> Stream:
    def count() -> int | None:
        with contextlib.suppress(SourceError):
            return sum(1 for _ in records(request.path)[1])
        return None

    return stream_of_table(request.written, lambda: _rows(request, needed=("path",)), count)


def _is_usable(request: SourceRequest) -> bool:
    path = request.path
    with contextlib.suppress(SourceError):
        return is_table(path) and bool(columns_in(records(path)[0], request.columns, path))
    return False


KINDS = (
    SourceKind(
        f"a table ({' '.join(SUFFIXES)})", lambda request: request.is_file_of(*SUFFIXES),
        lambda request: collect(request.written, _rows(request)).located(), _iter_unlabelled,
        match_packed=_is_usable, files=tuple(f"*{end}" for end in SUFFIXES),
    ),
)  # fmt: skip
