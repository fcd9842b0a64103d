"""Interpretation of a table's columns and cells: images in any form, class names, text."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from opsin.core.errors import ImageError, SourceError
from opsin.data.pixel_values import image_from_array
from opsin.data.sources.rows import Row

#: Columns of a table; the first two are required.
COLUMNS: Final = ("path", "label", "split", "group")
#: Names by which a column is recognised.
USUAL: Final = {
    "path": ("path", "file_name", "image", "img"), "label": ("label", "labels"),
    "split": ("split",), "group": ("group",),
}  # fmt: skip
# Types of columns in Hugging Face's library.
_TYPES: Final = {"path": "Image", "label": "ClassLabel"}


@dataclass(frozen=True)
class TableSchema:
    """A table's own names of our columns, and its list of classes."""

    columns: Mapping[str, str]
    classes: tuple[str, ...] | None

    @classmethod
    def of(
        cls,
        there: Sequence[str],
        asked: Mapping[str, str],
        source: object,
        *,
        needed: Sequence[str] = COLUMNS[:2],
        usual: Mapping[str, Sequence[str]] = USUAL,
        metadata: Mapping[bytes, bytes] | None = None,
    ) -> TableSchema:
        """Find the columns: as requested, by Hugging Face's features, or by name."""
        features: dict[str, Any] = {}
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            stated = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
            features = {name: about for name, about in stated.items() if isinstance(about, dict)}
        columns: dict[str, str] = {}
        missing = []
        for ours in COLUMNS:
            named = [name for name in usual[ours] if name in there]
            typed = [name for name, about in features.items()
                     if ours in _TYPES and about.get("_type") == _TYPES[ours]]  # fmt: skip
            both = [name for name in named if name in typed]
            guesses = (both, named[:1], typed)
            theirs = asked.get(ours) or next((g[0] for g in guesses if len(g) == 1), None)
            if theirs is not None and there.count(theirs) > 1:
                raise SourceError(f"{source} has the column {theirs} more than once")
            if theirs is not None and theirs in there:
                columns[ours] = theirs
            elif ours in asked or ours in needed:
                missing.append(theirs or ours)
        if missing:
            raise SourceError(
                f"{source} has no column {' and no column '.join(missing)}, but "
                f"{', '.join(filter(None, there[:20])) or 'none at all'}",
                "Say which is which with --columns, such as path=file,label=species.",
            )
        names = features.get(columns.get("label", ""), {}).get("names")
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return cls(columns, tuple(names) if names and listed else None)

    def rows(self, cells: Mapping[str, Iterable[Any]]) -> Iterator[Row]:
        """Yield the rows of columns: images as the content of a file, or as paths."""
        for values in zip(*cells.values(), strict=True):
            row = dict(zip(cells, values, strict=True))
            image, name = image_of(row.pop("path"), self.columns["path"])
            label, split, group = (text_of(row.get(n), n).strip() for n in COLUMNS[1:])
            yield Row(image, class_name(label, self.classes), split, group, name)


def image_of(value: Any, column: str) -> tuple[bytes | str, str]:
    """Return a cell's image, as the content of a file or as a path, and its name."""
    if isinstance(value, Mapping) and {"bytes", "path"} >= set(value):
        path = str(value.get("path") or "")
        if value.get("bytes") is not None:
            return image_of(value["bytes"], column)[0], path
        return path or b"", path
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), ""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value), os.fspath(value)
    if isinstance(value, list | np.ndarray):
        return _plain_file(value, column), ""
    if _is_missing(value):
        return b"", ""
    raise SourceError(
        f"The column {column} holds a {type(value).__name__}, and no paths, files or arrays",
        "Choose the column of images with --columns path=NAME.",
    )


def _plain_file(value: Any, column: str) -> bytes:
    """Encode an array as PGM or PPM, with 16 bits for ``uint16``."""
    try:
        array = np.array(value)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[:, :, 0]
        deep = array.dtype == np.uint16 and array.ndim in (2, 3) and array.size
        if not deep or array.shape[2:] not in ((), (3,)):
            image, _ = image_from_array(array, f"an image of the column {column}")
            array = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except ImageError as error:
        raise SourceError(error.message, error.advice) from error
    except ValueError as error:
        raise SourceError(f"An array of the column {column} has rows of several lengths") from error
    kind, white = "P5" if array.ndim == 2 else "P6", np.iinfo(array.dtype).max
    head = f"{kind} {array.shape[1]} {array.shape[0]} {white}\n"
    return head.encode() + array.astype(array.dtype.newbyteorder(">")).tobytes()


def _is_missing(value: Any) -> bool:
    """Tell whether a cell is missing: ``None``, NaN, NaT, or pandas' NA."""
    try:
        return value is None or bool(value != value)  # noqa: PLR0124  these equal not even themselves
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"  # which refuses to be true or false


def text_of(value: Any, column: str, where: str = "A cell is") -> str:
    """Return a cell as text; whole numbers and booleans are class names, too."""
    if isinstance(value, str):
        # Half of a surrogate pair names no file.
        with contextlib.suppress(UnicodeEncodeError):
            os.fsencode(value)
            if "\0" not in value:
                return value
    elif _is_missing(value):
        return ""
    elif isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    elif isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    elif isinstance(value, int | float | np.number):
        return str(value)
    raise SourceError(f"{where} {value!r:.60}; text or a number is expected as {column}")


def class_name(written: str, classes: Sequence[str] | None) -> str:
    """Return a class's name, which may be written as its number in a list."""
    if classes is None or written in classes or not written.lstrip("-").isdecimal():
        return written
    if written == "-1":
        return ""
    if int(written) not in range(len(classes)):
        raise SourceError(f"A row has the class {written}, and the table names {len(classes)}")
    return classes[int(written)]
