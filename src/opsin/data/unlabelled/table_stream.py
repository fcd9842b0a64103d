"""A table that names pictures to be classified."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from opsin.core.errors import SourceError
from opsin.data.sources.allowed_folder import AllowedFolder
from opsin.data.sources.manifest import fields, lines_of, name_of, rows_of
from opsin.data.unlabelled.stream import Unlabelled


def pictures_in_table(
    path: Path, columns: Mapping[str, str], inside: AllowedFolder | None = None
) -> Iterator[Unlabelled]:
    """Yield the picture of each row; what else the row says is nobody's business here.

    The rules are those of `opsin.data.sources.manifest.open_table`, but for the label, which is not
    needed. A picture that does not exist is yielded too, for decoding to name it.

    Args:
        path: The table.
        columns: Names of its columns by ours, where they differ.
        inside: What paths may not leave.

    Raises:
        SourceError: The table is damaged, has no rows, lacks the column, or leaves a path empty, or
            names an image elsewhere.
    """
    line = 0
    for row in rows_of(path, columns, needed=("path",)):
        line = row.line
        name = name_of(row.path, path, line, inside)
        place = os.path.join(path.parent, name)  # noqa: PTH118  a million paths as text
        yield Unlabelled(name, place, place)
    if not line:
        raise SourceError("a table with rows", f"{path} has none", "Is it the right table?")


def count_rows(path: Path) -> int | None:
    """Return how many rows a table has; ``None`` where it is damaged."""
    with contextlib.suppress(SourceError):
        if path.suffix.lower() in (".csv", ".tsv"):
            return max(0, sum(1 for _ in fields(path)) - 1)
        return sum(1 for line in lines_of(path) if line.strip())
    return None
