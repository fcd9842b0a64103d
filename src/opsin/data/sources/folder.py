"""A folder with one sub-folder for each class."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from opsin.data.images import SUFFIXES
from opsin.data.sources.contents import Contents
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL
from opsin.errors import SourceError

_PARTS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}


def open_folder(root: Path, *, follow_links: bool = False) -> Contents:
    """List ``root/<class>/*`` or ``root/train|val|test/<class>/*``.

    Class names are the folders' names in natural order (``2`` before ``10``). Hidden files and
    folders are passed over, and so are files that do not end like a picture.

    Raises:
        SourceError: The folder is empty or laid out otherwise.
    """
    folders = _folders(root)
    parts = {folder: _PARTS[folder.name.lower()] for folder in folders if _is_part(folder)}
    if TRAIN in parts.values():
        found = [(each, code) for part, code in parts.items() for each in _folders(part)]
    else:
        found = [(folder, UNASSIGNED) for folder in folders]
    listed = [(folder, given, _pictures(folder)) for folder, given in found]
    listed = [row for row in listed if row[2]]
    if not listed:
        raise _explain(root, folders)
    for folder, _, _ in listed:
        if not folder.name.isprintable():
            raise SourceError(
                "class names of printable characters",
                f"{str(folder)!r} is named otherwise",
                "Rename the folder.",
            )
    classes = tuple(sorted({folder.name for folder, _, _ in listed}, key=natural))
    label = {name: index for index, name in enumerate(classes)}
    files = [file for _, _, pictures in listed for file in pictures]
    return Contents(
        source=str(root),
        classes=classes,
        labels=np.array([label[folder.name] for folder, _, p in listed for _ in p], np.int64),
        given=np.array([given for _, given, p in listed for _ in p], np.uint8),
        names=[file.relative_to(root).as_posix() for file in files],
        pictures=files,
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError(
            "a readable folder", f"{folder}: {reason}", "Check its rights."
        ) from error


def _folders(root: Path) -> list[Path]:
    folders = [entry for entry in _entries(root) if entry.is_dir()]
    return sorted((f for f in folders if not f.name.startswith(".")), key=lambda f: natural(f.name))


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        (
            entry
            for entry in _entries(folder)
            if entry.suffix.lower() in SUFFIXES
            and not entry.name.startswith(".")
            and entry.is_file()
        ),
        key=lambda entry: natural(entry.name),
    )


def _is_part(folder: Path) -> bool:
    """Tell a part of the split from a class that happens to be called "test"."""
    return folder.name.lower() in _PARTS and bool(_folders(folder))


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort numbers inside names by their value."""
    # isdecimal, not \d alone: int() refuses what some scripts use as digits in names.
    pieces = re.split(r"(\d+)", name)
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p.casefold()) for p in pieces if p)


def _explain(root: Path, folders: list[Path]) -> SourceError:
    loose = len(_pictures(root))
    if any(_is_part(folder) for folder in folders):
        received = f"{root} has a part of a split, and none called train"
        advice = "Put the training pictures into train/<class>."
    elif folders:
        names = ", ".join(folder.name for folder in folders[:5])
        received = f"{root} has the folders {names}, and none of them holds pictures"
        advice = f"Pictures end in {', '.join(SUFFIXES[:6])} …, one folder for each class."
    elif loose:
        received = f"{root} holds {loose:,} pictures and no folders"
        advice = "Sort a few into sub-folders first."
    else:
        received = f"{root} is empty" if not any(root.iterdir()) else f"{root} holds no pictures"
        advice = "Put pictures into one sub-folder for each class."
    return SourceError("a folder with one sub-folder for each class", received, advice)
