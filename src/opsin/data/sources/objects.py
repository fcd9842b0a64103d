"""Images that a program holds: data frames, data sets of Hugging Face's and of PyTorch's kind.

None of their libraries is imported here: an object is known by what it can do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from opsin.core.errors import ImageError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.images import open_image
from opsin.data.sources.contents import LocatedSource, Row
from opsin.data.sources.packed import labelled_rows
from opsin.data.sources.table_cells import TableSchema, class_name, image_of, text_of

# Rows that a data set hands over at a time.
_BATCH: Final = 64


def title_of(source: object) -> str:
    """Return what an object is called: the name of its type, with its library's."""
    kind = type(source)
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def located_object(
    source: Any, title: str, columns: Mapping[str, str] | None = None, *, watcher: Watcher = SILENT
) -> LocatedSource:
    """Take images that a program holds; they are read once, and kept in the cache."""
    parts = source if isinstance(source, Mapping) else {"": source}
    asked = columns or {}
    rows = (
        row._replace(split=row.split or split, reference=_own(row.reference))
        for name, part in parts.items()
        for split, row in _rows(part, str(name), title, asked, watcher)
    )
    return labelled_rows(
        title,
        rows,
        classes=next(filter(None, (_classes(p, title, asked) for p in parts.values())), ()),
        total=sum(map(_length, parts.values())),
        watcher=watcher,
    ).located()


def _own(image: str | Path | bytes) -> Path | bytes:
    return image if isinstance(image, bytes) else Path(image).expanduser()


def _length(part: Any) -> int:
    try:
        return len(part)
    except TypeError:  # it streams
        return 0


def _classes(part: Any, title: str, columns: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the names of an object's classes in their order, where it lists them."""
    if _is_hugging_face(part) and part.features is not None:
        schema = part.features.arrow_schema
        return TableSchema.of(schema.names, columns, title, metadata=schema.metadata).classes
    while part is not None:
        classes = getattr(part, "classes", None)
        if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
            return tuple(classes)
        part = getattr(part, "dataset", None)  # PyTorch's Subset
    return None


def _rows(
    part: Any, split: str, title: str, columns: Mapping[str, str], watcher: Watcher
) -> Iterator[tuple[str, Row]]:
    """Yield an object's images, by what it can do, each with the part that all of it is of."""
    if _is_hugging_face(part):
        metadata = part.features.arrow_schema.metadata if part.features is not None else None
        for table in part.with_format("arrow").iter(batch_size=_BATCH):
            schema = TableSchema.of(table.column_names, columns, title, metadata=metadata)
            cells = {ours: table[theirs].to_pylist() for ours, theirs in schema.columns.items()}
            for row in schema.rows(cells):
                yield split or str(part.split or ""), row
    elif hasattr(part, "columns") and hasattr(part, "__getitem__"):  # a data frame
        schema = TableSchema.of([str(name) for name in part.columns], columns, title)
        cells = {ours: part[theirs].to_list() for ours, theirs in schema.columns.items()}
        cells["path"] = map(_content_of, cells["path"])
        for row in schema.rows(cells):
            yield split, row
    elif (files := _listed_files(part)) is not None:
        classes = _classes(part, title, columns)
        for path, label in files:
            yield split, Row(path, class_name(text_of(label, "label"), classes))
    elif not isinstance(part, np.ndarray | str | bytes) and (
        hasattr(part, "__getitem__") or isinstance(part, Iterable)
    ):
        for row in _rows_of_items(part, title, _classes(part, title, columns), watcher):
            yield split, row
    else:
        raise SourceError(
            "a source, a data frame, or a data set of Hugging Face's or PyTorch's kind",
            f"got a {title}",
            "Arrays go in by opsin.from_arrays(images, labels).",
        )


def _rows_of_items(
    part: Any, title: str, classes: Sequence[str] | None, watcher: Watcher
) -> Iterator[Row]:
    if getattr(part, "transform", None) is not None:
        watcher.note(
            f"the transform of {title} was applied to each image once; what it draws at "
            "random is better left to Opsin, which draws anew each time"
        )
    items: Iterable[Any] = part
    if hasattr(part, "__len__") and hasattr(part, "__getitem__"):
        items = (part[row] for row in range(len(part)))
    for item in items:
        if isinstance(item, Mapping):
            item = tuple(item[key] for key in ("image", "img", "label", "labels") if key in item)  # noqa: PLW2901
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise SourceError(
                "items of an image and its class", f"{title} has others ({type(item).__name__})",
                "Give a data set whose items are (image, label).",
            )  # fmt: skip
        content, name = image_of(_content_of(item[0]), title)
        label = item[1]  # perhaps a small array of some library
        plain = label.item() if hasattr(label, "item") and getattr(label, "ndim", 1) == 0 else label
        yield Row(content, class_name(text_of(plain, "label").strip(), classes), name=name)


def _is_hugging_face(part: Any) -> bool:
    return hasattr(part, "features") and hasattr(part, "with_format")


def _listed_files(part: Any) -> list[tuple[str, int]] | None:
    """Return the files of a data set of torchvision's kind, which need not be decoded twice."""
    listed = getattr(part, "samples", None)
    pairs = isinstance(listed, list) and all(
        isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) for each in listed
    )
    return listed if listed and pairs else None


def _content_of(image: Any) -> Any:
    """Return an image of Pillow's or a tensor as an array; anything else as it is."""
    try:
        if isinstance(image, Image.Image):
            deep = image.mode.startswith("I;16")
            return np.asarray(image if deep else open_image(image, "an image")).astype(
                np.uint16 if deep else np.uint8
            )
    except ImageError as error:
        raise SourceError(error.expected, error.received, error.advice) from error
    if hasattr(image, "detach"):  # a tensor, whose channels come first
        array = image.detach().cpu().numpy()
        return np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    return str(image) if isinstance(image, Path) else image
