"""Columns of a table besides path and label."""

from __future__ import annotations

import os
from pathlib import Path

from opsin.core.recipe import DataRecipe
from opsin.data.dataset import Dataset
from opsin.data.sources.named import is_place
from opsin.data.sources.table import is_table, metadata_tables, other_columns


def columns_of(dataset: Dataset) -> dict[str, list[str]]:
    """Return text attributes of the images: groups, and a table's other columns."""
    columns = {"group": list(dataset.groups)} if dataset.groups else {}
    table = _table_of(dataset.located)
    if table is not None:
        for column, texts in other_columns(table, dataset.recipe.columns).items():
            columns[column] = [texts.get(name, "") for name in dataset.names]
    return {column: texts for column, texts in columns.items() if len(set(texts)) > 1}


def _table_of(recipe: DataRecipe) -> Path | None:
    if len(recipe.sources) > 1 or recipe.test is not None or not is_place(recipe.sources[0]):
        return None
    path = Path(recipe.sources[0])
    # os.path, because it answers for impossible names instead of raising.
    if os.path.isfile(path):  # noqa: PTH113
        return path if is_table(path) else None
    tables = metadata_tables(path, recipe.columns) if os.path.isdir(path) else []  # noqa: PTH112
    return tables[0] if len(tables) == 1 and tables[0].parent == path else None
