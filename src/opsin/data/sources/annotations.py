"""Exports of labelling tools: COCO's format, and Label Studio's."""

from __future__ import annotations

import contextlib
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import SourceError
from opsin.core.files import open_regular
from opsin.core.stored_json import Json, read_json
from opsin.data.image_tree import LeftOutCounts
from opsin.data.sources.contents import LocatedSource
from opsin.data.sources.rows import Row, SourceKind, SourceRequest, collect
from opsin.data.sources.table import name_of
from opsin.data.split import part_named

# COCO's file in folders that Roboflow exports.
_COCO: Final = "_annotations.coco.json"
# Label Studio puts this before the names of files that were uploaded to it.
_UPLOAD: Final = re.compile(r"[0-9a-f]{8}-(?=.)")

#: Each image's file, as the export names it, and classes.
_Annotations = list[tuple[str, set[str]]]


def _read_coco(content: Json) -> _Annotations | None:
    if not isinstance(content, dict) or not {"images", "categories"} <= set(content):
        return None
    names = {category["id"]: str(category["name"]) for category in _objects(content["categories"])}
    classes: dict[Any, set[str]] = {}
    for note in _objects(content.get("annotations")):
        classes.setdefault(note["image_id"], set()).add(names[note["category_id"]])
    images = _objects(content["images"])
    return [(str(image["file_name"]), classes.get(image["id"], set())) for image in images]


def _read_label_studio(content: Json) -> _Annotations | None:
    if not isinstance(content, list) or not content:
        return None
    read = []
    for task in _objects(content):
        values, choices = task, set()
        if isinstance(task.get("data"), dict):
            values = task["data"]
        elif (choice := task.get("choice", task.get("label"))) is not None:
            choices = {str(choice)}  # the short form: one key each
        for annotation in _objects(task.get("annotations")):
            if not annotation.get("was_cancelled"):
                for result in _objects(annotation.get("result")):
                    if result.get("type") == "choices":
                        choices.update(map(str, result["value"]["choices"]))
        texts = (value for value in values.values() if isinstance(value, str))
        image = next((text for text in texts if "/" in text or "." in text), None)
        if image is None:
            return None
        read.append((image, choices))
    return read


def _objects(value: Any) -> list[dict[str, Any]]:
    value = value or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("a list holds something else than objects")
    return value


def _annotations_in(path: Path) -> _Annotations:
    try:
        with open_regular(path) as file:
            content = read_json(file)
        annotations = _read_coco(content)
        annotations = _read_label_studio(content) if annotations is None else annotations
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{path.name} cannot be used ({reason})", "Export it again.") from error
    if annotations is None:
        problem = f"{path.name} is no export of classes from COCO or Label Studio"
        raise SourceError(problem, "Export it as CSV with path and label, or a folder a class.")
    return annotations


def _files_of(request: SourceRequest) -> list[tuple[Path, str]]:
    path = request.path
    if request.is_file:
        return [(path, "")] if path.suffix.lower() == ".json" else []
    folders = [(0, path)]
    with contextlib.suppress(OSError, ValueError):  # other kinds explain an unreadable folder
        folders += sorted(
            (code, entry)
            for entry in path.iterdir()
            if (code := part_named(entry.name)) is not None
        )
    exports = ((folder / _COCO, folder.name if code else "") for code, folder in folders)
    return [(file, part) for file, part in exports if os.path.isfile(file)]  # noqa: PTH113


def _locate(request: SourceRequest) -> LocatedSource:
    files = _files_of(request)
    root = request.path if request.is_folder else request.path.parent
    passed, inside = LeftOutCounts(), request.allowed(root)

    def rows() -> Iterator[Row]:
        for file, part in files:
            for line, (image, classes) in enumerate(_annotations_in(file), start=1):
                if len(classes) > 1:
                    passed.add("image with several classes", image)
                    continue
                name = name_of(_path_of(image, file, root), root / "_", line, inside)
                path = os.path.join(os.path.abspath(root), name)  # noqa: PTH100, PTH118
                yield Row(path, next(iter(classes), ""), part, name=name)

    return collect(request.written, rows(), passed).located()


def _path_of(written: str, file: Path, root: Path) -> str:
    """Return an image's path below the root: as written, or in a folder called images."""
    address = urllib.parse.urlsplit(written)
    path = written if address.path == written else urllib.parse.unquote(address.path)
    # Label Studio's local files
    path = urllib.parse.parse_qs(address.query).get("d", [path])[0]
    base, last = os.path.relpath(file.parent, root), path.rpartition("/")[2]
    clean = _UPLOAD.sub("", last, count=1)
    names = (path.lstrip("/"), f"images/{path}", f"images/{last}", last, f"images/{clean}", clean)
    paths = [os.path.normpath(os.path.join(base, name)) for name in filter(None, names)]  # noqa: PTH118
    return next((path for path in paths if os.path.isfile(root / path)), paths[0])  # noqa: PTH113


def _is_usable(request: SourceRequest) -> bool:
    with contextlib.suppress(SourceError):
        return request.path.suffix.lower() == ".json" and any(
            len(classes) == 1 for _, classes in _annotations_in(request.path)
        )
    return False


KINDS = (
    SourceKind(
        "an export of a labelling tool (.json)", lambda request: bool(_files_of(request)), _locate,
        match_packed=_is_usable, files=("*.json",),
    ),
)  # fmt: skip
