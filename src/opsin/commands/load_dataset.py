"""What was given to train on, as a dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.recipe import DATA_OPTIONS
from opsin.data.dataset import Dataset, load


def dataset_given(
    data: Dataset | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    options: dict[str, Any],
    watcher: Watcher,
) -> Dataset:
    """Return the dataset, loaded where a source or several were given.

    Args:
        data: A dataset, or a source to load one from, or several to be joined.
        options: Of all parts of the recipe; those of the data part are taken out.
        watcher: Is told how far reading is.

    Raises:
        RecipeError: There are options of the data part beside a loaded dataset, or impossible ones.
        SourceError: The source is missing or damaged.
    """
    own = {key: options.pop(key) for key in DATA_OPTIONS if key in options}
    if not isinstance(data, Dataset):
        given = [data] if isinstance(data, str | os.PathLike) else data
        return load(*given, watcher=watcher, **own)
    if own:
        raise RecipeError(
            "options of the model and the training beside a loaded dataset",
            f"got {', '.join(own)}",
            "Give these to opsin.load.",
        )
    return data
