"""What may follow `opsin train`: one module a kind of source."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import DataRecipe
from opsin.data.image_tree import is_run
from opsin.data.sources import archive, arrays, folder, idx, imagefolder, manifest, named
from opsin.data.sources.allowed_folder import AllowedFolder
from opsin.data.sources.contents import Files, LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.joined import check_different, join

_KINDS = (
    f"a folder, a table ({' '.join(manifest.SUFFIXES)}), an archive "
    f"({' '.join(archive.SUFFIXES)}), an .npz file or an IDX file of images"
)


def find_all(recipe: DataRecipe, *, watcher: Watcher = SILENT) -> LocatedSource:
    """Find every source of a recipe, to be opened as one.

    Raises:
        SourceError: One of them is missing, or is not laid out as expected.
    """
    manifest.check_columns(recipe.columns)
    check_different([*recipe.sources, *([recipe.test] if recipe.test else [])], named.NAMES)
    parts = [(source, find(source, recipe, watcher=watcher)) for source in recipe.sources]
    test = (recipe.test, find(recipe.test, recipe, watcher=watcher)) if recipe.test else None
    if len(parts) == 1 and test is None:
        return parts[0][1]
    key = repr([found.key for _, found in parts] + ([test[1].key] if test else [None]))
    return LocatedSource(
        key,
        lambda: join(
            [(source, found.open()) for source, found in parts],
            (test[0], test[1].open()) if test else None,
        ),
    )


def find(source: str, recipe: DataRecipe, *, watcher: Watcher = SILENT) -> LocatedSource:
    """Find out what a source string means, without reading pictures.

    Args:
        source: A named source, a folder, a table, an archive, an ``.npz`` file or an IDX file (see
            `docs/data.md`).
        recipe: How it is to be read: its columns, whether links are followed.
        watcher: Is told about downloads, unpacking and what was passed over.

    Raises:
        SourceError: There is no such source, or it is not laid out as expected.
    """
    # os.path, because it answers for impossible names instead of raising.
    path = Path(os.path.expanduser(source))  # noqa: PTH111
    is_folder = os.path.isdir(path)  # noqa: PTH112
    if source in named.NAMES:
        if is_folder:
            watcher.note(f"{source} is Opsin's own name; for the folder here, write ./{source}.")
        return named.find_named(source, watcher=watcher)
    if is_folder:
        if is_run(os.fspath(path)):
            raise SourceError(
                "images with labels",
                f"{source} is a run of Opsin, which holds figures",
                f"To train it further: opsin resume {source}; to classify with it: opsin predict "
                f"{source} IMAGE; to measure it: opsin evaluate {source} SOURCE.",
            )
        return _in_folder(path, recipe, watcher)
    if os.path.isfile(path):  # noqa: PTH113
        if archive.is_archive(path):
            key = repr(("archive", key_of_files(path), recipe.columns))
            return LocatedSource(key, lambda: _open_archive(path, recipe, watcher))
        found = _in_file(path, recipe)
        if found:
            return found
        raise SourceError(
            _KINDS,
            f"{source} is a file of another kind",
            "Put pictures into one sub-folder for each class and give the folder.",
        )
    raise SourceError(
        f"a folder, a file, or a name among {', '.join(sorted(named.NAMES))}",
        f"there is no {source!r} here",
        "Check the spelling, or give the folder's whole name.",
    )


def _in_file(
    path: Path, recipe: DataRecipe, *, archive: AllowedFolder | None = None
) -> LocatedSource | None:
    """Find what one file is; a table in an archive may not leave that."""
    if path.suffix.lower() == ".npz":
        return LocatedSource(key_of_files(path), lambda: arrays.open_npz(path))
    if manifest.is_table(path):
        inside = archive or _bounds(path.parent, recipe)
        contents = manifest.open_table(path, recipe.columns, inside=inside)
        return _with_tables([path], contents, recipe)
    if idx.is_images(path):
        both = (path, idx.labels_of(path))
        return LocatedSource(key_of_files(*both), lambda: idx.open_pair(path))
    return None


def _in_folder(
    path: Path, recipe: DataRecipe, watcher: Watcher, *, archive: AllowedFolder | None = None
) -> LocatedSource:
    files = idx.files_of(path)
    if files:
        return LocatedSource(key_of_files(*files), lambda: idx.open_folder(path))
    tables = imagefolder.tables_of(path, recipe.columns)
    if tables:
        inside = archive or _bounds(path, recipe)
        contents = imagefolder.open_tables(path, tables, recipe.columns, inside=inside)
        return _with_tables(tables, contents, recipe)
    follow_links = recipe.follow_links and archive is None
    contents = folder.open_folder(path, follow_links=follow_links, watcher=watcher)
    return LocatedSource(key_of_files(*_files(contents)), lambda: contents)


def _bounds(folder: Path, recipe: DataRecipe) -> AllowedFolder | None:
    """Return where the tables of a folder may name images."""
    return None if recipe.outside else AllowedFolder(folder, follow_links=recipe.follow_links)


def _with_tables(tables: list[Path], contents: LabelledImages, recipe: DataRecipe) -> LocatedSource:
    key = repr((key_of_files(*tables, *_files(contents)), recipe.columns))
    return LocatedSource(key, lambda: contents)


def _files(contents: LabelledImages) -> list[Files]:
    return [contents.pictures] if isinstance(contents.pictures, Files) else []


def _open_archive(path: Path, recipe: DataRecipe, watcher: Watcher) -> LabelledImages:
    unpacked = archive.unpack(path, watcher)
    try:
        contents = _find_unpacked(unpacked, recipe, watcher).open()
    except SourceError as error:
        # The user knows the archive, and not where it was unpacked.
        parts = (error.expected, error.received, error.advice)
        raise type(error)(*(text.replace(str(unpacked), str(path)) for text in parts)) from error
    return replace(contents, source=str(path))


def _find_unpacked(root: Path, recipe: DataRecipe, watcher: Watcher) -> LocatedSource:
    """Find what an archive holds: one file that is a source by itself, or a folder of classes."""
    inside = AllowedFolder(root, archive=True)
    if not idx.files_of(root) and not imagefolder.tables_of(root, recipe.columns):
        single = [
            entry
            for entry in sorted(root.iterdir())
            if entry.suffix.lower() == ".npz"
            or idx.is_images(entry)
            or manifest.is_usable(entry, recipe.columns)
        ]
        if len(single) > 1:
            raise SourceError(
                f"one table, .npz or IDX file of images in {root}",
                f"it holds {', '.join(file.name for file in single[:5])}",
                "Unpack it and give one of them.",
            )
        found = _in_file(single[0], recipe, archive=inside) if single else None
        if found:
            return found
    return _in_folder(root, recipe, watcher, archive=inside)
