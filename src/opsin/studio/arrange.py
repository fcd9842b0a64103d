"""What was uploaded becomes a source."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from opsin.data.images import SUFFIXES
from opsin.data.sources import archive
from opsin.data.sources.folder import LITTER, PARTS, open_folder
from opsin.errors import SourceError
from opsin.storage import publish_directory, scratch_directory, told_plainly

_PICTURES: Final = frozenset(SUFFIXES)
_MOST_BYTES: Final = 255
_DEEPEST: Final = 32
# Other systems have more that no name may hold.
_FORBIDDEN: Final = "/\\" if os.name != "nt" else '/\\:*?"<>|'


def arrange(files: Mapping[Path, str], into: Path, *, loose: str = "") -> Path:
    """Lay files out as a source: all of them, or none.

    One archive (or ``.npz`` file) becomes that file in ``into``, once it could be unpacked as
    `opsin.data.sources.archive` does it: no links, no way out, no bombs. Pictures become
    ``into/<class>/…`` by the folders that they came in, a folder around everything taken off;
    where ``into`` is there already, they are added. What is no picture is passed over.

    Args:
        files: Where each file lies, and what it was called, folders parted by ``/``.
        into: A folder on the same disk.
        loose: Class of the pictures that came without a folder; an archive may then hold such
            pictures too, and is checked by whoever reads it.

    Returns:
        The source: the archive, or ``into``.

    Raises:
        SourceError: There is nothing to be a source, a name leads elsewhere, or pictures have no
            class. Nothing was moved, but an archive that is refused is gone.
        StorageError: The disk refuses it. Nothing was moved.
    """
    packed = {path: suffix for path, name in files.items() if (suffix := _packed(name))}
    if packed and len(files) == 1:
        ((path, suffix),) = packed.items()
        return _keep_archive(path, files[path], into, suffix, check=not loose)
    places = _places(files, loose)
    if not places:
        raise SourceError(
            "pictures, or one archive of them",
            f"{len(files):,} files are none of these" if files else "nothing was sent",
            f"Pictures end in {', '.join(SUFFIXES[:6])} …; archives in .zip or .tar.",
        )
    if packed:
        raise SourceError(
            "pictures, or one archive of them", "both were sent", "Send the archive by itself."
        )
    if into.is_dir():
        with told_plainly(into), _all_or_none() as moved:
            _move(places, into, moved)
    else:
        with scratch_directory(into.parent) as scratch, _all_or_none() as moved:
            _move(places, scratch, moved)
            if hasattr(os, "sync"):  # not on Windows
                os.sync()  # once for all, for there may be many
            publish_directory(scratch, into)
    return into


def class_name(text: str) -> str:
    """Return a class's name, fit to be a folder's.

    Raises:
        SourceError: It is empty, begins with a dot, is too long, or holds what no folder's name or
            no page can.

    Example:
        >>> class_name(" Ankle boot ")
        'Ankle boot'
    """
    name = text.strip()
    try:
        long = len(os.fsencode(name)) > _MOST_BYTES
    except UnicodeEncodeError:
        long = True
    hidden = name.startswith(".") or name in LITTER
    if name and not (long or hidden or set(name) & set(_FORBIDDEN)) and name.isprintable():
        return name
    raise SourceError(
        f"a class name of 1 to {_MOST_BYTES} bytes that a folder can have",
        f"got {name!r:.80}" if name else "it is empty",
        f"Use printable characters but {' '.join(_FORBIDDEN)}, and no dot at the beginning.",
    )


def _packed(name: str) -> str:
    """Return the suffix of a file that is a source by itself, or nothing."""
    known = sorted((*archive.SUFFIXES, ".npz"), key=len, reverse=True)
    return next((suffix for suffix in known if name.lower().endswith(suffix)), "")


def _keep_archive(path: Path, name: str, into: Path, suffix: str, *, check: bool) -> Path:
    if into.exists():
        raise SourceError(
            "pictures to add to the others",
            f"{name!r:.80} is an archive, which is a set by itself",
            "Let it become a new set, or unpack it and send the pictures.",
        )
    target = into / f"pictures{suffix}"
    with told_plainly(into):
        into.mkdir(parents=True)
        path.rename(target)
    try:
        if check and archive.is_archive(target):
            _check_archive(target, name.rpartition("/")[2])
    except SourceError:
        shutil.rmtree(into)
        raise
    except BaseException:
        target.rename(path)
        into.rmdir()
        raise
    return target


def _check_archive(path: Path, name: str) -> None:
    """Unpack an archive into the cache, where `opsin data` finds it.

    Raises:
        SourceError: It cannot be a source.
        StorageError: The disk refuses it.
    """
    root = path
    try:
        root = archive.unpack(path)
        entries = list(root.iterdir())
        # Tables and arrays are another matter, and read by a process of their own.
        if all(each.is_dir() or each.suffix.lower() in _PICTURES for each in entries):
            open_folder(root)
    except SourceError as error:
        # People know their archive, and not where it lies.
        texts = (error.expected, error.received, error.advice)
        told = (text.replace(str(root), name).replace(str(path), name) for text in texts)
        raise SourceError(*told) from None


def _places(files: Mapping[Path, str], loose: str) -> dict[Path, tuple[str, ...]]:
    """Return where each picture belongs: the class's folder, folders within it, its name.

    Raises:
        SourceError: A name leads elsewhere, is impossible, or a picture has no class.
    """
    parts = {path: _parts(name) for path, name in files.items()}
    kept = {path: names for path, names in parts.items() if _is_picture(names)}
    sorted_ones = [names for names in kept.values() if len(names) > 1]
    wrapped = 0
    while sorted_ones and _is_wrapped(sorted_ones, wrapped):
        wrapped += 1
    without = sum(len(names) == 1 for names in kept.values())
    if without and not loose.strip():
        raise SourceError(
            "each picture in a folder, which is its class",
            f"{without:,} of {len(kept):,} came without",
            "Name the class of these, or send a folder with a sub-folder for each class.",
        )
    label = class_name(loose) if without else ""
    return {
        path: (label, *names)
        if len(names) == 1
        else (class_name(names[wrapped]), *names[wrapped + 1 :])
        for path, names in kept.items()
    }


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in re.split(r"[/\\]", name) if part not in ("", "."))
    if ".." in parts or "\0" in name or len(parts) > _DEEPEST or not parts:
        raise SourceError(
            "names of files within the folder that was sent",
            f"got {name!r:.120}",
            "Send the folder itself.",
        )
    return parts


def _is_picture(parts: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") or part in LITTER for part in parts)
    return not hidden and os.path.splitext(parts[-1])[1].lower() in _PICTURES  # noqa: PTH122


def _is_wrapped(names: list[tuple[str, ...]], depth: int) -> bool:
    """Tell whether all lie in one more folder that is no class and no part of a split."""
    around = {each[depth] for each in names if len(each) > depth + 2}
    only = around.pop() if len(around) == 1 else ""
    return (
        bool(only)
        and only.lower() not in PARTS
        and all(len(each) > depth + 2 and each[depth] == only for each in names)
    )


def _move(places: dict[Path, tuple[str, ...]], root: Path, moved: list[tuple[Path, Path]]) -> None:
    made: set[Path] = set()
    for path, (label, *within, name) in places.items():
        # Folders inside a class say nothing here, but keep equal names apart.
        folder = root.joinpath(label, *(_short(each) for each in within))
        if folder not in made:
            folder.mkdir(parents=True, exist_ok=True)
            made.add(folder)
        target = _free(folder / _short(name), path)
        if target is not None:
            path.rename(target)
            moved.append((path, target))


def _free(target: Path, path: Path) -> Path | None:
    """Return a name that is free, or ``None`` where the same picture is there already."""
    stem, number = target.stem, 1
    while target.exists():
        if filecmp.cmp(path, target, shallow=False):
            return None
        number += 1
        target = target.with_name(f"{stem}-{number}{target.suffix}")
    return target


def _short(name: str) -> str:
    """Return a name that file systems take: its end, where the suffix stands, is kept."""
    clean = "".join(each if each.isprintable() else "_" for each in name)
    while len(clean.encode("utf-8", "replace")) > _MOST_BYTES - 8:
        clean = clean[1:] if len(clean) < _MOST_BYTES else clean[-_MOST_BYTES:]
    return clean


@contextlib.contextmanager
def _all_or_none() -> Iterator[list[tuple[Path, Path]]]:
    """Yield a list of what is moved where; after an error everything is moved back."""
    moved: list[tuple[Path, Path]] = []
    try:
        yield moved
    except BaseException:
        for path, target in reversed(moved):
            with contextlib.suppress(OSError):
                target.rename(path)
        raise
