"""The user's corrections of labels: a small table, applied whenever the images are read.

The sources themselves are never changed.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.csv_cells import Writer
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import atomic_file
from opsin.data.applied_corrections import Applied, Correction
from opsin.data.cache import Decoded, digest_names
from opsin.data.sources.table import fields
from opsin.data.spelling import nfc

#: What stands for the class of an image that is to be left out; an empty cell does too.
LEFT_OUT: Final = "-"
#: The columns that are written, ``present`` where a row states it. Of those, ``label`` and one of
#: the first two must be there to be read; ``suggested`` and ``score`` are for people.
COLUMNS: Final = ("digest", "name", "present", "label", "suggested", "score")
_DIGEST: Final = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")
_SHOWN: Final = 3


def write_corrections(path: str | os.PathLike[str], rows: Iterable[Correction]) -> Path:
    """Write a corrections file, ready to be edited with any spreadsheet or editor (RFC 4180)."""
    rows = list(rows)
    columns = [name for name in COLUMNS if name != "present" or any(row.present for row in rows)]
    table: list[Sequence[str]] = [columns]
    for row in rows:
        score = "" if math.isnan(row.score) else f"{row.score:.4g}"
        texts = row._asdict() | {"score": score}
        table.append([_written(texts[name]) for name in columns])
    # Without quotes a blank at the beginning is lost, and a carriage return ends the row.
    quoted = any(text[:1].isspace() or "\r" in text for texts in table for text in texts)
    with (
        atomic_file(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        dialect: Any = {"quoting": csv.QUOTE_ALL} if quoted else {}
        Writer(stream, lineterminator="\n", **dialect).rows(table)
    return Path(path)


def with_earlier(rows: Iterable[Correction], earlier: Sequence[Correction]) -> list[Correction]:
    """Return rows about images as corrections left them, and those corrections behind them."""
    touched = {text for row in earlier for text in (row.digest, row.name)} - {""}
    stated = [row._replace(present="") if {row.digest, row.name} & touched else row for row in rows]
    named = {(row.digest, row.name) for row in stated}
    return stated + [row for row in earlier if (row.digest, row.name) not in named]


def read_corrections(path: str | os.PathLike[str]) -> list[Correction]:
    """Read a corrections file: ``label``, and ``digest`` or ``name`` or both."""
    table = Path(os.path.expanduser(path))  # noqa: PTH111  never raises
    lines = fields(table)
    _, head = next(lines, (0, list[str]()))
    there = [name.lower() for name in head]
    if "label" not in there or not {"digest", "name"} & set(there):
        raise SourceError(
            "the columns digest, name and label (label, and one of the others, at least)",
            f"{table} has {', '.join(filter(None, head)) or 'none'}",
            "Write such a file with: opsin report RUN --fix labels.csv",
        )
    twice = sorted({name for name in there if name in COLUMNS and there.count(name) > 1})
    if twice:
        raise SourceError(
            "each column once", f"{table} has {', '.join(twice)} twice", "Rename one of them."
        )
    places = {name: there.index(name) for name in COLUMNS[:4] if name in there}
    found = []
    for line, row in lines:
        if not any(field.strip() for field in row):
            continue  # as spreadsheets leave them
        cell = {name: row[at] if at < len(row) else "" for name, at in places.items()}
        digest, name = cell.get("digest", "").strip().lower(), cell.get("name", "")
        if len(row) > len(head):
            raise _wrong(table, line, f"{len(head)} fields as in the header", f"has {len(row)}",
                         'Put fields that hold the separator into quotes: "a, b".')  # fmt: skip
        if digest and not _DIGEST.fullmatch(digest):
            raise _wrong(table, line, "a digest of 32 or 64 hexadecimal digits",
                         f"has {digest!r:.70}", "Copy it whole, or leave it empty.")  # fmt: skip
        if not digest and not name:
            raise _wrong(table, line, "a digest or a name", "has neither",
                         "Name the image, or drop the line.")  # fmt: skip
        found.append(
            Correction(digest[:32], name, cell["label"], line=line, present=cell.get("present", ""))
        )
    return found


def correct(
    decoded: Decoded,
    path: str | os.PathLike[str],
    *,
    missing_ok: bool = False,
    watcher: Watcher = SILENT,
) -> Decoded:
    """Return images with their labels corrected; all corrections are applied, or none."""
    rows = read_corrections(path)
    index = _Index.of(decoded)
    by_digest = any(row.digest in index.digests for row in rows)
    if not by_digest and any(row.digest for row in rows):
        watcher.note(
            f"no digest in {path} is that of an image here (was it written at another --size?): "
            "images are known by their names"
        )
    meant = [index.find(row, trust_names=not by_digest) for row in rows]
    _check_known(path, rows, meant, missing_ok=missing_ok)
    wanted = _wanted(path, rows, decoded.classes)
    meant = _as_stated(path, rows, meant, wanted, decoded)
    labels, keep = decoded.labels.copy(), np.ones(len(decoded.labels), bool)
    for image, label in _label_of_each(path, rows, meant, wanted).items():
        if label is None:
            keep[image] = False
        else:
            labels[image] = label
    applied = Applied(
        file=os.fspath(path),
        rows=tuple(rows),
        relabelled=int((labels != decoded.labels).sum()),
        left_out=int((~keep).sum()),
        by_name=sum(row.digest not in index.digests for row in rows),
    )
    watcher.fact("Labels", f"{applied.file}: {applied.words}")
    corrected = replace(decoded, labels=labels, corrected=applied, source_labels=decoded.labels)
    return _kept(corrected, keep)


def _label_of_each(
    path: str | os.PathLike[str],
    rows: Sequence[Correction],
    meant: Sequence[Sequence[int] | None],
    wanted: Sequence[int | None],
) -> dict[int, int | None]:
    """Return the label that the rows give each image that they mean; ``None`` leaves it out."""
    by: dict[int, int] = {}
    for place, images in enumerate(meant):
        for image in images or ():
            before = by.setdefault(image, place)
            if wanted[before] != wanted[place]:
                raise _contradiction(path, rows[before], rows[place])
    return {image: wanted[place] for image, place in by.items()}


@dataclass(frozen=True)
class _Index:
    """Where images are, by content and by name; the unreadable ones are nowhere."""

    digests: dict[str, list[int]]
    names: dict[str, list[int]]
    unreadable: set[str]

    @classmethod
    def of(cls, decoded: Decoded) -> _Index:
        digests, names = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
        for row, (digest, name) in enumerate(
            zip(digest_names(decoded.digests), decoded.names, strict=True)
        ):
            digests[digest].append(row)
            names[nfc(_written(name))].append(row)
        unreadable = {nfc(_written(name)) for name, _ in decoded.unreadable}
        return cls(dict(digests), dict(names), unreadable)

    def find(self, row: Correction, *, trust_names: bool) -> list[int] | None:
        """Return the images that a row means; ``None`` where there is none such."""
        same = self.digests.get(row.digest, [])
        named = self.names.get(nfc(row.name), [])
        if same:
            return sorted(set(same) & set(named)) or same
        # Other pixels under the same name are another image.
        if named and (trust_names or not row.digest):
            return named
        return [] if nfc(row.name) in self.unreadable else None


def _check_known(
    path: str | os.PathLike[str],
    rows: list[Correction],
    meant: list[list[int] | None],
    *,
    missing_ok: bool,
) -> None:
    unknown = [str(row) for row, images in zip(rows, meant, strict=True) if images is None]
    if unknown and not missing_ok:
        raise SourceError(
            f"images of this source in {path}",
            f"{len(unknown):,} of its {len(rows):,} are not here, or have other pixels now: "
            f"{_first(unknown)}",
            "Drop these lines, or give the source that the file was written for.",
        )


def _wanted(
    path: str | os.PathLike[str], rows: list[Correction], classes: Sequence[str]
) -> list[int | None]:
    """Return the class that each row asks for; ``None`` to leave the image out."""
    # A class that is called like the mark is a class; an empty cell will still do.
    known: dict[str, int | None] = {"": None, LEFT_OUT: None}
    known |= {nfc(name): label for label, name in enumerate(classes)}
    written = [nfc(row.label) for row in rows]
    said = [label if label in known else label.strip() for label in written]
    strange = [row for row, label in zip(rows, said, strict=True) if label not in known]
    if strange:
        shown = [f"{row.label!r} in {row}" for row in strange]
        some = f"{', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}"
        raise SourceError(
            f"labels among {some}, or - to leave an image out",
            f"{path} has others in {len(strange):,} lines: {_first(shown)}",
            "Mend the spelling; a new class needs images in the source.",
        )
    return [known[label] for label in said]


def _as_stated(
    path: str | os.PathLike[str],
    rows: Sequence[Correction],
    meant: Sequence[list[int] | None],
    wanted: Sequence[int | None],
    decoded: Decoded,
) -> list[list[int] | None]:
    """Return the images that rows mean, without those of another class than a row states."""
    classes, labels = [nfc(_written(name)) for name in decoded.classes], decoded.labels
    found, strange = list(meant), list[str]()
    for place, (row, images) in enumerate(zip(rows, meant, strict=True)):
        if not row.present or not images:
            continue
        known = (nfc(row.present), nfc(row.present).strip())
        stated = [image for image in images if classes[labels[image]] in known]
        if stated:
            found[place] = stated
        elif any(labels[image] != wanted[place] for image in images):
            strange.append(f"{row} says {row.present!r}, and it is {classes[labels[images[0]]]!r}")
    if strange:
        raise SourceError(
            f"images whose present labels are those that {path} states",
            f"{len(strange):,} of its {len(rows):,} lines state another: {_first(strange)}",
            "Write it anew, or empty the cells of its column present to relabel them all the same.",
        )
    return found


def _contradiction(path: str | os.PathLike[str], one: Correction, other: Correction) -> SourceError:
    return SourceError(
        "one label for each image",
        f"{path} says {one.label or LEFT_OUT!r} in {one} and {other.label or LEFT_OUT!r} in "
        f"{other}, which are the same image",
        "Keep one of the two lines.",
    )


def _written(text: str) -> str:
    """Return text as it stands in a file: bytes of names that are no Unicode are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _first(found: Sequence[str]) -> str:
    more = len(found) - _SHOWN
    return ", ".join(found[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _wrong(table: Path, line: int, expected: str, received: str, advice: str) -> SourceError:
    return SourceError(f"{expected} in each line", f"line {line:,} of {table} {received}", advice)


def _kept(decoded: Decoded, keep: NDArray[np.bool_]) -> Decoded:
    """Leave images out of everything that is known of each."""
    if keep.all():
        return decoded
    if not keep.any():
        raise SourceError("images that remain", "all of them are left out", "Keep some.")
    return decoded.take(np.flatnonzero(keep))
