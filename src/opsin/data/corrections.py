"""Decoded images, and the user's corrections of labels and classes: a small table.

Sources stay unchanged. A row is of an image, which gets a label; or of a class, whose images are of
the class ``label`` then (``-``: left out). A class row of one name only adds a class of that name.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import CorrectionCounts, LeftOut
from opsin.core.csv_cells import write_rows
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import Bits
from opsin.core.storage import atomic_file
from opsin.data.cache import digest_names
from opsin.data.lazy_images import Images
from opsin.data.sources.contents import take
from opsin.data.sources.table import records, text_of
from opsin.data.spelling import nfc

#: The label of an image to leave out; an empty cell means the same.
LEFT_OUT: Final = "-"
#: The columns that are written, the last two where classes were changed. ``label`` and one of the
#: first two must be there to be read; ``suggested`` and ``score`` are for people; rows of the same
#: ``edit`` were written together, and of two rows about an image the later edit's holds.
COLUMNS: Final = ("digest", "name", "label", "suggested", "score", "class", "edit")
_DIGEST: Final = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")


class Correction(NamedTuple):
    """A row of a corrections file."""

    digest: str
    name: str
    label: str
    suggested: str = ""
    score: float = math.nan
    line: int = 0
    class_: str = ""  # of a class row, which has neither digest nor name
    edit: int = 0

    def __str__(self) -> str:
        return f"line {self.line:,} ({self.name or self.digest or self.class_})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded:
    """Decoded images; `Dataset` describes the fields."""

    images: Images
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    source_parts: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    source_digests: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    ranges: NDArray[np.uint8]
    names: list[str]
    groups: list[str]
    mirrored: bool
    unreadable: list[tuple[str, str]]
    rows: NDArray[np.int64]
    repeated: int = 0
    source_labels: NDArray[np.int64] | None = None
    corrected: CorrectionCounts | None = None
    corrections: tuple[Correction, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    bits: Bits | None = None
    depths: dict[int, int] = field(default_factory=dict)


def write_corrections(path: str | os.PathLike[str], rows: Iterable[Correction]) -> Path:
    """Write a corrections file: CSV (RFC 4180) for any spreadsheet or editor."""
    table: list[Sequence[str]] = [COLUMNS]
    for row in rows:
        score = "" if math.isnan(row.score) else f"{row.score:.4g}"
        edit = str(row.edit or "")
        table.append([*map(as_written, row[:4]), score, as_written(row.class_), edit])
    if not any(texts[5] or texts[6] for texts in table[1:]):
        table = [texts[:5] for texts in table]
    # Unquoted, leading blanks are lost, and a carriage return ends the row.
    quoted = any(text[:1].isspace() or "\r" in text for texts in table for text in texts)
    with (
        atomic_file(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        dialect: Any = {"quoting": csv.QUOTE_ALL} if quoted else {}
        write_rows(stream, table, lineterminator="\n", **dialect)
    return Path(path)


def with_earlier(rows: Sequence[Correction], earlier: Sequence[Correction]) -> list[Correction]:
    """Return new rows, followed by earlier ones about other images, or about classes."""
    named = {(row.digest, row.name) for row in rows}
    kept = (row for row in earlier if row.class_ or (row.digest, row.name) not in named)
    return [*rows, *kept]


def read_corrections(path: str | os.PathLike[str]) -> list[Correction]:
    """Read a corrections file: ``label``, and ``digest`` or ``name`` or both."""
    table = Path(os.path.expanduser(path))  # noqa: PTH111  never raises
    head, lines = records(table)
    there = [name.lower() for name in head]
    if "label" not in there or not {"digest", "name"} & set(there):
        raise SourceError(
            f"{table} has the columns {', '.join(filter(None, head)) or '(none)'}; label, and "
            "digest or name, are expected",
            "Write such a file with: opsin report RUN --fix labels.csv",
        )
    if twice := sorted({name for name in there if name in COLUMNS and there.count(name) > 1}):
        raise SourceError(f"{table} has the column {', '.join(twice)} twice", "Rename one of them.")
    corrections = []
    for line, row in lines:
        cell = {name.lower(): text_of(text, name) for name, text in row.items()}
        if not any(map(str.strip, cell.values())):
            continue  # as spreadsheets leave them
        digest, name, score = cell.get("digest", "").strip().lower(), cell.get("name", ""), math.nan
        where = f"Line {line:,} of {table}"
        if digest and not _DIGEST.fullmatch(digest):
            problem = f"{where} has {digest!r:.70}, no digest of 32 or 64 hexadecimal digits"
            raise SourceError(problem, "Copy it whole, or leave it empty.")
        class_, edit = cell.get("class", ""), cell.get("edit", "").strip() or "0"
        if not (edit.isascii() and edit.isdecimal() and len(edit) < 10):
            raise SourceError(f"{where} has the edit {edit!r:.70}", "Leave it empty.")
        if bool(class_) == bool(digest or name):
            what = "an image and a class" if class_ else "neither digest nor name"
            raise SourceError(f"{where} has {what}", "Name the image.")
        with contextlib.suppress(ValueError):
            score = float(cell.get("score", ""))
        cells = cell.get("label", ""), cell.get("suggested", ""), score
        corrections.append(Correction(digest[:32], name, *cells, line, class_, int(edit)))
    return corrections


def as_written(text: str) -> str:
    """Return text as written to a file: bytes that are not Unicode are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def correct(
    decoded: Decoded,
    path: str | os.PathLike[str],
    rows: Sequence[Correction] | None = None,
    *,
    missing_ok: bool = False,
    watcher: Watcher = SILENT,
) -> Decoded:
    """Return images with their labels corrected; all corrections are applied, or none."""
    every = read_corrections(path) if rows is None else rows
    known = set(digest_names(decoded.digests))
    rows = sorted((row for row in every if not row.class_), key=lambda row: row.edit)
    by_digest = any(row.digest in known for row in rows)
    if not by_digest and any(row.digest for row in rows):
        watcher.note(
            f"no digest in {path} is that of an image here (was it written at another --size?): "
            "images are known by their names"
        )
    matches = _images_of(rows, decoded)
    unknown = [row for row, images in zip(rows, matches, strict=True) if images is None]
    if unknown and not missing_ok:
        raise SourceError(
            f"{len(unknown):,} of the {len(every):,} images in {path} are not here, or have other "
            f"pixels now: {_first(unknown)}",
            "Drop these lines, or give the source that the file was written for.",
        )
    called = classes_now(path, every, decoded.classes)
    classes = tuple(dict.fromkeys(name for name in called.values() if name is not None))
    wanted = _wanted_labels(path, rows, called, classes)
    places = [
        -1 if (now := called[nfc(name)]) is None else classes.index(now) for name in decoded.classes
    ]
    before = np.array(places, np.int64)[decoded.labels]
    labels, last = before.copy(), dict[int, int]()
    for line, images in enumerate(matches):
        for image in images or ():
            one, label = last.get(image, line), wanted[line]
            if rows[one].edit == rows[line].edit and wanted[one] != label:
                texts = (f"{rows[at].label or LEFT_OUT!r} in {rows[at]}" for at in (one, line))
                problem = f"{path} says {' and '.join(texts)}, which are the same image"
                raise SourceError(problem, "Keep one of the two lines.")
            last[image] = line
            labels[image] = -1 if label is None else label
    keep = labels >= 0
    if not keep.any():
        raise SourceError(f"{path} leaves all images out")
    if len(every) > len(rows):  # a class that lost its images is none any more
        there = np.unique(labels[keep])
        classes, place = tuple(classes[label] for label in there), np.full(len(classes) + 1, -1)
        place[there] = np.arange(len(there))
        labels, before = place[labels], place[before]
    before = np.where(before < 0, labels, before)
    relabelled, left_out = int((labels != before)[keep].sum()), int((~keep).sum())
    counts = CorrectionCounts(
        file=os.fspath(path),
        rows=len(every),
        relabelled=relabelled,
        left_out=left_out,
        by_name=sum(row.digest not in known for row in rows),
    )
    watcher.fact("Labels", f"{path}: {relabelled:,} relabelled, {left_out:,} left out")
    done = replace(decoded, classes=classes, labels=labels, source_labels=before)
    done = replace(done, corrected=counts, corrections=tuple(every))
    return done if keep.all() else take(done, np.flatnonzero(keep))


def classes_now(
    path: str | os.PathLike[str], rows: Iterable[Correction], classes: Sequence[str]
) -> dict[str, str | None]:
    """Return what each class of a source, and each added one, is called; ``None`` if left out."""
    now: dict[str, str | None] = {nfc(name): name for name in classes}
    for row in sorted((row for row in rows if row.class_), key=lambda row: row.edit):
        old, new = nfc(row.class_), nfc(row.label)
        here = [name for name, called in now.items() if called is not None and nfc(called) == old]
        if old == new:
            if not here:  # a class that has another name now, or is left out, may have had it
                now[f"{new}\0{row.edit}" if new in now else new] = row.label
        elif not here:
            problem = f"{path} changes the class {row.class_!r} in line {row.line:,}, and there is"
            there = ", ".join(filter(None, list(now.values())[:20]))
            raise SourceError(f"{problem} none", f"There are {there}.")
        else:
            out = not new or (new == LEFT_OUT and LEFT_OUT not in now)
            now |= dict.fromkeys(here, None if out else row.label)
            now.setdefault(old, now[here[0]])  # rows about images may say it
    return now


def unmatched(rows: Sequence[Correction], decoded: Decoded) -> list[Correction]:
    """Return the rows about images that are not here."""
    rows = [row for row in rows if not row.class_]
    matches = zip(rows, _images_of(rows, decoded), strict=True)
    return [row for row, images in matches if images is None]


def _images_of(rows: Sequence[Correction], decoded: Decoded) -> list[list[int] | None]:
    digests, names = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for image, digest in enumerate(digest_names(decoded.digests)):
        digests[digest].append(image)
        names[nfc(as_written(decoded.names[image]))].append(image)
    unreadable = {nfc(as_written(name)) for name, _ in decoded.unreadable}
    trust_names = not any(row.digest in digests for row in rows)

    def match(row: Correction) -> list[int] | None:
        same, named = digests.get(row.digest, []), names.get(nfc(row.name), [])
        if same:
            return sorted({*same} & {*named}) or same
        # Other pixels under the same name are another image, and numbers may have moved.
        if named and (not row.digest or (trust_names and not row.name.isdigit())):
            return named
        return [] if nfc(row.name) in unreadable else None

    return list(map(match, rows))


def _wanted_labels(
    path: str | os.PathLike[str],
    rows: Sequence[Correction],
    called: dict[str, str | None],
    classes: Sequence[str],
) -> list[int | None]:
    """Return the class that each row asks for; ``None`` to leave the image out."""
    # A class named "-" is a class; an empty cell still leaves an image out. A row may be older
    # than the present name of its class.
    known: dict[str, int | None] = {"": None, LEFT_OUT: None}
    known |= {old: None if now is None else classes.index(now) for old, now in called.items()}
    known |= {nfc(name): label for label, name in enumerate(classes)}
    written = [nfc(row.label) for row in rows]
    written = [label if label in known else label.strip() for label in written]
    strange = [
        f"{r.label!r} in {r}" for r, label in zip(rows, written, strict=True) if label not in known
    ]
    if strange:
        raise SourceError(
            f"{path} has labels that are no classes in {len(strange):,} lines: {_first(strange)}; "
            f"{', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}, or - to leave an image "
            "out, are expected",
            "Mend the spelling; a new class needs images in the source.",
        )
    return [known[label] for label in written]


def _first(lines: Sequence[object]) -> str:
    more = len(lines) - 3
    return ", ".join(map(str, lines[:3])) + (f" and {more:,} more" if more > 0 else "")
