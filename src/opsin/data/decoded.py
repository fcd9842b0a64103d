"""Decoded images with their source's facts, and the user's corrections applied to them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import CorrectionCounts, LeftOut
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import Bits
from opsin.data.cache import digest_names
from opsin.data.corrections import LEFT_OUT, Applied, Correction, as_written, read_corrections
from opsin.data.lazy_images import Images, subset
from opsin.data.spelling import nfc

# Lines that an error names.
_SHOWN: Final = 3


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
    corrected: Applied | None = None
    left_out: tuple[LeftOut, ...] = ()
    bits: Bits | None = None
    depths: dict[int, int] = field(default_factory=dict)


def take(decoded: Decoded, rows: NDArray[np.int64]) -> Decoded:
    """Return the images of some rows, in their order."""
    names = ("labels", "source_parts", "digests", "source_digests", "sizes", "ranges", "rows")
    arrays = {name: getattr(decoded, name)[rows] for name in names}
    before = decoded.source_labels
    return replace(
        decoded,
        **arrays,
        images=subset(decoded.images, rows),
        source_labels=None if before is None else before[rows],
        names=[decoded.names[row] for row in rows],
        groups=[decoded.groups[row] for row in rows] if decoded.groups else [],
    )


def correct(
    decoded: Decoded,
    path: str | os.PathLike[str],
    *,
    missing_ok: bool = False,
    watcher: Watcher = SILENT,
) -> Decoded:
    """Return images with their labels corrected; all corrections are applied, or none."""
    rows = read_corrections(path)
    known = set(digest_names(decoded.digests))
    by_digest = any(row.digest in known for row in rows)
    if not by_digest and any(row.digest for row in rows):
        watcher.note(
            f"no digest in {path} is that of an image here (was it written at another --size?): "
            "images are known by their names"
        )
    matches = _images_of(rows, decoded, trust_names=not by_digest)
    unknown = [str(row) for row, images in zip(rows, matches, strict=True) if images is None]
    if unknown and not missing_ok:
        raise SourceError(
            f"{len(unknown):,} of the {len(rows):,} images in {path} are not here, or have other "
            f"pixels now: {_first(unknown)}",
            "Drop these lines, or give the source that the file was written for.",
        )
    wanted = _wanted_labels(path, rows, decoded.classes)
    labels, keep = decoded.labels.copy(), np.ones(len(decoded.labels), bool)
    first: dict[int, int] = {}
    for line, images in enumerate(matches):
        for image in images or ():
            before = first.setdefault(image, line)
            if wanted[before] != wanted[line]:
                one, other = rows[before], rows[line]
                raise SourceError(
                    f"{path} says {one.label or LEFT_OUT!r} in {one} and "
                    f"{other.label or LEFT_OUT!r} in {other}, which are the same image",
                    "Keep one of the two lines.",
                )
            if (label := wanted[line]) is None:
                keep[image] = False
            else:
                labels[image] = label
    relabelled, left_out = int((labels != decoded.labels).sum()), int((~keep).sum())
    counts = CorrectionCounts(
        file=os.fspath(path), rows=len(rows), relabelled=relabelled, left_out=left_out,
        by_name=sum(row.digest not in known for row in rows),
    )  # fmt: skip
    watcher.fact("Labels", f"{path}: {relabelled:,} relabelled, {left_out:,} left out")
    if not keep.any():
        raise SourceError(f"{path} leaves all images out")
    applied = Applied(tuple(rows), counts)
    corrected = replace(decoded, labels=labels, corrected=applied, source_labels=decoded.labels)
    return corrected if keep.all() else take(corrected, np.flatnonzero(keep))


def _images_of(
    rows: Sequence[Correction], decoded: Decoded, *, trust_names: bool
) -> list[list[int] | None]:
    """Return the images that each row matches; ``None`` for a row without any."""
    digests, names = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for image, (digest, name) in enumerate(
        zip(digest_names(decoded.digests), decoded.names, strict=True)
    ):
        digests[digest].append(image)
        names[nfc(as_written(name))].append(image)
    unreadable = {nfc(as_written(name)) for name, _ in decoded.unreadable}
    matches: list[list[int] | None] = []
    for row in rows:
        same, named = digests.get(row.digest, []), names.get(nfc(row.name), [])
        if same:
            matches.append(sorted({*same} & {*named}) or same)
        elif named and (not row.digest or (trust_names and not row.name.isdigit())):
            # Other pixels under the same name are another image, and numbers may have moved.
            matches.append(named)
        else:
            matches.append([] if nfc(row.name) in unreadable else None)
    return matches


def _wanted_labels(
    path: str | os.PathLike[str], rows: Sequence[Correction], classes: Sequence[str]
) -> list[int | None]:
    """Return the class that each row asks for; ``None`` to leave the image out."""
    # A class named "-" is a class; an empty cell still leaves an image out.
    known: dict[str, int | None] = {"": None, LEFT_OUT: None}
    known |= {nfc(name): label for label, name in enumerate(classes)}
    written = [nfc(row.label) for row in rows]
    written = [label if label in known else label.strip() for label in written]
    strange = [f"{r.label!r} in {r}" for r, label in zip(rows, written, strict=True)
               if label not in known]  # fmt: skip
    if strange:
        raise SourceError(
            f"{path} has labels that are no classes in {len(strange):,} lines: {_first(strange)}; "
            f"{', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}, or - to leave an image "
            "out, are expected",
            "Mend the spelling; a new class needs images in the source.",
        )
    return [known[label] for label in written]


def _first(lines: Sequence[str]) -> str:
    more = len(lines) - _SHOWN
    return ", ".join(lines[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
