"""Classes that a labelling tool wrote: exports of COCO's form, Label Studio, CVAT and Roboflow."""

from __future__ import annotations

import contextlib
import os
import re
import urllib.parse
import xml.parsers.expat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from opsin.core.errors import SourceError
from opsin.core.files import open_regular
from opsin.core.stored_json import Json, read_json
from opsin.data.left_out import LeftOutCounts
from opsin.data.sources.contents import Files, LocatedSource, Row, RowCollector, key_of_files
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow
from opsin.data.sources.table import check_any_exists, fields, name_of
from opsin.data.split import UNASSIGNED, part_named

# What Roboflow calls its table of classes, and where COCO's form lies in its exports.
_ONE_HOT: Final = "_classes.csv"
_COCO: Final = "_annotations.coco.json"
# Label Studio puts this before the names of files that were uploaded to it.
_UPLOAD: Final = re.compile(r"[0-9a-f]{8}-(?=.)")


#: Stands for more than one class.
SEVERAL: Final = "\0"


class Annotation(NamedTuple):
    """An image in an export: its file, and its class: "" for none, `SEVERAL` for more than one."""

    file: str
    label: str


def read_coco(content: Json) -> list[Annotation] | None:
    """Return the class of each image of a file in COCO's form; ``None`` where it is none."""
    if not isinstance(content, dict) or not {"images", "categories"} <= set(content):
        return None
    names = {each["id"]: str(each["name"]) for each in _rows(content["categories"])}
    found: dict[Any, set[str]] = {}
    for each in _rows(content.get("annotations") or []):
        found.setdefault(each["image_id"], set()).add(names[each["category_id"]])
    return [
        Annotation(str(each["file_name"]), _only(found.get(each["id"], set())))
        for each in _rows(content["images"])
    ]


def read_label_studio(content: Json) -> list[Annotation] | None:
    """Return the choice made for each image in a JSON export of Label Studio, short or full."""
    if not isinstance(content, list) or not content:
        return None
    found = []
    for task in _rows(content):
        values = task["data"] if isinstance(task.get("data"), dict) else task
        choices = set()
        if values is task:  # the short form: one key each
            choice = task.get("choice", task.get("label"))
            choices = set() if choice is None else {str(choice)}
        for each in _rows(task.get("annotations") or task.get("completions") or []):
            results = [] if each.get("was_cancelled") else _rows(each.get("result") or [])
            for result in results:
                if result.get("type") == "choices":
                    choices.update(map(str, result["value"]["choices"]))
        image = next(
            (v for v in values.values() if isinstance(v, str) and ("/" in v or "." in v)), None
        )
        if image is None:
            return None
        found.append(Annotation(image, _only(choices)))
    return found


def read_cvat(path: Path) -> list[Annotation] | None:
    """Return the tag of each image in CVAT's XML for images; ``None`` where it is another file."""
    found: list[Annotation] = []
    root: list[str] = []
    tags: set[str] = set()

    def start(name: str, attributes: Mapping[str, str]) -> None:
        root.append(name)
        if name == "image":
            tags.clear()
            found.append(Annotation(attributes.get("name", ""), ""))
        elif name == "tag" and found:
            tags.add(attributes.get("label", ""))
            found[-1] = Annotation(found[-1].file, _only(tags))

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
    return found if root[:1] == ["annotations"] else None


def read_one_hot(path: Path) -> list[Annotation] | None:
    """Return the class of each image in Roboflow's ``_classes.csv``: a column of 0 and 1 each."""
    rows = fields(path)
    _, names = next(rows, (0, list[str]()))
    if path.name != _ONE_HOT or names[:1] != ["filename"]:
        return None
    return [
        Annotation(
            file,
            _only({n for n, mark in zip(names[1:], marks, strict=False) if mark.strip() == "1"}),
        )
        for _, (file, *marks) in rows
    ]


def _only(labels: set[str]) -> str:
    return SEVERAL if len(labels) > 1 else next(iter(labels), "")


def _rows(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError("a list holds something else than objects")
    return value


def annotations_in(path: Path) -> list[Annotation]:
    """Read an export."""
    try:
        found: list[Annotation] | None = None
        if path.suffix.lower() == ".json":
            with open_regular(path) as file:
                content = read_json(file)
            found = read_coco(content)
            found = read_label_studio(content) if found is None else found
        else:
            found = read_cvat(path) if path.suffix.lower() == ".xml" else read_one_hot(path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) if not isinstance(error, KeyError) else f"{error} is missing"
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


def _files_of(request: SourceRequest) -> list[tuple[Path, int]]:
    """Return the exports that a source means, with the part of each."""
    path = request.path
    if request.is_file:
        of_tool = path.suffix.lower() in (".json", ".xml") or path.name == _ONE_HOT
        return [(path, UNASSIGNED)] if of_tool else []
    if not request.is_folder:
        return []
    places = [(path, UNASSIGNED)]
    with contextlib.suppress(OSError):  # what cannot be read is explained by others
        parts = [(code, entry) for entry in path.iterdir()
                 if (code := part_named(entry.name)) is not None and entry.is_dir()]  # fmt: skip
        places += [(entry, code) for code, entry in sorted(parts)]
    return [
        (place / name, code)
        for place, code in places
        for name in (_ONE_HOT, _COCO)
        if (place / name).is_file()
    ]


def _locate(request: SourceRequest) -> LocatedSource:
    files = _files_of(request)
    root = request.path if request.is_folder else request.path.parent
    found, passed, inside = RowCollector(), LeftOutCounts(), request.allowed(root)
    for file, code in files:
        for line, image in enumerate(annotations_in(file), start=1):
            if image.label in ("", SEVERAL):
                what = "with several classes" if image.label else "without a class"
                passed.add(f"image {what}", image.file)
                continue
            name = name_of(_place_of(image.file, file, root), root / "_", line, inside)
            found.add(Row(name, image.label, code, name=name))
    if not found.names:
        raise SourceError("images with a class each", f"{request.written} has none", "Export more.")
    images = Files(root, found.names)
    check_any_exists(images, request.path)
    contents = replace(found.labelled(request.written, images), left_out=passed.listed())
    key = repr(("annotations", key_of_files(*[file for file, _ in files], images)))
    return LocatedSource(key, lambda: contents, contents.left_out)


def _place_of(written: str, file: Path, root: Path) -> str:
    """Return where an image lies below the root: as written, or in a folder called images."""
    address = urllib.parse.urlsplit(written)
    path = written if not address.scheme and address.path == written else (
        urllib.parse.unquote(address.path)
    )  # fmt: skip
    query = urllib.parse.parse_qs(address.query).get("d", [])  # Label Studio's local files
    path = query[0] if query else path
    base = os.path.relpath(file.parent, root)
    last = path.rpartition("/")[2]
    own = _UPLOAD.sub("", last, count=1)
    for name in (path.lstrip("/"), f"images/{path}", f"images/{last}", last, f"images/{own}", own):
        place = os.path.normpath(os.path.join(base, name))  # noqa: PTH118  text
        if name and os.path.isfile(root / place):  # noqa: PTH113
            return place
    return os.path.normpath(os.path.join(base, path.lstrip("/")))  # noqa: PTH118


def _is_usable(request: SourceRequest) -> bool:
    """Tell an export from any other JSON or XML that lies among images."""
    try:
        return request.path.suffix.lower() in (".json", ".xml") and any(
            image.label not in ("", SEVERAL) for image in annotations_in(request.path)
        )
    except SourceError:
        return False


KIND = SourceKind(
    title="an export of a labelling tool (.json .xml)",
    rows=(
        SourceRow(
            "a labelling tool's export",
            "COCO's `.json`, Label Studio's `.json`, CVAT's `.xml`, Roboflow's `_classes.csv`: one "
            "class for each image; images beside the file, or in `images`",
            "by Roboflow's folders, else cut by Opsin",
        ),
    ),
    match=lambda request: bool(_files_of(request)),
    match_packed=_is_usable,
    files=("*.json", "*.xml"),
    locate=_locate,
)
