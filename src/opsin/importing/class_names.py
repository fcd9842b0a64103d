"""The names of the classes, as a file beside a network or in it says them; never invented."""

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

# What other programs call the file beside a network, in the order of looking.
_BESIDE: Final = (
    "labels.txt", "class_names.json", "class_names.txt", "classes.txt", "classes.json",
    "metadata.json", "config.json",
)  # fmt: skip
# Where such a file, or the network's own, keeps them.
_KEYS: Final = ("labels", "class_names", "classes", "names", "id2label", "label_names")
_LARGEST: Final = 8 << 20


def names_from(path: Path) -> tuple[str, ...]:
    """Return the names in a text or JSON file, or those of a folder's sub-folders, sorted."""
    try:
        if path.is_dir():
            found = tuple(sorted(each.name for each in path.iterdir()
                                 if each.is_dir() and not each.name.startswith(".")))  # fmt: skip
        else:
            found = _read(path) or ()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RecipeError(f"{path} cannot be read ({reason})") from error
    if not found:
        raise RecipeError(
            f"{path} names no classes: it is no folder with a sub-folder for each class, no text "
            "with a name a line, and no JSON with labels",
            "Say them: --classes a,b,c, in the order of the network's answers.",
        )
    return found


def names_beside(path: Path) -> tuple[tuple[str, ...], str] | None:
    """Return the names that a file beside a network says, and which; ``None`` where none does."""
    for name in _BESIDE:
        with contextlib.suppress(OSError):
            if found := _read(path.parent / name):
                return found, name
    return None


def names_in(properties: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the names that travel in an ONNX file; ``None`` where there are none."""
    for text in filter(None, map(properties.get, _KEYS)):
        found = _names(_parsed(text)) if len(text) <= _LARGEST else None
        if found is None and "," in text and "{" not in text:
            found = tuple(part.strip() for part in text.split(","))
        if found:
            return found
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
            given = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(given, dict):
            given = next((given[key] for key in _KEYS if key in given), None)
        return _names(given)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [re.match(r"(\d+)[\s:,]+(.+)", line) for line in lines]
    if all(each and int(each[1]) == place for place, each in enumerate(numbered)):
        return tuple(str(each[2]).strip() for each in numbered if each)
    return tuple(lines)


def _parsed(text: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return ast.literal_eval(text)
    return None


def _names(given: Any) -> tuple[str, ...] | None:
    if isinstance(given, list | tuple):
        return tuple(map(str, given)) if all(isinstance(e, str | int) for e in given) else None
    if not isinstance(given, dict) or not given:
        return None
    if all(isinstance(value, int) for value in given.values()):
        given = {value: key for key, value in given.items()}
    try:
        places = {int(key): str(value) for key, value in given.items()}
    except (ValueError, TypeError):
        return None
    if sorted(places) != list(range(len(places))):
        return None
    return tuple(places[place] for place in range(len(places)))
