"""Images in objects: data frames, and data sets of Hugging Face's library.

Neither library is imported: objects are recognised by their methods.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.sources.contents import LocatedSource
from opsin.data.sources.rows import Row, collect
from opsin.data.sources.table_cells import TableSchema

# Rows per batch of a data set.
_BATCH: Final = 64


def title_of(source: object) -> str:
    """Return an object's type with its library."""
    kind = type(source)
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def located_object(
    source: Any, title: str, columns: Mapping[str, str] | None = None, *, watcher: Watcher = SILENT
) -> LocatedSource:
    """Read the images in an object into the cache."""
    parts = source if isinstance(source, Mapping) else {"": source}
    classes: tuple[str, ...] = ()

    def rows() -> Iterator[Row]:
        nonlocal classes
        for name, part in parts.items():
            for schema, row in _rows(part, str(name), title, columns or {}):
                classes = classes or schema.classes or ()
                image = row.reference
                if not isinstance(image, bytes):
                    image = Path(str(image)).expanduser()
                yield row._replace(split=row.split or str(name), reference=image)

    total = sum(map(operator.length_hint, parts.values()))  # 0 for what streams
    return collect(title, rows(), classes=lambda: classes, total=total, watcher=watcher).located()


def _rows(
    part: Any, name: str, title: str, columns: Mapping[str, str]
) -> Iterator[tuple[TableSchema, Row]]:
    """Yield an object's images."""
    if hasattr(part, "features") and hasattr(part, "with_format"):  # of Hugging Face
        metadata = part.features.arrow_schema.metadata if part.features is not None else None
        for table in part.with_format("arrow").iter(batch_size=_BATCH):
            schema = TableSchema.of(table.column_names, columns, title, metadata=metadata)
            cells = {ours: table[theirs].to_pylist() for ours, theirs in schema.columns.items()}
            for row in schema.rows(cells):
                yield schema, row._replace(split=row.split or name or str(part.split or ""))
    elif hasattr(part, "columns") and hasattr(part, "__getitem__"):  # a data frame
        schema = TableSchema.of([str(name) for name in part.columns], columns, title)
        cells = {ours: part[theirs].to_list() for ours, theirs in schema.columns.items()}
        for row in schema.rows(cells):
            yield schema, row
    else:
        raise SourceError(
            f"A {title_of(part)} is no source, data frame or data set of Hugging Face's library",
            "Arrays go in by opsin.from_arrays(images, labels).",
        )
