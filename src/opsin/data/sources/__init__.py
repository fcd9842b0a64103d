"""What may follow `opsin train`: one module a kind of source."""

from __future__ import annotations

import os
from pathlib import Path

from opsin.data.sources import arrays, folder, idx, named
from opsin.data.sources.contents import Found, key_of_files
from opsin.data.sources.joined import join
from opsin.errors import SourceError
from opsin.events import SILENT, Watcher
from opsin.recipe import DataRecipe


def find_all(recipe: DataRecipe, *, watcher: Watcher = SILENT) -> Found:
    """Find every source of a recipe, to be opened as one.

    Raises:
        SourceError: One of them is missing, or is not laid out as expected.
    """
    parts = [(source, find(source, recipe, watcher=watcher)) for source in recipe.sources]
    test = (recipe.test, find(recipe.test, recipe, watcher=watcher)) if recipe.test else None
    if len(parts) == 1 and test is None:
        return parts[0][1]
    key = repr([found.key for _, found in parts] + ([test[1].key] if test else [None]))
    return Found(
        key,
        lambda: join(
            [(source, found.open()) for source, found in parts],
            (test[0], test[1].open()) if test else None,
        ),
    )


def find(source: str, recipe: DataRecipe, *, watcher: Watcher = SILENT) -> Found:
    """Find out what a source string means, without reading pictures.

    Args:
        source: A named source, a folder, an ``.npz`` file or an IDX file (see `docs/data.md`).
        recipe: How it is to be read: its columns, whether links are followed.
        watcher: Is told about downloads.

    Raises:
        SourceError: There is no such source, or it is not laid out as expected.
    """
    if source in named.NAMES:
        return named.find_named(source, watcher=watcher)
    # os.path, because it answers for impossible names instead of raising.
    path = Path(os.path.expanduser(source))  # noqa: PTH111
    if os.path.isdir(path):  # noqa: PTH112
        return _in_folder(path, recipe)
    if os.path.isfile(path):  # noqa: PTH113
        if path.suffix.lower() == ".npz":
            return Found(key_of_files(path), lambda: arrays.open_npz(path))
        if idx.is_images(path):
            both = (path, idx.labels_of(path))
            return Found(key_of_files(*both), lambda: idx.open_pair(path))
        raise SourceError(
            "a folder, an .npz file or an IDX file of images",
            f"{source} is a file of another kind",
            "Put pictures into one sub-folder for each class and give the folder.",
        )
    raise SourceError(
        f"a folder, a file, or a name among {', '.join(sorted(named.NAMES))}",
        f"there is no {source!r} here",
        "Check the spelling, or give the folder's whole name.",
    )


def _in_folder(path: Path, recipe: DataRecipe) -> Found:
    files = idx.files_of(path)
    if files:
        return Found(key_of_files(*files), lambda: idx.open_folder(path))
    contents = folder.open_folder(path, follow_links=recipe.follow_links)
    listed = [picture for picture in contents.pictures if isinstance(picture, Path)]
    return Found(key_of_files(*listed), lambda: contents)
