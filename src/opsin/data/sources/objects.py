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
from opsin.data.sources.contents import LocatedSource, located
from opsin.data.sources.packed import Record, labelled_records
from opsin.data.sources.table_cells import TableSchema, class_name, image_of, text_of

# Rows that a data set hands over at a time.
_BATCH: Final = 64


def title_of(source: object) -> str:
    """Return what an object is called: the name of its type, with its library's.

    Example:
        >>> title_of(np.zeros(3))
        'numpy.ndarray'
    """
    kind = type(source)
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def located_object(
    source: Any,
    title: str,
    columns: Mapping[str, str] | None = None,
    *,
    watcher: Watcher = SILENT,
) -> LocatedSource:
    """Take images that a program holds; they are read once, and kept in the cache.

    Args:
        source: A data frame of pandas or Polars; a data set of Hugging Face's ``datasets``, whole,
            one part of it, or streamed; a ``Dataset`` of PyTorch's kind, whose items are an image
            and a class; or a mapping from the names of parts to any of these.
        title: What to call it.
        columns: Names of a table's columns by ours, where they differ.
        watcher: Receives the progress of the work.

    Raises:
        SourceError: It is something else, or its rows are no images with classes.
    """
    parts = source if isinstance(source, Mapping) else {"": source}
    reader = _ObjectReader(title, columns or {}, watcher)
    contents = labelled_records(
        title,
        (record for split, part in parts.items() for record in reader.records(part, str(split))),
        classes=next(filter(None, map(reader.classes, parts.values())), None),
        total=sum(_length(part) for part in parts.values()),
        watcher=watcher,
    )
    return located(contents)


def _length(part: Any) -> int:
    try:
        return len(part)
    except TypeError:  # it streams
        return 0


def _classes_of(part: Any) -> tuple[str, ...] | None:
    """Return the names of its classes in their order, where it has a list of them."""
    while part is not None:
        classes = getattr(part, "classes", None)
        if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
            return tuple(classes)
        part = getattr(part, "dataset", None)  # PyTorch's Subset
    return None


class _ObjectReader:
    """Reads the images of objects as records."""

    def __init__(self, title: str, columns: Mapping[str, str], watcher: Watcher) -> None:
        self._title = title
        self._columns = columns
        self._watcher = watcher

    def records(self, part: Any, split: str) -> Iterator[Record]:
        """Yield an object's images, by what it can do.

        Raises:
            SourceError: It is none that is known.
        """
        if _is_hugging_face(part):
            return self._of_hugging_face(part, split)
        if hasattr(part, "columns") and hasattr(part, "__getitem__"):
            return self._of_frame(part, split)
        if (files := _listed_files(part)) is not None:
            return self._of_files(files, _classes_of(part), split)
        streams = hasattr(part, "__getitem__") or isinstance(part, Iterable)
        if streams and not isinstance(part, np.ndarray | str | bytes):
            return self._of_items(part, split)
        raise SourceError(
            "a source, a data frame, or a data set of Hugging Face's or PyTorch's kind",
            f"got a {self._title}",
            "Arrays go in by opsin.from_arrays(images, labels).",
        )

    def classes(self, part: Any) -> tuple[str, ...] | None:
        """Return the names of an object's classes in their order, where it lists them."""
        if _is_hugging_face(part) and part.features is not None:
            schema = part.features.arrow_schema
            return TableSchema.of(
                schema.names, self._columns, self._title, metadata=schema.metadata
            ).classes
        return _classes_of(part)

    def _of_hugging_face(self, part: Any, split: str) -> Iterator[Record]:
        metadata = part.features.arrow_schema.metadata if part.features is not None else None
        for table in part.with_format("arrow").iter(batch_size=_BATCH):
            names = table.column_names
            schema = TableSchema.of(names, self._columns, self._title, metadata=metadata)
            cells = {ours: table[theirs].to_pylist() for ours, theirs in schema.columns.items()}
            yield from _rows(schema, cells, split or str(part.split or ""))

    def _of_frame(self, part: Any, split: str) -> Iterator[Record]:
        schema = TableSchema.of([str(name) for name in part.columns], self._columns, self._title)
        yield from _rows(
            schema, {ours: part[theirs].to_list() for ours, theirs in schema.columns.items()}, split
        )

    def _of_files(
        self, files: Sequence[tuple[str, int]], classes: Sequence[str] | None, split: str
    ) -> Iterator[Record]:
        for path, label in files:
            yield Record(Path(path), class_name(text_of(label, "label"), classes), split)

    def _of_items(self, part: Any, split: str) -> Iterator[Record]:
        if getattr(part, "transform", None) is not None:
            self._watcher.note(
                f"the transform of {self._title} was applied to each image once; what it draws at "
                "random is better left to Opsin, which draws anew each time"
            )
        classes = _classes_of(part)
        items: Iterable[Any] = part
        if hasattr(part, "__len__") and hasattr(part, "__getitem__"):
            items = (part[row] for row in range(len(part)))
        for item in items:
            image, label = _pair(item, self._title)
            content, name = image_of(_content_of(image), self._title)
            own = content if isinstance(content, bytes) else Path(content).expanduser()
            yield Record(own, class_name(text_of(_plain(label), "label"), classes), split, "", name)


def _rows(schema: TableSchema, cells: Mapping[str, Sequence[Any]], split: str) -> Iterator[Record]:
    for image, said in schema.rows({**cells, "path": map(_content_of, cells["path"])}):
        yield Record(
            image if isinstance(image, bytes) else Path(image).expanduser(),
            said.get("label", ""), said.get("split") or split, said.get("group", ""),
            said["name"],
        )  # fmt: skip


def _is_hugging_face(part: Any) -> bool:
    return hasattr(part, "features") and hasattr(part, "with_format")


def _listed_files(part: Any) -> list[tuple[str, int]] | None:
    """Return the files of a data set of torchvision's kind, which need not be decoded twice."""
    listed = getattr(part, "samples", None)
    if (
        isinstance(listed, list)
        and listed
        and all(
            isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str)
            for each in listed
        )
    ):
        return listed
    return None


def _pair(item: Any, title: str) -> tuple[Any, Any]:
    """Return the image and the class of an item."""
    if isinstance(item, Mapping):
        named = [item[key] for key in ("image", "img", "label", "labels") if key in item]
        item = tuple(named)
    if isinstance(item, list | tuple) and len(item) == 2:
        return item[0], item[1]
    raise SourceError(
        "items of an image and its class", f"{title} has others ({type(item).__name__})",
        "Give a data set whose items are (image, label).",
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """Return a number or a small array of any library as Python's or NumPy's."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


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
    if isinstance(image, Path):
        return str(image)
    return image
