"""What Opsin's cache holds, and how it is emptied."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import filelock

from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.files import open_regular
from opsin.core.format import counted
from opsin.core.stored_json import JsonObject, read_json
from opsin.data.cache import ABOUT, cache_root
from opsin.data.sources.named import NAMES
from opsin.data.spelling import check_choices

#: What can be emptied: fetched and unpacked sources, decoded images, features of pretrained
#: networks, and what is known of networks (that they are sound, how fast they are).
Part = Literal["sources", "datasets", "features", "models"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)

_HASH: Final = "[0-9a-f]{32}"

# Folders of the cache: what they belong to, what in them is Opsin's own (OPSIN_CACHE can name any
# folder), and what all of it is, where one line says it.
_FOLDERS: Final[tuple[tuple[Part, str, str, str], ...]] = (
    ("sources", "sources", rf"({'|'.join(NAMES)})(\.parts)?", ""),
    ("sources", "unpacked", _HASH, ""),
    ("sources", "objects", _HASH, ""),
    ("datasets", "decoded", "[0-9a-f]{64}", ""),
    ("datasets", "near", rf"{_HASH}\.npz", "pairs of near duplicates"),
    ("features", "features", _HASH, ""),
    ("features", "trials", rf"{_HASH}\.json", "how good features were for images"),
    ("models", "models", r"\w+-onnxruntime-[\w.+-]+", "checks of classifiers"),
    ("models", "probed", r"\w+-onnx-[\w.+-]+", "networks brought into one form"),
    ("models", "backbones", rf"{_HASH}-\d+-[\w.+-]+\.json", "speeds of networks"),
)


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache.

    Args:
        part: What it belongs to.
        name: Its place below the cache's folder.
        what: What it is.
        bytes: Of all its files.
        used: When it was last used, in seconds since 1970, as far as the system notes it.
    """

    part: Part
    name: str
    what: str
    bytes: int
    used: float
    _places: tuple[Path, ...] = field(repr=False, default=())

    def to_json(self) -> JsonObject:
        """Return it as plain data."""
        return {name: getattr(self, name) for name in ("part", "name", "what", "bytes", "used")}

    def remove(self) -> bool:
        """Remove it; tell whether it is gone. What a process is writing stays."""
        with contextlib.ExitStack() as stack:
            for place in self._places:
                lock = place.with_name(f"{place.name.removesuffix('.parts')}.lock")
                if lock.exists():
                    try:
                        stack.enter_context(filelock.FileLock(lock, timeout=0))
                    except (filelock.Timeout, OSError):
                        return False
                with contextlib.suppress(OSError):
                    if place.is_dir() and not place.is_symlink():
                        shutil.rmtree(place)
                    else:
                        place.unlink(missing_ok=True)
        return not any(map(os.path.lexists, self._places))


@dataclass(frozen=True)
class CacheContents:
    """What the cache holds, or what of it was removed.

    Args:
        folder: The cache.
        entries: What is in it, part by part, the largest of each first.
    """

    folder: Path
    entries: tuple[CacheEntry, ...]

    @property
    def bytes(self) -> int:
        """Of all together."""
        return sum(entry.bytes for entry in self.entries)

    @checked
    def of(self, part: Part) -> tuple[CacheEntry, ...]:
        """Return what belongs to a part."""
        return tuple(entry for entry in self.entries if entry.part == part)

    def to_json(self) -> JsonObject:
        """Return it as ``--json`` prints it."""
        return {
            "cache": str(self.folder),
            "bytes": self.bytes,
            "parts": {part: sum(entry.bytes for entry in self.of(part)) for part in PARTS},
            "entries": [entry.to_json() for entry in self.entries],
        }


def list_cache() -> CacheContents:
    """Return what Opsin's cache holds.

    What lies in its folder and is none of Opsin's is not looked at.

    Example:
        >>> contents = list_cache()
        >>> contents.bytes == sum(entry.bytes for entry in contents.entries)
        True
    """
    found = [entry for kind in _FOLDERS for entry in _entries(*kind)]
    found.sort(key=lambda entry: (PARTS.index(entry.part), -entry.bytes, entry.name))
    return CacheContents(cache_root(), tuple(found))


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
    found = list_cache()
    wanted = [entry for entry in found.entries if not parts or entry.part in parts]
    return CacheContents(found.folder, tuple(entry for entry in wanted if entry.remove()))


def _entries(part: Part, name: str, own: str, what: str) -> Iterator[CacheEntry]:
    """Yield what is Opsin's in a folder of the cache; a link is none of it."""
    folder = cache_root() / name
    if folder.is_symlink() or not folder.is_dir():
        return
    places = sorted(place for place in folder.iterdir() if re.fullmatch(own, place.name))
    if what:
        if places:
            many = f"{what} ({len(places):,})"
            yield CacheEntry(part, name, many, *_measured(places), tuple(places))
        return
    for place in places:
        if place.is_dir() and not place.is_symlink():
            said = _described(name, place)
            yield CacheEntry(part, f"{name}/{place.name}", said, *_measured([place]), (place,))


def _measured(places: list[Path]) -> tuple[int, float]:
    """Return the bytes of all files, and when one was last read or written."""
    size, used = 0, 0.0
    for place in places:
        folders = os.walk(place) if place.is_dir() else [(str(place.parent), [], [place.name])]
        for folder, _, names in folders:
            for name in names:
                with contextlib.suppress(OSError):
                    state = os.lstat(os.path.join(folder, name))  # noqa: PTH118  no Path each
                    size += state.st_size
                    used = max(used, state.st_atime, state.st_mtime)
    return size, used


def _described(folder: str, place: Path) -> str:
    """Say what an entry is, as far as its files tell."""
    if folder == "sources":
        name = place.name.removesuffix(".parts")
        return name if name == place.name else f"{name}, unfinished"
    about: object = None
    with (
        contextlib.suppress(OSError, ValueError),
        open_regular(place / ABOUT, follow_links=False) as file,
    ):
        about = read_json(file)
    about = about if isinstance(about, dict) else {}
    if folder == "features":
        return str(about.get("what") or "features")
    if folder == "decoded":
        if not isinstance(about.get("names"), list):
            return "images, not all decoded"
        shape = "×".join(map(str, about.get("shape", ())))
        return f"{about.get('source')}: {counted(len(about['names']), 'image')} {shape}"
    return "an unpacked archive" if folder == "unpacked" else "objects of a store"
