"""What may follow `opsin train`: one module a kind of source."""

from __future__ import annotations

import os
from pathlib import Path

from opsin.data.sources import arrays, folder, idx, named
from opsin.data.sources.contents import Found, key_of_files
from opsin.errors import SourceError
from opsin.events import SILENT, Watcher


def find(source: str, *, watcher: Watcher = SILENT) -> Found:
    """Find out what a source string means, without reading pictures.

    Args:
        source: A named source, a folder, an ``.npz`` file or an IDX file (see `docs/data.md`).
        watcher: Is told about downloads.

    Raises:
        SourceError: There is no such source, or it is not laid out as expected.
    """
    if source in named.NAMES:
        return named.find_named(source, watcher=watcher)
    # os.path, because it answers for impossible names instead of raising.
    path = Path(os.path.expanduser(source))  # noqa: PTH111
    if os.path.isdir(path):  # noqa: PTH112
        files = idx.files_of(path)
        if files:
            return Found(key_of_files(*files), lambda: idx.open_folder(path))
        contents = folder.open_folder(path)
        return Found(key_of_files(*contents.files), lambda: contents)
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
