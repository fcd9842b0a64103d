"""Classes that a labelling tool wrote: exports of COCO's form, Label Studio, CVAT and Roboflow."""

from __future__ import annotations

import contextlib
import os
import re
import urllib.parse
import xml.parsers.expat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import SourceError
from opsin.core.files import open_regular
from opsin.core.stored_json import Json, read_json
from opsin.data.sources.contents import Files, LocatedSource, Row, RowCollector, key_of_files
from opsin.data.sources.source_kind import SourceKind, SourceRequest
from opsin.data.sources.table import check_any_exists, fields, name_of
from opsin.data.split import part_named

# What Roboflow calls its table of classes, and where COCO's form lies in its exports.
_ONE_HOT: Final = "_classes.csv"
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
    found = []
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
        found.append((image, choices))
    return found


def _read_cvat(path: Path) -> _Annotations | None:
    found: _Annotations = []
    root: list[str] = []

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if not root:
            root.append(name)
        if name == "image":
            found.append((attributes.get("name", ""), set()))
        elif name == "tag" and found:
            found[-1][1].add(attributes.get("label", ""))

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type")  # entities expand without end

    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    with open_regular(path) as file:
        try:
            parser.ParseFile(file)
        except xml.parsers.expat.ExpatError as error:
            raise ValueError(str(error)) from error
    return found if root == ["annotations"] else None


def _read_one_hot(path: Path) -> _Annotations | None:
    """Return the classes of each image in Roboflow's ``_classes.csv``: a column of 0 and 1 each."""
    rows = fields(path)
    _, names = next(rows, (0, list[str]()))
    if path.name != _ONE_HOT or names[:1] != ["filename"]:
        return None
    return [
        (file, {n for n, mark in zip(names[1:], marks, strict=False) if mark.strip() == "1"})
        for _, (file, *marks) in rows
    ]


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError("a list holds something else than objects")
    return value


def _annotations_in(path: Path) -> _Annotations:
    try:
        found: _Annotations | None = None
        if path.suffix.lower() == ".json":
            with open_regular(path) as file:
                content = read_json(file)
            found = _read_coco(content)
            found = _read_label_studio(content) if found is None else found
        else:
            found = _read_cvat(path) if path.suffix.lower() == ".xml" else _read_one_hot(path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SourceError(
            "a whole export of a labelling tool", f"{path.name} cannot be used ({reason})",
            "Export it again.",
        ) from error  # fmt: skip
    if found is None:
        raise SourceError(
            "an export of classes: COCO, Label Studio, CVAT or Roboflow",
            f"{path.name} is of another form",
            "Export it as CSV with the columns path and label, or as a folder for each class.",
        )
    return found


def _files_of(request: SourceRequest) -> list[tuple[Path, str]]:
    """Return the exports that a source means, with the part of each."""
    path = request.path
    if request.is_file:
        of_tool = path.suffix.lower() in (".json", ".xml") or path.name == _ONE_HOT
        return [(path, "")] if of_tool else []
    if not request.is_folder:
        return []
    folders = [(path, "")]
    with contextlib.suppress(OSError):  # what cannot be read is explained by others
        parts = [(code, entry) for entry in path.iterdir()
                 if (code := part_named(entry.name)) is not None and entry.is_dir()]  # fmt: skip
        folders += [(entry, entry.name) for _, entry in sorted(parts)]
    files = ((folder / name, part) for folder, part in folders for name in (_ONE_HOT, _COCO))
    return [(file, part) for file, part in files if file.is_file()]


def _locate(request: SourceRequest) -> LocatedSource:
    files = _files_of(request)
    root = request.path if request.is_folder else request.path.parent
    found, inside = RowCollector(), request.allowed(root)
    for file, part in files:
        for line, (image, classes) in enumerate(_annotations_in(file), start=1):
            if len(classes) > 1:
                found.passed.add("image with several classes", image)
            elif not any(classes):
                found.passed.add("image without a class", image)
            else:
                name = name_of(_place_of(image, file, root), root / "_", line, inside)
                found.add(Row(name, next(iter(classes)), part, name=name))
    if not found.names:
        raise SourceError("images with a class each", f"{request.written} has none", "Export more.")
    images = Files(root, found.names)
    check_any_exists(images, request.path)
    contents = found.labelled(request.written, images)
    key = repr(("annotations", key_of_files(*[file for file, _ in files], images)))
    return LocatedSource(key, lambda: contents, contents.left_out)


def _place_of(written: str, file: Path, root: Path) -> str:
    """Return where an image lies below the root: as written, or in a folder called images."""
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
    there: Iterable[str] = (place for place in places if os.path.isfile(root / place))  # noqa: PTH113
    return next(iter(there), os.path.normpath(os.path.join(base, path.lstrip("/"))))  # noqa: PTH118


def _is_usable(request: SourceRequest) -> bool:
    try:
        return request.path.suffix.lower() in (".json", ".xml") and any(
            len(classes) == 1 for _, classes in _annotations_in(request.path)
        )
    except SourceError:
        return False


KINDS = (
    SourceKind(
        title="an export of a labelling tool (.json .xml)",
        match=lambda request: bool(_files_of(request)),
        match_packed=_is_usable,
        files=("*.json", "*.xml"),
        locate=_locate,
    ),
)
