"""A description of an exported collection in Croissant 1.1."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from opsin.core.stored_json import JsonObject
from opsin.data.dataset import Dataset

_VERSION: Final = "http://mlcommons.org/croissant/1.1"
_SPLITS: Final = {
    "train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit",
}  # fmt: skip
# Croissant's own words, as its tools want them spelled out.
_TERMS: Final = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field",
    "fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset",
    "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated",
    "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
_CONTEXT: Final[JsonObject] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _TERMS},
}


def describe_folder(
    dataset: Dataset, names: Sequence[str], columns: Iterable[str], digest: str
) -> JsonObject:
    """Describe a folder of images with its ``metadata.csv``: ``croissant.json``.

    What Opsin does not know (the license, who made it, when) is left out.

    Args:
        dataset: The images.
        names: Where each lies below the folder.
        columns: Columns of the table.
        digest: SHA-256 of the table.

    References:
        http://mlcommons.org/croissant/1.1
    """
    parts = [part for part in _SPLITS if len(dataset.split.rows(part))]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _VERSION,
        "name": " + ".join(Path(source).name or source for source in dataset.recipe.sources),
        "description": f"Images sorted by label: {dataset.summary()}.",
        # The collection has no versions of its own; its content tells it from any other.
        "version": f"1.0.0+{dataset.fingerprint[:16]}",
        "distribution": _distribution(names, parts, digest),
        "recordSet": [
            _enumeration(
                "splits", "cr:Split", [{"name": part, "url": _SPLITS[part]} for part in parts]
            ),
            _enumeration("classes", "sc:Enumeration", [{"name": name} for name in dataset.classes]),
            {
                "@type": "cr:RecordSet",
                "@id": "images",
                "name": "images",
                "key": {"@id": "images/file_name"},
                "field": _fields(columns),
            },
        ],
    }


def _distribution(names: Sequence[str], parts: Sequence[str], digest: str) -> list[JsonObject]:
    """Describe the table and the images' files."""
    return [
        {
            "@type": "cr:FileObject",
            "@id": "metadata",
            "name": "metadata.csv",
            "description": "A row for each image.",
            "contentUrl": "metadata.csv",
            "encodingFormat": "text/csv",
            "sha256": digest,
        },
        {
            "@type": "cr:FileSet",
            "@id": "files",
            "name": "files",
            "description": "The images' files.",
            "encodingFormat": _formats(names),
            "includes": [f"{part}/*/*" for part in parts],
        },
    ]


def _fields(columns: Iterable[str]) -> list[JsonObject]:
    """Describe what is known of each image."""
    # Images know their place in the table, not the other way round: so the tools can join them.
    path = _property("fullpath") | {"transform": {"regex": "(.+)"}}
    place = {
        **_field("file_name", "sc:Text", "Where the image lies.", path),
        "references": _column("file_name"),
    }
    fields = [
        place,
        _field("image", "sc:ImageObject", "The image itself.", _property("content")),
        {
            **_field("label", ["sc:Text", "cr:Label"], "Its class.", _column("label")),
            "references": {"field": {"@id": "classes/name"}},
        },
        {
            **_field("split", "sc:Text", "Its part of the split.", _column("split")),
            "references": {"field": {"@id": "splits/name"}},
        },
        _field("sha256", "sc:Text", "SHA-256 of the file's bytes.", _column("sha256")),
    ]
    if "group" in columns:
        what = "What it shares with others: they stay on one side of the split."
        fields.append(_field("group", "sc:Text", what, _column("group")))
    return fields


def _enumeration(name: str, kind: str, rows: list[dict[str, str]]) -> JsonObject:
    """Return a record set that holds its rows itself."""
    kinds = {"name": "sc:Text", "url": "sc:URL"}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": kind,
        "key": {"@id": f"{name}/name"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{field}",
                "name": field,
                "dataType": kinds[field],
            }
            for field in rows[0]
        ],
        "data": [{f"{name}/{field}": value for field, value in row.items()} for row in rows],
    }


def _field(name: str, kind: str | list[str], description: str, source: JsonObject) -> JsonObject:
    return {
        "@type": "cr:Field",
        "@id": f"images/{name}",
        "name": name,
        "description": description,
        "dataType": kind,
        "source": source,
    }


def _column(name: str) -> JsonObject:
    return {"fileObject": {"@id": "metadata"}, "extract": {"column": name}}


def _property(name: str) -> JsonObject:
    return {"fileSet": {"@id": "files"}, "extract": {"fileProperty": name}}


def _formats(names: Iterable[str]) -> list[str]:
    """Return the media types of files by their suffixes."""
    types = mimetypes.MimeTypes()  # built in, not from the system's tables: the same everywhere
    suffixes = sorted({Path(name).suffix.lower() for name in names})
    found = (types.guess_type(f"image{suffix}")[0] for suffix in suffixes)
    return sorted({each or "application/octet-stream" for each in found})
