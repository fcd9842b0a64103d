"""Tables that name images and their classes: CSV, TSV and JSON lines."""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from opsin.core.csv_cells import Reader
from opsin.core.errors import SourceError
from opsin.core.files import open_regular
from opsin.core.stored_json import Json
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.sources.contents import (
    Files,
    LabelledImages,
    LocatedSource,
    Row,
    RowCollector,
    key_of_files,
)
from opsin.data.sources.source_kind import AllowedFolder, SourceKind, SourceRequest, SourceRow
from opsin.data.split import UNASSIGNED, part_named

#: Files that are tables.
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
#: What a table can say of an image; the first two it must.
COLUMNS = ("path", "label", "split", "group")
#: Bytes of the longest line: bounds what a file without line ends can ask for.
_LONGEST = 1 << 20


class TableRow(NamedTuple):
    """A row of a table and the line it begins in."""

    line: int
    path: str
    label: str
    split: str
    group: str


def is_table(path: Path) -> bool:
    """Tell by its name whether a file is a table."""
    return path.suffix.lower() in SUFFIXES


def _is_json(path: Path) -> bool:
    return path.suffix.lower() in (".jsonl", ".ndjson")


def is_usable(path: Path, columns: Mapping[str, str] | None = None) -> bool:
    """Tell whether a file is a table that names images and their classes."""
    try:
        return is_table(path) and bool(resolve_columns(path, header(path), columns or {}))
    except SourceError:
        return False


def check_columns(columns: Mapping[str, str] | None) -> None:
    """Refuse names for columns that no table has: keys that are none of `COLUMNS`."""
    unknown = [name for name in columns or {} if name not in COLUMNS]
    if unknown:
        raise SourceError(
            f"columns among {', '.join(COLUMNS)}",
            f"got {', '.join(unknown)}",
            "Write ours=theirs, such as path=file,label=species.",
        )


def open_table(
    path: Path, columns: Mapping[str, str] | None = None, *, inside: AllowedFolder | None = None
) -> LabelledImages:
    """Read a table; images that do not exist stay in the list, for decoding to name them."""
    check_columns(columns)
    found, folder = RowCollector(), os.path.realpath(path.parent)
    for row in rows_of(path, columns or {}):
        name = name_of(row.path, path, row.line, inside)
        place = os.path.join(folder, name)  # noqa: PTH118  a million paths as text
        if ".." in name:  # which leads up from where a link leads to
            above, last = os.path.split(place)
            place = os.path.join(os.path.realpath(above), last)  # noqa: PTH118
        part = part_of(row.split, path, row.line)
        # The same place for all ways to write it that follow no link.
        found.add(Row(name, row.label, part, row.group, name, row.line, os.path.normpath(place)))
    images = Files(path.parent, found.names)
    check_any_exists(images, path)
    return found.labelled(str(path), images)


def check_any_exists(images: Files, table: Path) -> None:
    """Refuse a table without rows, and one none of whose images exists."""
    if not len(images):
        raise SourceError("a table with rows", f"{table} has none", "Is it the right table?")
    if not any(os.path.exists(place) for place in images.places()):  # noqa: PTH110  for text
        raise SourceError(
            "images where the table says",
            f"none of the {len(images):,} in {table} exists; the first would be {images[0]}",
            f"Paths begin at the table's folder, {images.folder}.",
        )


def _images_in(
    path: Path, columns: Mapping[str, str], inside: AllowedFolder | None
) -> Iterator[ListedImage]:
    """Yield the image of each row, existing or not; its other columns are not read."""
    line = 0
    for row in rows_of(path, columns, needed=("path",)):
        line = row.line
        name = name_of(row.path, path, line, inside)
        place = os.path.join(path.parent, name)  # noqa: PTH118  a million paths as text
        yield ListedImage(name, place)
    if not line:
        raise SourceError("a table with rows", f"{path} has none", "Is it the right table?")


def count_rows(path: Path) -> int | None:
    """Return how many rows a table has; ``None`` where it is damaged."""
    with contextlib.suppress(SourceError):
        return sum(1 for _ in _records(path))
    return None


def header(path: Path) -> list[str]:
    """Return the names of a table's columns; none where it is empty."""
    if _is_json(path):
        return list(next(_records(path), (0, {}))[1])
    return next(fields(path), (0, list[str]()))[1]


def resolve_columns(
    path: Path,
    there: Sequence[str],
    columns: Mapping[str, str],
    needed: Sequence[str] = COLUMNS[:2],
) -> dict[str, str]:
    """Return the table's own name of each of our columns that it has."""
    twice = sorted({name for name in there if name and there.count(name) > 1})
    if twice:
        raise SourceError(
            "different names for the columns",
            f"{path} has {', '.join(twice)} more than once",
            "Rename one of them.",
        )
    names = {name: columns.get(name, name) for name in COLUMNS}
    if "path" not in columns and "path" not in there and "file_name" in there:
        names["path"] = "file_name"
    missing = [theirs for ours, theirs in names.items()
               if theirs not in there and (ours in columns or ours in needed)]  # fmt: skip
    if missing:
        raise SourceError(
            f"a column {' and a column '.join(missing)}",
            f"{path} has {', '.join(filter(None, there)) or 'none'}",
            "Say which is which with --columns, such as path=file,label=species.",
        )
    return {ours: theirs for ours, theirs in names.items() if theirs in there}


def other_columns(
    path: Path, columns: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """Return what a table says of its images beside our `COLUMNS`: texts by column and name."""
    there = header(path)
    used = resolve_columns(path, there, columns or {})
    found: dict[str, dict[str, str]] = {
        name: {} for name in there if name and name not in used.values()
    }
    for line, values in _records(path):
        name = name_of(_text(values.get(used["path"]), used["path"], path, line), path, line)
        for other, texts in found.items():
            value = values.get(other)
            # Lists and objects of JSON stand for no kind of image.
            plain = isinstance(value, str | bool | int | float)
            texts[name] = _text(value, other, path, line).strip() if plain else ""
    return found


def rows_of(
    path: Path, columns: Mapping[str, str], needed: Sequence[str] = COLUMNS[:2]
) -> Iterator[TableRow]:
    """Yield a table's rows, one in memory at a time; what is not ``needed`` may be empty."""
    found = resolve_columns(path, header(path), columns, needed)
    # In JSON lines, later rows may have more than the first.
    names = [found.get(ours, ours) for ours in COLUMNS]
    for line, values in _records(path):
        row = [_text(values.get(name), name, path, line) for name in names]
        if not _is_json(path):  # a path may begin or end with a blank; nothing else does on purpose
            row[1:] = map(str.strip, row[1:])
        for ours, value in zip(COLUMNS, row, strict=True):
            if not value and ours in needed:
                raise _wrong(path, line, f"a {ours}", "has none", "Fill it in, or drop the line.")
        yield TableRow(line, *row)


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Json]]]:
    """Yield what each row says by the names of the columns, with the number of its line."""
    if not _is_json(path):
        rows = fields(path)
        _, there = next(rows, (0, list[str]()))
        for line, row in rows:
            if len(row) > len(there):
                raise _wrong(
                    path, line, f"{len(there)} fields as in the header", f"has {len(row)}",
                    'Put fields that hold the separator into quotes: "a, b".',
                )  # fmt: skip
            yield line, dict(zip(there, row, strict=False))
        return
    for line, text in enumerate(lines_of(path), start=1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _wrong(
                path, line, "a JSON object", f"is broken ({error})", "Write one object a line."
            ) from error
        if not isinstance(values, dict):
            kind = type(values).__name__
            raise _wrong(
                path, line, "a JSON object", f"holds a {kind}", 'Write {"path": …, "label": …}.'
            )
        yield line, values


def fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each line that has any, the header first, with the line's number."""
    lines = lines_of(path)
    blank, first = 0, ""
    for first in lines:
        if first.strip():
            break
        blank += 1

    def count(separator: str) -> int:
        try:  # by a reader each, because a quoted name may hold another separator
            return len(next(Reader([first], delimiter=separator), []))
        except csv.Error:
            return 0

    reader = Reader(
        itertools.chain([first], lines),
        delimiter=max(",;\t", key=count),
        skipinitialspace=True,
        strict=True,
    )
    head = True
    while True:
        line = reader.line_num + blank + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise _wrong(
                path, line, "whole fields", f"is broken ({error})", "Mend its quotes."
            ) from error
        if row is None:
            return
        if row:
            yield line, [name.strip() for name in row] if head else row
            head = False


def _text(value: Json, name: str, path: Path, line: int) -> str:
    """Return a cell as text: JSON's ``true`` and ``3`` are names of classes too."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str) and "\0" not in value:
        with contextlib.suppress(UnicodeEncodeError):  # half of a surrogate pair names no file
            os.fsencode(value)
            return value
    raise _wrong(path, line, f"text or a number as {name}", f"has {value!r:.60}", "Write its name.")


def lines_of(path: Path) -> Iterator[str]:
    """Yield a file's lines, a megabyte in memory at a time."""
    line = 0
    try:
        with open_regular(path) as file:
            for line, found in enumerate(_lines_in(file), start=1):
                raw = found.removeprefix(codecs.BOM_UTF8) if line == 1 else found
                if len(raw) > _LONGEST:
                    raise _wrong(path, line, "at most 1 MB", "is longer", "Is it a table?")
                if b"\0" in raw:
                    raise _wrong(
                        path, line, "text", "holds a NUL byte", "Save the table as text in UTF-8."
                    )
                yield raw.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"holds other bytes ({error.reason})"
        raise _wrong(path, line, "text in UTF-8", what, "Save the table in UTF-8.") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError("a readable table", f"{path}: {reason}", "Check its rights.") from error


def _lines_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines with their ends: LF, CR LF or, as old programs on a Mac write them, CR alone."""
    rest = b""
    while piece := file.read(_LONGEST):
        # The last may go on in the next piece, be it by the LF of its CR LF.
        *lines, rest = (rest + piece).splitlines(keepends=True)
        yield from lines
        if len(rest) > _LONGEST:
            break
    if rest:
        yield rest


def name_of(written: str, table: Path, line: int, inside: AllowedFolder | None = None) -> str:
    """Return an image's path with ``/``; refuse one that leaves ``inside``."""
    if "\\" in written and not os.path.exists(os.path.join(table.parent, written)):  # noqa: PTH110, PTH118
        written = written.replace("\\", "/")  # written on Windows
    if inside is not None and not inside.holds(written, table.parent):
        raise _wrong(table, line, inside.expected, f"names {written!r:.200}", inside.advice)
    return written


def part_of(written: str, table: Path, line: int) -> int:
    """Return the code of a table's word for a part of the split; refuse other words."""
    code = part_named(written) if written.strip() else UNASSIGNED
    if code is None:
        raise _wrong(
            table, line, "a split among train, val and test (or training, validation, testing …)",
            f"names {written!r}", "Rename it, or leave it empty.",
        )  # fmt: skip
    return code


def _wrong(path: Path, line: int, expected: str, received: str, advice: str) -> SourceError:
    return SourceError(f"{expected} in each line", f"line {line:,} of {path} {received}", advice)


def located_tables(
    tables: Sequence[Path], contents: LabelledImages, request: SourceRequest
) -> LocatedSource:
    """Return tables as a source that changes with them, their images and the columns' names."""
    files = [contents.images] if isinstance(contents.images, Files) else []
    key = repr((key_of_files(*tables, *files), request.columns))
    return LocatedSource(key, lambda: contents)


def _locate(request: SourceRequest) -> LocatedSource:
    path = request.path
    contents = open_table(path, request.columns, inside=request.allowed(path.parent))
    return located_tables([path], contents, request)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    path, columns = request.path, request.columns or {}
    return Stream(
        request.written,
        "table",
        lambda: _images_in(path, columns, request.allowed(path.parent)),
        lambda: count_rows(path),
    )


KIND = SourceKind(
    title=f"a table ({' '.join(SUFFIXES)})",
    rows=(
        SourceRow(
            "a table",
            "`.csv`, `.tsv`, `.jsonl`, `.ndjson` with `path`, `label` and, where there, "
            "`split` and `group`",
            "by its column `split`, else cut by Opsin",
        ),
    ),
    match=lambda request: request.is_file and is_table(request.path),
    match_packed=lambda request: is_usable(request.path, request.columns),
    files=tuple(f"*{suffix}" for suffix in SUFFIXES),
    locate=_locate,
    iter_unlabelled=_iter_unlabelled,
)
