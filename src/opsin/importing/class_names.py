"""Class names from a network's file or from one beside it; never invented."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import RecipeError
from opsin.core.files import open_regular

# Names of files beside a network in other programs, in the order of looking.
_BESIDE: Final = (
    "labels.txt", "class_names.json", "class_names.txt", "classes.txt", "classes.json",
    "metadata.json", "config.json",
)  # fmt: skip
# Their keys in such a file or in the network's metadata.
_KEYS: Final = ("labels", "class_names", "classes", "names", "id2label", "label_names")
_LARGEST: Final = 8 << 20


def names_from(path: Path) -> tuple[str, ...]:
    """Return the names in a text or JSON file, or those of a folder's sub-folders, sorted."""
    try:
        if path.is_dir():
            folders = (item.name for item in path.iterdir() if item.is_dir())
            names = tuple(sorted(name for name in folders if not name.startswith(".")))
        else:
            names = _read(path) or ()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RecipeError(f"{path} cannot be read ({reason})") from error
    if not names:
        raise RecipeError(
            f"{path} names no classes: it is no folder with a sub-folder for each class, no text "
            "with a name a line, and no JSON with labels",
            "Say them: --classes a,b,c, in the order of the network's answers.",
        )
    return names


def names_beside(path: Path) -> tuple[tuple[str, ...], str] | None:
    """Return the names in a file beside a network, and the file's name, if there is one."""
    for name in _BESIDE:
        with contextlib.suppress(OSError):
            if names := _read(path.parent / name):
                return names, name
    return None


def names_in(properties: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the names in an ONNX file's metadata, if there are any."""
    for text in filter(None, map(properties.get, _KEYS)):
        names = _names(_parsed(text)) if len(text) <= _LARGEST else None
        if names is None and "," in text and "{" not in text:
            names = tuple(part.strip() for part in text.split(","))
        if names:
            return names
    return None


def _read(path: Path) -> tuple[str, ...] | None:
    """Read JSON, or a name a line, also with numbers before them as Teachable Machine has it."""
    with open_regular(path) as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        return None
    text = content.decode("utf-8-sig", "replace")
    if path.suffix == ".json":
        try:
            stated = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(stated, dict):
            stated = next((stated[key] for key in _KEYS if key in stated), None)
        return _names(stated)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [re.match(r"(\d+)[\s:,]+(.+)", line) for line in lines]
    if all(match and int(match[1]) == index for index, match in enumerate(numbered)):
        return tuple(str(match[2]).strip() for match in numbered if match)
    return tuple(lines)


def _parsed(text: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return ast.literal_eval(text)
    return None


def _names(stated: Any) -> tuple[str, ...] | None:
    if isinstance(stated, list | tuple):
        return tuple(map(str, stated)) if all(isinstance(e, str | int) for e in stated) else None
    if not isinstance(stated, dict) or not stated:
        return None
    if all(isinstance(value, int) for value in stated.values()):
        stated = {value: key for key, value in stated.items()}
    try:
        names = {int(key): str(value) for key, value in stated.items()}
    except (ValueError, TypeError):
        return None
    if sorted(names) != list(range(len(names))):
        return None
    return tuple(names[index] for index in range(len(names)))
