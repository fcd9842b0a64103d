"""A folder whose metadata files name the classes, as Hugging Face lays it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from opsin.core.errors import SourceError
from opsin.data.sources.allowed_folder import AllowedFolder
from opsin.data.sources.contents import LabelledImages, LocatedSource
from opsin.data.sources.joined import join
from opsin.data.sources.manifest import header, located_tables, open_table, resolve_columns
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow
from opsin.data.split import TRAIN, UNASSIGNED, part_named

_NAMES = ("metadata.csv", "metadata.jsonl")


def tables_of(root: Path, columns: Mapping[str, str] | None) -> list[Path]:
    """Return the metadata files with labels: the root's, or one of each part of the split.

    None where there is none, or where they hold no labels: then the folders are the classes.

    Raises:
        SourceError: A part of the split has none while another has.
    """
    own = _table_in(root, columns)
    if own:
        return [own]
    parts = sorted(
        entry for entry in root.iterdir() if part_named(entry.name) is not None and entry.is_dir()
    )
    tables = {part: _table_in(part, columns) for part in parts}
    lacking = [part.name for part, table in tables.items() if table is None]
    if lacking and len(lacking) < len(parts):
        raise SourceError(
            "a metadata file with labels in each part",
            f"{root} has none in {', '.join(lacking)}",
            f"Add {' or '.join(_NAMES)} there, or take the folder away.",
        )
    return [table for table in tables.values() if table]


def open_tables(
    root: Path,
    tables: list[Path],
    columns: Mapping[str, str] | None,
    *,
    inside: AllowedFolder | None = None,
) -> LabelledImages:
    """Read what `tables_of` found.

    Raises:
        SourceError: As `open_table`; or a table is a link that leads elsewhere.
    """
    for table in tables:
        if inside is not None and not inside.holds(str(table.relative_to(root)), root):
            raise SourceError(f"a table within {root}", f"{table} leads out of it", inside.advice)
    if tables[0].parent == root:
        contents = open_table(tables[0], columns, inside=inside)
        return replace(_with_parts(contents), source=str(root))
    parts = [(table.parent.name, open_table(table, columns, inside=inside)) for table in tables]
    contents = join(parts, None)
    codes = [part_named(name) for name, _ in parts]
    return replace(
        contents,
        source=str(root),
        given=np.repeat(np.array(codes, np.uint8), [len(part) for _, part in parts]),
    )


def _with_parts(contents: LabelledImages) -> LabelledImages:
    """Take ``train/1.jpg`` and its like at their word, where the table names no parts."""
    if np.any(contents.given != UNASSIGNED):
        return contents
    tops = [name.removeprefix("./").partition("/")[0] for name in contents.names]
    codes = {top: part_named(top) or UNASSIGNED for top in set(tops)}
    given = np.array([codes[top] for top in tops], np.uint8)
    return replace(contents, given=given) if np.any(given == TRAIN) else contents


def _table_in(folder: Path, columns: Mapping[str, str] | None) -> Path | None:
    for name in _NAMES:
        table = folder / name
        if not table.is_file():
            continue
        there = header(table)
        if "label" in there or "label" in (columns or {}):
            resolve_columns(table, there, columns or {})
            return table
    return None


def _locate(request: SourceRequest) -> LocatedSource:
    root = request.path
    tables = tables_of(root, request.columns)
    contents = open_tables(root, tables, request.columns, inside=request.allowed(root))
    return located_tables(tables, contents, request)


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
