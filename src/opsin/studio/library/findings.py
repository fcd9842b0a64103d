"""What the audit said about a set's images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.core.stored_arrays import StoredArrays


@dataclass(frozen=True)
class DatasetFinding:
    """What the audit says about some images: see `opsin.data.audit.Finding`.

    Args:
        kind: A short name, such as ``near-duplicates``.
        count: How many images (or classes) are concerned.
        title: What was found.
        opsin: What Opsin does about it by itself.
        yours: What only the user can decide.
        rows: The images concerned, case by case.
        notes: What is wrong with each of them.
        files: What is said where there is no image, such as of files that cannot be read.
    """

    kind: str
    count: int
    title: str
    opsin: str
    yours: str
    rows: NDArray[np.int64]
    notes: Mapping[int, str]
    files: tuple[str, ...]


def read_findings(
    found: Mapping[str, Any], arrays: Path, place: tuple[str, str] = ("", "")
) -> tuple[dict[str, NDArray[np.int64]], dict[str, DatasetFinding]]:
    """Read what ``opsin data --audit --json --rows FILE`` found.

    Args:
        found: The object that it printed.
        arrays: The file of rows.
        place: Where the images are, and what people call that instead.

    Returns:
        The rows of each part, and the findings by kind, the worst first.

    Raises:
        OSError: The file of rows is not there.
        ValueError: One of both is damaged, as for the next two.
        KeyError: …
        TypeError: …
    """
    with StoredArrays(arrays) as stored:
        parts = {part: stored.read(part) for part in ("train", "val", "test")}
    return parts, {each["kind"]: _finding(each, place) for each in found.get("findings", ())}


def _finding(said: Mapping[str, Any], place: tuple[str, str]) -> DatasetFinding:
    notes: dict[int, str] = {}
    files = []
    for case in said["cases"]:
        for image in case["images"]:
            notes.setdefault(int(image["row"]), str(case["note"]))
        if not case["images"]:
            note = str(case["note"])
            files.append(note.replace(*place) if place[0] else note)
    return DatasetFinding(
        kind=said["kind"],
        count=int(said["count"]),
        title=said["title"],
        opsin=said["opsin"],
        yours=said["yours"],
        rows=np.array(list(notes), np.int64),
        notes=notes,
        files=tuple(files),
    )
