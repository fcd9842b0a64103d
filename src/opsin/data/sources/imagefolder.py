"""A folder whose metadata files name the classes, as Hugging Face lays it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from opsin.core.errors import SourceError
from opsin.data.sources.contents import LocatedSource
from opsin.data.sources.joined import join
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow
from opsin.data.sources.table import header, located_tables, open_table, resolve_columns
from opsin.data.split import TRAIN, UNASSIGNED, part_named

_NAMES = ("metadata.csv", "metadata.jsonl")


def tables_of(root: Path, columns: Mapping[str, str] | None) -> list[Path]:
    """Return the metadata files with labels: the root's, or one of each part of the split."""
    own = _table_in(root, columns)
    if own:
        return [own]
    parts = sorted(
        entry for entry in root.iterdir() if part_named(entry.name) is not None and entry.is_dir()
    )
    tables = {part.name: _table_in(part, columns) for part in parts}
    lacking = [name for name, table in tables.items() if table is None]
    if lacking and len(lacking) < len(parts):
        raise SourceError(
            "a metadata file with labels in each part",
            f"{root} has none in {', '.join(lacking)}",
            f"Add {' or '.join(_NAMES)} there, or take the folder away.",
        )
    return [table for table in tables.values() if table]


def _table_in(folder: Path, columns: Mapping[str, str] | None) -> Path | None:
    for table in (folder / name for name in _NAMES):
        if table.is_file():
            there = header(table)
            if "label" in there or "label" in (columns or {}):
                resolve_columns(table, there, columns or {})
                return table
    return None


def _locate(request: SourceRequest) -> LocatedSource:
    root, columns = request.path, request.columns
    tables, inside = tables_of(root, columns), request.allowed(root)
    for table in tables:
        if inside is not None and not inside.holds(str(table.relative_to(root)), root):
            raise SourceError(f"a table within {root}", f"{table} leads out of it", inside.advice)
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
    return located_tables(tables, replace(contents, source=str(root)), request)


KIND = SourceKind(
    title="a folder with metadata.csv",
    rows=(
        SourceRow(
            "a folder with metadata",
            "`metadata.csv` or `metadata.jsonl` (`file_name`, `label`) in the folder or in "
            "each part, as Hugging Face has them",
            "as given",
        ),
    ),
    match=lambda request: request.is_folder and bool(tables_of(request.path, request.columns)),
    locate=_locate,
    rank=2,
)
