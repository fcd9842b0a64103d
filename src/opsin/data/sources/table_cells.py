"""What the cells of a table say: which columns hold what, images in any form, names of classes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from opsin.core.errors import ImageError, SourceError
from opsin.data.array_image import image_from_array
from opsin.data.sources.table import COLUMNS

# Names under which a column of images or of classes is known without being asked for.
_USUAL: Final = {
    "path": ("path", "file_name", "image", "img"),
    "label": ("label", "labels"),
    "split": ("split",),
    "group": ("group",),
}


#: What a row says of its image, by our names.
TextCells = dict[str, str]


@dataclass(frozen=True)
class TableSchema:
    """The table's own names of our columns, and its list of classes, where it has one."""

    columns: Mapping[str, str]
    classes: tuple[str, ...] | None

    @classmethod
    def of(
        cls,
        there: Sequence[str],
        asked: Mapping[str, str],
        source: str,
        *,
        metadata: Mapping[bytes, bytes] | None = None,
        labelled: bool = True,
    ) -> TableSchema:
        """Find the columns: as asked for, by the features of Hugging Face's data sets, by name."""
        features: dict[str, Any] = {}
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            said = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
            features = {name: about for name, about in said.items() if isinstance(about, dict)}
        found = {}
        for ours in COLUMNS:
            theirs = _column(ours, there, asked, features)
            if theirs is not None and there.count(theirs) == 1:
                found[ours] = theirs
        missing = [ours for ours in ("path", "label")[: 1 + labelled] if ours not in found]
        if missing or any(asked[ours] not in found.values() for ours in asked):
            raise SourceError(
                "a column of images and one of classes" if labelled else "a column of images",
                f"{source} has {', '.join(there[:20]) or 'none'}",
                "Say which is which with --columns, such as path=photo,label=species.",
            )
        names = features.get(found.get("label", ""), {}).get("names")
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return cls(found, tuple(names) if names and listed else None)

    def rows(self, cells: Mapping[str, Iterable[Any]]) -> Iterator[tuple[bytes | str, TextCells]]:
        """Yield each row's image, as a file's content or a path, and its texts by our names."""
        for values in zip(*cells.values(), strict=True):
            row = dict(zip(cells, values, strict=True))
            image, name = image_of(row.pop("path"), self.columns["path"])
            said = {ours: text_of(value, ours) for ours, value in row.items()}
            if "label" in said:
                said["label"] = class_name(said["label"], self.classes)
            yield image, {"name": name, **said}


def _column(
    ours: str, there: Sequence[str], asked: Mapping[str, str], features: Mapping[str, Any]
) -> str | None:
    """Return which column one of ours is; ``None`` where none is, or several may be."""
    if ours in asked:
        return asked[ours] if asked[ours] in there else None
    kind = {"path": "Image", "label": "ClassLabel"}.get(ours)
    usual = [name for name in _USUAL[ours] if name in there]
    typed = [name for name, about in features.items() if kind and about.get("_type") == kind]
    for found in ([name for name in usual if name in typed], usual[:1], typed):
        if len(found) == 1:
            return found[0]
    return None


def image_of(value: Any, column: str) -> tuple[bytes | str, str]:
    """Return what a cell holds, as the content of a file or as a path; and its name."""
    if isinstance(value, Mapping) and {"bytes", "path"} >= set(value):
        path = str(value.get("path") or "")
        if value.get("bytes") is not None:
            return image_of(value["bytes"], column)[0], path
        return (path, path) if path else (b"", "")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), ""
    if isinstance(value, str):
        return value, value
    if isinstance(value, list | np.ndarray):
        return _plain_file(value, column), ""
    if _is_missing(value):
        return b"", ""
    raise SourceError(
        "images as paths, as the bytes of files or as arrays",
        f"{column} holds a {type(value).__name__}",
        "Choose the column of images with --columns path=NAME.",
    )


def _plain_file(value: Any, column: str) -> bytes:
    """Return an array as a file of PGM or PPM, of 16 bits where its type has as many."""
    try:
        array = np.array(value)
        if array.dtype == np.uint16 and array.ndim in (2, 3) and array.size:
            grey = array.ndim == 2 or array.shape[2] == 1
            if grey or array.shape[2] == 3:
                head = f"P{5 if grey else 6} {array.shape[1]} {array.shape[0]} 65535\n"
                return head.encode() + array.astype(">u2").tobytes()
        image, _ = image_from_array(array, f"an image of the column {column}")
    except ImageError as error:
        raise SourceError(error.expected, error.received, error.advice) from error
    except ValueError as error:
        raise SourceError(
            "arrays [H, W] or [H, W, C]", f"{column} has rows of different lengths", "Mend them."
        ) from error
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    kind = "P5" if image.mode == "L" else "P6"
    return f"{kind} {image.width} {image.height} 255\n".encode() + image.tobytes()


def _is_missing(value: Any) -> bool:
    """Tell what data frames have for nothing: ``None``, NaN, NaT, and pandas' NA."""
    try:
        return value is None or bool(value != value)  # noqa: PLR0124  these equal not even themselves
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"  # which refuses to be true or false


def text_of(value: Any, column: str) -> str:
    """Return a cell as text: whole numbers and truth values are names of classes, too."""
    if _is_missing(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, int | float | np.number):
        return str(value)
    if isinstance(value, str) and "\0" not in value:
        return value.strip()
    raise SourceError(
        f"text or a number as {column}", f"got {value!r:.60}", "Write the name of the class."
    )


def class_name(written: str, classes: Sequence[str] | None) -> str:
    """Return the name of a class that may be written as its number in a list of them."""
    if classes is None or written in classes or not written.lstrip("-").isdecimal():
        return written
    if written == "-1":
        return ""
    if int(written) not in range(len(classes)):
        raise SourceError(
            f"classes from 0 to {len(classes) - 1}, as the table names them",
            f"a row has {written}",
            "Mend the table.",
        )
    return classes[int(written)]
