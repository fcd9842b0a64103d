"""Classes that a labelling tool wrote: exports of COCO's form, or of Label Studio."""

from __future__ import annotations

import contextlib
import os
import re
import urllib.parse
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import SourceError
from opsin.core.files import open_regular
from opsin.core.stored_json import Json, read_json
from opsin.data.sources.contents import Files, LocatedSource
from opsin.data.sources.rows import Row, RowCollector
from opsin.data.sources.source_kind import SourceKind, SourceRequest
from opsin.data.sources.table import check_any_exists, name_of
from opsin.data.split import part_named

# Where COCO's form lies in the folders that Roboflow exports.
_COCO: Final = "_annotations.coco.json"
# Label Studio puts this before the names of files that were uploaded to it.
_UPLOAD: Final = re.compile(r"[0-9a-f]{8}-(?=.)")

#: The classes of each image in an export, with its file as the export names it.
_Annotations = list[tuple[str, set[str]]]


def _read_coco(content: Json) -> _Annotations | None:
    if not isinstance(content, dict) or not {"images", "categories"} <= set(content):
        return None
    names = {each["id"]: str(each["name"]) for each in _objects(content["categories"])}
    classes: dict[Any, set[str]] = {}
    for each in _objects(content.get("annotations") or []):
        classes.setdefault(each["image_id"], set()).add(names[each["category_id"]])
    images = _objects(content["images"])
    return [(str(each["file_name"]), classes.get(each["id"], set())) for each in images]


def _read_label_studio(content: Json) -> _Annotations | None:
    """Return the choices made for each image in a JSON export of Label Studio, short or full."""
    if not isinstance(content, list) or not content:
        return None
    read = []
    for task in _objects(content):
        values, choices = task, set()
        if isinstance(task.get("data"), dict):
            values = task["data"]
        elif (choice := task.get("choice", task.get("label"))) is not None:
            choices = {str(choice)}  # the short form: one key each
        for each in _objects(task.get("annotations") or task.get("completions") or []):
            for result in [] if each.get("was_cancelled") else _objects(each.get("result") or []):
                if result.get("type") == "choices":
                    choices.update(map(str, result["value"]["choices"]))
        texts = (value for value in values.values() if isinstance(value, str))
        image = next((text for text in texts if "/" in text or "." in text), None)
        if image is None:
            return None
        read.append((image, choices))
    return read


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
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
        raise SourceError(
            f"{path.name} is no export of classes from COCO or Label Studio",
            "Export it as CSV with the columns path and label, or as a folder for each class.",
        )
    return annotations


def _files_of(request: SourceRequest) -> list[tuple[Path, str]]:
    """The exports that a source means, with the part of each."""
    path = request.path
    if request.is_file:
        return [(path, "")] if path.suffix.lower() == ".json" else []
    if not request.is_folder:
        return []
    folders = [(path, "")]
    with contextlib.suppress(OSError):  # what cannot be read is explained by others
        parts = [(code, entry) for entry in path.iterdir()
                 if (code := part_named(entry.name)) is not None and entry.is_dir()]  # fmt: skip
        folders += [(entry, entry.name) for _, entry in sorted(parts)]
    return [(folder / _COCO, part) for folder, part in folders if (folder / _COCO).is_file()]


def _locate(request: SourceRequest) -> LocatedSource:
    files = _files_of(request)
    root = request.path if request.is_folder else request.path.parent
    rows, inside = RowCollector(), request.allowed(root)
    for file, part in files:
        for line, (image, classes) in enumerate(_annotations_in(file), start=1):
            if len(classes) > 1:
                rows.passed.add("image with several classes", image)
            elif not any(classes):
                rows.passed.add("image without a class", image)
            else:
                name = name_of(_place_of(image, file, root), root / "_", line, inside)
                rows.add(Row(name, next(iter(classes)), part, name=name))
    if not rows.names:
        raise SourceError(f"{request.written} has no images with a class each", "Export more.")
    images = Files(root, rows.names)
    check_any_exists(images, request.path)
    contents = rows.labelled(request.written, images)
    return contents.located_by_files(*[file for file, _ in files], about="annotations")


def _place_of(written: str, file: Path, root: Path) -> str:
    """Where an image lies below the root: as written, or in a folder called images."""
    address = urllib.parse.urlsplit(written)
    path = written
    if address.scheme or address.path != written:
        path = urllib.parse.unquote(address.path)
    query = urllib.parse.parse_qs(address.query).get("d", [])  # Label Studio's local files
    path = query[0] if query else path
    base = os.path.relpath(file.parent, root)
    last = path.rpartition("/")[2]
    own = _UPLOAD.sub("", last, count=1)
    names = (path.lstrip("/"), f"images/{path}", f"images/{last}", last, f"images/{own}", own)
    places = [os.path.normpath(os.path.join(base, name)) for name in filter(None, names)]  # noqa: PTH118
    return next((place for place in places if os.path.isfile(root / place)), places[0])  # noqa: PTH113


def _is_usable(request: SourceRequest) -> bool:
    try:
        return request.path.suffix.lower() == ".json" and any(
            len(classes) == 1 for _, classes in _annotations_in(request.path)
        )
    except SourceError:
        return False


KINDS = (
    SourceKind(
        title="an export of a labelling tool (.json)",
        match=lambda request: bool(_files_of(request)),
        match_packed=_is_usable,
        files=("*.json",),
        locate=_locate,
    ),
)
