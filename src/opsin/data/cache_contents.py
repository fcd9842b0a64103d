"""How much Opsin's cache holds, and how it is emptied."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import filelock

from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.stored_json import JsonObject
from opsin.data.cache import cache_root
from opsin.data.sources.named import NAMES
from opsin.data.spelling import check_choices

#: What can be emptied: fetched and unpacked sources, decoded images, features of pretrained
#: networks, and what is known of networks (that they are sound, how fast they are).
Part = Literal["sources", "datasets", "features", "models"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)

_HASH: Final = "[0-9a-f]{32}"
# Folders of the cache, and what in them is Opsin's own: OPSIN_CACHE can name any folder.
_FOLDERS: Final[dict[Part, dict[str, str]]] = {
    "sources": {
        "sources": rf"({'|'.join(NAMES)})", "unpacked": _HASH, "objects": _HASH
    },
    "datasets": {"decoded": "[0-9a-f]{64}", "near": rf"{_HASH}\.npz"},
    "features": {"features": _HASH, "trials": rf"{_HASH}\.json"},
    "models": {
        "models": r"\w+-onnxruntime-[\w.+-]+",
        "probed": r"\w+-onnx-[\w.+-]+",
        "backbones": rf"{_HASH}-\d+-[\w.+-]+\.json",
    },
}  # fmt: skip


@dataclass(frozen=True)
class CacheContents:
    """How much the cache holds, or how much of it was removed.

    Args:
        folder: The cache.
        sizes: Bytes of each part: ``sources``, ``datasets``, ``features`` and ``models``.
    """

    folder: Path
    sizes: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """Of all parts together."""
        return sum(self.sizes.values())

    def to_json(self) -> JsonObject:
        """Return it as ``--json`` prints it."""
        return {"cache": str(self.folder), "bytes": self.bytes, "parts": {**self.sizes}}


def list_cache() -> CacheContents:
    """Return how much Opsin's cache holds, whatever else lies in its folder.

    Example:
        >>> contents = list_cache()
        >>> contents.bytes == sum(contents.sizes.values())
        True
    """
    sizes: dict[str, int] = {part: sum(map(_size_of, _places(part))) for part in PARTS}
    return CacheContents(cache_root(), sizes)


@checked
def empty_cache(*parts: str) -> CacheContents:
    """Remove what the cache holds; all of it is made again when it is needed.

    What another process is writing at the moment stays. One that reads may have to begin anew.

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
        for place in _places(part) if part in (parts or PARTS) else ():
            size = _size_of(place)
            with contextlib.suppress(filelock.Timeout, OSError), contextlib.ExitStack() as stack:
                lock = place.with_name(f"{place.name}.lock")
                if lock.exists():
                    stack.enter_context(filelock.FileLock(lock, timeout=0))
                if place.is_dir():
                    shutil.rmtree(place)
                else:
                    place.unlink()
                removed[part] += size
    return CacheContents(cache_root(), removed)


def _places(part: Part) -> list[Path]:
    """What is Opsin's of a part; a link is none of it."""
    folders = {cache_root() / name: own for name, own in _FOLDERS[part].items()}
    return [
        place
        for folder, own in folders.items()
        if folder.is_dir() and not folder.is_symlink()
        for place in folder.iterdir()
        if re.fullmatch(own, place.name) and not place.is_symlink()
    ]


def _size_of(place: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    size = 0
    for folder, _, names in os.walk(place) if place.is_dir() else [(place.parent, (), [place])]:
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
    return size
