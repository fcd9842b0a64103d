"""Size and removal of the cache's contents."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Final, Literal, get_args

import filelock
from pydantic import BaseModel, Field

from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.files import file_stamp
from opsin.data.cache import cache_root
from opsin.data.sources.named import NAMES
from opsin.data.spelling import check_choices

#: Parts that can be emptied: fetched and unpacked sources, decoded images, features, and checks and
#: speeds of networks.
Part = Literal["sources", "datasets", "features", "models"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)

_HASH: Final = "[0-9a-f]{32}"
# Folders of the cache with the names of Opsin's own entries: OPSIN_CACHE can name any folder.
_FOLDERS: Final[dict[Part, dict[str, str]]] = {
    "sources": {"sources": rf"({'|'.join(NAMES)})", "unpacked": _HASH, "objects": _HASH},
    "datasets": {"decoded": "[0-9a-f]{64}", "near": rf"{_HASH}\.npz", "looks": rf"{_HASH}\.npz"},
    "features": {
        "features": _HASH, "heaps": _HASH, "heads": rf"{_HASH}\.npz", "trials": rf"{_HASH}\.json"
    },
    "models": {
        "models": r"\w+-onnxruntime-[\w.+-]+",
        "probed": r"\w+-onnx-[\w.+-]+",
        "backbones": rf"{_HASH}-\d+-[\w.+-]+\.json",
    },
}  # fmt: skip


class CacheContents(BaseModel, frozen=True, serialize_by_alias=True):
    """How much the cache holds, or how much of it was removed.

    Args:
        folder: The cache.
        bytes: Bytes of all parts together.
        sizes: Bytes of each part: ``sources``, ``datasets``, ``features`` and ``models``.
    """

    folder: Path = Field(serialization_alias="cache")
    bytes: int
    sizes: dict[str, int] = Field(serialization_alias="parts")


def list_cache() -> CacheContents:
    """Return how much Opsin's cache holds; other files in its folder are not counted.

    Example:
        >>> contents = list_cache()
        >>> contents.bytes == sum(contents.sizes.values())
        True
    """
    sizes: dict[str, int] = {part: sum(map(size_of, _paths_of(part))) for part in PARTS}
    return CacheContents(folder=cache_root(), bytes=sum(sizes.values()), sizes=sizes)


@checked
def empty_cache(*parts: str) -> CacheContents:
    """Empty the cache; its contents are made again when needed.

    Files that another process is writing stay. A process that is reading may have to start over.

    Args:
        *parts: Among ``sources``, ``datasets``, ``features`` and ``models`` (default: all).

    Returns:
        What was removed.

    Raises:
        RecipeError: There is no such part.
    """
    check_choices("part of the cache", parts, PARTS, RecipeError)
    removed: dict[str, int] = dict.fromkeys(PARTS, 0)
    for part in PARTS:
        for path in _paths_of(part) if part in (parts or PARTS) else ():
            size = size_of(path)
            with contextlib.suppress(filelock.Timeout, OSError), contextlib.ExitStack() as stack:
                lock = path.with_name(f"{path.name}.lock")
                if lock.exists():
                    stack.enter_context(filelock.FileLock(lock, timeout=0))
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
                removed[part] += size
    return CacheContents(folder=cache_root(), bytes=sum(removed.values()), sizes=removed)


def _paths_of(part: Part) -> list[Path]:
    folders = [(cache_root() / name, pattern) for name, pattern in _FOLDERS[part].items()]
    return [
        path
        for folder, pattern in folders
        if folder.is_dir() and not folder.is_symlink()
        for path in folder.iterdir()
        if re.fullmatch(pattern, path.name) and not path.is_symlink()
    ]


def size_of(path: Path) -> int:
    """The bytes of a file, or of a folder's files; links are not followed."""
    folders = os.walk(path) if path.is_dir() else [(path.parent, (), [path.name])]
    files = (f"{folder}/{name}" for folder, _, names in folders for name in names)
    return sum(file_stamp(file, follow_links=False).size for file in files)
