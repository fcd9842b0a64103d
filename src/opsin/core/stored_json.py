"""JSON: results as plain data, text from it, and untrusted files."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

if TYPE_CHECKING:
    from pydantic import ValidationError

#: Any JSON value.
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"

#: Most bytes of a file: twice a report on 1,500 classes.
MOST: Final = 64 << 20
# Most bytes of a file's text and objects together.
_MEMORY: Final = 448 << 20


def json_text(content: object, *, indent: int | None = None, compact: bool = False) -> str:
    """Content as JSON, not escaped to ASCII; non-finite numbers become null."""
    encoder = json.JSONEncoder(
        ensure_ascii=False,
        allow_nan=False,
        indent=indent,
        separators=(",", ":") if compact else None,
    )
    try:
        return encoder.encode(content)
    except ValueError:
        return encoder.encode(_with_null(content))


def _with_null(content: object) -> object:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _with_null(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_with_null(value) for value in content]
    return content


def plain_data(value: Any, digits: int | None = None) -> Any:
    """Return a JSON value: lists for arrays, numbers of Python for NumPy's, texts for paths.

    An object is written as the attributes that its ``JSON`` names, ``"row class=label.name"`` with
    ``label.name`` as ``class``, and its numbers to ``DIGITS`` significant digits.
    """
    if hasattr(value, "JSON"):
        digits = getattr(value, "DIGITS", None)
        pairs = (name.partition("=")[::2] for name in value.JSON.split())
        return {key: plain_data(attrgetter(path or key)(value), digits) for key, path in pairs}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: plain_data(item, digits) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy's
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain_data(item, digits) for item in value]
    if isinstance(value, float) and digits is not None:
        return float(f"{value:.{digits}g}")
    return str(value) if isinstance(value, Path) else value


def read_json(file: BinaryIO) -> Json:
    """Read a file of JSON, or raise `ValueError`."""
    return _parsed(_content(file).decode("utf-8"))


def read_json_lines(file: BinaryIO) -> list[Json]:
    """Read JSON lines; ``None`` is one that is broken, perhaps cut by a crash."""
    values: list[Json] = []
    for line in _content(file).splitlines():
        values.append(None)
        with contextlib.suppress(ValueError):
            values[-1] = _parsed(line.decode("utf-8", "replace"))
    return values


def _content(file: BinaryIO) -> bytes:
    # Huge files are refused unread. A few megabytes of brackets become gigabytes of objects, so
    # the bytes of the text's characters and of the parsed objects are estimated.
    if os.fstat(file.fileno()).st_size > MOST or len(content := file.read(MOST + 1)) > MOST:
        raise ValueError(f"it is longer than {MOST >> 20} MB")
    memory = len(content) * (1 if content.isascii() else 4)
    memory += 64 * (content.count(b"[") + content.count(b"{"))
    memory += 32 * content.count(b'"') + 40 * content.count(b",")
    if memory > _MEMORY:
        raise ValueError("it holds more than such a file does")
    return content


def _parsed(text: str) -> Json:
    try:
        content: Json = json.loads(text, parse_constant=finite, parse_float=finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return content


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first field that is wrong, and why; without its value, which is untrusted."""
    first = error.errors(include_url=False, include_input=False)[0]
    rule = first["msg"].removeprefix("Value error, ")
    return ".".join(map(str, first["loc"])), rule[:1].lower() + rule[1:]


def finite(text: str) -> float:
    """Read a number of a JSON text, or raise `ValueError`."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"it holds {text}, which is no number")
    return number
