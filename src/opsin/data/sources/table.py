"""Tables that name images and their classes: CSV, TSV and JSON lines, alone or in a folder."""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

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
from opsin.data.sources.joined import join
from opsin.data.sources.source_kind import AllowedFolder, SourceKind, SourceRequest
from opsin.data.sources.table_cells import COLUMNS, USUAL, TableSchema, text_of
from opsin.data.split import TRAIN, UNASSIGNED, part_named

_JSON = (".jsonl", ".ndjson")
#: Files that are tables.
SUFFIXES = (".csv", ".tsv", *_JSON)
# Names of columns; a table among images that says "image" may say anything of them.
_USUAL = USUAL | {"path": ("path", "file_name"), "label": ("label",)}
#: Bytes of the longest line: bounds what a file without line ends can ask for.
_LONGEST = 1 << 20
#: Tables that Hugging Face's library reads in a folder of images.
_METADATA = ("metadata.csv", "metadata.jsonl")


def is_table(path: Path) -> bool:
    """Tell by its name whether a file is a table."""
    return path.suffix.lower() in SUFFIXES


def is_usable(path: Path, columns: Mapping[str, str] | None = None) -> bool:
    """Tell whether a file is a table that names images and their classes."""
    try:
        return is_table(path) and bool(_schema(path, columns))
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
    for row in rows_of(path, columns):
        name = name_of(row.name, path, row.line, inside)
        place = os.path.join(folder, name)  # noqa: PTH118  a million paths as text
        if ".." in name:  # which leads up from where a link leads to
            above, last = os.path.split(place)
            place = os.path.join(os.path.realpath(above), last)  # noqa: PTH118
        # The same place for all ways to write it that follow no link.
        found.add(row._replace(name=name, place=os.path.normpath(place)))
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


def count_rows(path: Path) -> int | None:
    """Return how many rows a table has; ``None`` where it is damaged."""
    with contextlib.suppress(SourceError):
        return sum(1 for _ in _records(path))
    return None


def other_columns(
    path: Path, columns: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """Return what a table says of its images beside our `COLUMNS`: texts by column and name."""
    used = _schema(path, columns).columns
    found: dict[str, dict[str, str]] = {
        name: {} for name in _header(path) if name and name not in used.values()
    }
    for line, values in _records(path):
        name = name_of(text_of(values.get(used["path"]), "path"), path, line)
        for other, texts in found.items():
            value = values.get(other)
            # Lists and objects of JSON stand for no kind of image.
            plain = isinstance(value, str | bool | int | float)
            texts[name] = text_of(value, other).strip() if plain else ""
    return found


def rows_of(
    path: Path, columns: Mapping[str, str] | None, needed: Sequence[str] = COLUMNS[:2]
) -> Iterator[Row]:
    """Yield a table's rows, named by their paths; what is not ``needed`` may be empty."""
    schema = _schema(path, columns, needed)
    # In JSON lines, later rows may have more than the first.
    names = [schema.columns.get(ours, ours) for ours in COLUMNS]
    for line, values in _records(path):
        where = f"line {line:,} of {path} has"
        name, *rest = (text_of(values.get(name), name, where) for name in names)
        # A path may begin or end with a blank; nothing else does on purpose.
        label, split, group = map(str.strip, rest)
        for ours, value in (("path", name), ("label", label)):
            if not value and ours in needed:
                raise _wrong(path, line, f"a {ours}", "has none", "Fill it in, or drop the line.")
        if split and part_named(split) is None and "label" in needed:
            raise _wrong(
                path, line,
                "a split among train, val and test (or training, validation, testing …)",
                f"names {split!r}", "Rename it, or leave it empty.",
            )  # fmt: skip
        yield Row(name, label, split, group, name, line)


def _schema(
    path: Path, columns: Mapping[str, str] | None, needed: Sequence[str] = COLUMNS[:2]
) -> TableSchema:
    there = _header(path)
    repeated = next((name for name in there if name and there.count(name) > 1), None)
    if repeated:
        raise SourceError(
            "different names for the columns",
            f"{path} has {repeated} more than once",
            "Rename one of them.",
        )
    return TableSchema.of(there, columns or {}, path, needed=needed, usual=_USUAL)


def _header(path: Path) -> list[str]:
    if path.suffix.lower() in _JSON:
        return list(next(_records(path), (0, {}))[1])
    return next(fields(path), (0, list[str]()))[1]


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Json]]]:
    """Yield what each row says by the names of the columns, with the number of its line."""
    if path.suffix.lower() not in _JSON:
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
        if text.strip():
            try:
                values = json.loads(text)
                problem = "" if isinstance(values, dict) else f"holds a {type(values).__name__}"
            except (ValueError, RecursionError) as error:
                problem = f"is broken ({error})"
            if problem:
                advice = 'Write {"path": …, "label": …}, one object a line.'
                raise _wrong(path, line, "a JSON object", problem, advice)
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

    delimiter = max(",;\t", key=count)
    whole = itertools.chain([first], lines)
    reader = Reader(whole, delimiter=delimiter, skipinitialspace=True, strict=True)
    head = True
    while True:
        line = reader.line_num + blank + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            what = f"is broken ({error})"
            raise _wrong(path, line, "whole fields", what, "Mend its quotes.") from error
        if row is None:
            return
        if row:
            yield line, [name.strip() for name in row] if head else row
            head = False


def lines_of(path: Path) -> Iterator[str]:
    """Yield a file's lines, a megabyte in memory at a time."""
    line = 0
    try:
        with open_regular(path) as file:
            for line, raw in enumerate(_lines_in(file), start=1):
                text = raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw
                if len(text) > _LONGEST:
                    raise _wrong(path, line, "at most 1 MB", "is longer", "Is it a table?")
                if b"\0" in text:
                    advice = "Save the table as text in UTF-8."
                    raise _wrong(path, line, "text", "holds a NUL byte", advice)
                yield text.decode("utf-8")
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


def _wrong(path: Path, line: int, expected: str, received: str, advice: str) -> SourceError:
    return SourceError(f"{expected} in each line", f"line {line:,} of {path} {received}", advice)


def metadata_tables(root: Path, columns: Mapping[str, str] | None) -> list[Path]:
    """Return a folder's metadata files with labels: its own, or one of each part of the split."""
    own = _metadata_in(root, columns)
    if own:
        return [own]
    parts = sorted(
        entry for entry in root.iterdir() if part_named(entry.name) is not None and entry.is_dir()
    )
    tables = {part.name: _metadata_in(part, columns) for part in parts}
    lacking = [name for name, table in tables.items() if table is None]
    if lacking and len(lacking) < len(parts):
        raise SourceError(
            "a metadata file with labels in each part",
            f"{root} has none in {', '.join(lacking)}",
            f"Add {' or '.join(_METADATA)} there, or take the folder away.",
        )
    return [table for table in tables.values() if table]


def _metadata_in(folder: Path, columns: Mapping[str, str] | None) -> Path | None:
    for table in (folder / name for name in _METADATA):
        if table.is_file() and ("label" in _header(table) or "label" in (columns or {})):
            _schema(table, columns)
            return table
    return None


def _locate(request: SourceRequest) -> LocatedSource:
    path = request.path
    contents = open_table(path, request.columns, inside=request.allowed(path.parent))
    return _located([path], contents, request)


def _located(
    tables: Sequence[Path], contents: LabelledImages, request: SourceRequest
) -> LocatedSource:
    """Return tables as a source that changes with them, their images and the columns' names."""
    files = [contents.images] if isinstance(contents.images, Files) else []
    key = repr((key_of_files(*tables, *files), request.columns))
    return LocatedSource(key, lambda: contents)


def _locate_folder(request: SourceRequest) -> LocatedSource:
    root, columns = request.path, request.columns
    tables = metadata_tables(root, columns)
    inside = request.allowed(root, *tables)
    parts = [(table.parent.name, open_table(table, columns, inside=inside)) for table in tables]
    contents = parts[0][1]
    if tables[0].parent != root:
        codes = np.array([part_named(name) for name, _ in parts], np.uint8)
        given = np.repeat(codes, [len(part) for _, part in parts])
        contents = replace(join(parts, None), given=given)
    elif not np.any(contents.given != UNASSIGNED):
        # The table names no parts: train/1.jpg and its like are taken at their word.
        tops = [name.removeprefix("./").partition("/")[0] for name in contents.names]
        of_top = {top: part_named(top) or UNASSIGNED for top in set(tops)}
        given = np.array([of_top[top] for top in tops], np.uint8)
        if np.any(given == TRAIN):
            contents = replace(contents, given=given)
    return _located(tables, replace(contents, source=str(root)), request)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    path = request.path

    def images() -> Iterator[ListedImage]:
        inside, row = request.allowed(path.parent), None
        for row in rows_of(path, request.columns, needed=("path",)):
            name = name_of(row.name, path, row.line, inside)
            place = os.path.join(path.parent, name)  # noqa: PTH118  a million paths as text
            yield ListedImage(name, place)
        if row is None:
            raise SourceError("a table with rows", f"{path} has none", "Is it the right table?")

    return Stream(request.written, "table", images, lambda: count_rows(path))


#: A folder whose metadata files name the classes, as Hugging Face lays it out.
IMAGEFOLDER = SourceKind(
    title="a folder with metadata.csv",
    match=lambda request: (
        request.is_folder and bool(metadata_tables(request.path, request.columns))
    ),
    locate=_locate_folder,
    rank=2,
)
KINDS = (
    SourceKind(
        title=f"a table ({' '.join(SUFFIXES)})",
        match=lambda request: request.is_file_of(*SUFFIXES),
        match_packed=lambda request: is_usable(request.path, request.columns),
        files=tuple(f"*{suffix}" for suffix in SUFFIXES),
        locate=_locate,
        iter_unlabelled=_iter_unlabelled,
    ),
    IMAGEFOLDER,
)
