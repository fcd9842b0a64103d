"""What is wrong with photographs: things to look at, one by one, until each is settled."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from filelock import FileLock

from opsin.core.artifacts.run_report import Report, SuspectedLabel
from opsin.core.errors import OpsinError
from opsin.core.format import counted
from opsin.core.storage import storage_errors, write_json
from opsin.data.cache import digest_names
from opsin.studio.datasets.album import OUT, Album
from opsin.studio.pages.confirmed_labels import ConfirmedLabels
from opsin.studio.people import require
from opsin.studio.threads import IMAGES
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

Kind = Literal["suspect", "conflict", "copies", "unreadable", "odd"]
#: What is said of single images, by the kind of finding.
ODD: Final = {
    "dark": "This photograph is very dark.",
    "bright": "This photograph is very bright.",
    "blurred": "This photograph is blurred.",
    "empty": "There is almost nothing on this photograph.",
}


@dataclass(frozen=True)
class Thing:
    """Something to look at.

    Args:
        kind: Its kind.
        key: Identifies it, by content: the same after a reload and for every window.
        text: What is wrong, in a sentence.
        photos: Positions of the photographs in the album.
        suggested: The class that a classifier suggests.
    """

    kind: Kind
    key: str
    text: str
    photos: tuple[int, ...]
    suggested: str = ""


class SettledThings:
    """Things that people have settled, kept with their dataset."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "settled.json"
        self._lock = FileLock(folder / ".settled.lock", timeout=10)

    def read(self) -> set[str]:
        """Their keys."""
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError):
            return set(map(str, json.loads(self._file.read_text(encoding="utf-8"))))
        return set()

    def settle(self, key: str, settled: bool = True) -> None:
        """Settle something, or take that back."""
        require("labeller")
        with storage_errors(self._file), self._lock:
            keys = self.read() | {key} if settled else self.read() - {key}
            write_json(self._file, sorted(keys))


async def things_to_look_at(studio: Studio, album: Album) -> list[Thing]:
    """What is wrong with the photographs of an album and was not settled yet."""
    return await IMAGES.run(_things, studio, album)


def _things(studio: Studio, album: Album) -> list[Thing]:
    folder = studio.sets.folder(album.dataset.id)
    settled = SettledThings(folder).read()
    confirmed = ConfirmedLabels(folder).read()  # among a classifier's results
    settled |= {_suspect_key(digest, label) for digest, label in confirmed}
    found = [*_suspects(studio, album), *_of_audit(album)]
    return [thing for thing in found if thing.key not in settled]


def _suspects(studio: Studio, album: Album) -> Iterator[Thing]:
    """Labels that the newest classifier suspects, and that are still the same."""
    if album.opened is None:
        return
    row_of = {digest: row for row, digest in enumerate(digest_names(album.opened.decoded.digests))}
    by_name = {name: at for at, name in enumerate(album.contents.names)}
    for suspect in _suspected(studio, album.dataset.id):
        row = row_of.get(suspect.digest)
        at = by_name.get(suspect.name) if row is None else album.at_row.get(row)
        if at is not None and album.class_of(at) == suspect.label:
            label, answer = safe(suspect.label, 40), safe(suspect.suggested, 40)
            text = f"It is labelled {label}. The classifier says {answer}."
            key = _suspect_key(suspect.digest, suspect.label)
            yield Thing("suspect", key, text, (at,), suspect.suggested)


def _suspected(studio: Studio, set_id: str) -> Sequence[SuspectedLabel]:
    with contextlib.suppress(OpsinError):
        run = studio.projects.get(set_id).classifier()
        if run is not None:
            report = studio.runs.get(run.id).read(Report)
            return report.failures.suspects if report.failures else []
    return []


def _of_audit(album: Album) -> Iterator[Thing]:
    """What the check of all photographs has found."""
    opened = album.opened
    if opened is None:
        return
    by_name = {name: at for at, name in enumerate(album.contents.names)}
    for name, _ in opened.decoded.unreadable:
        if (at := by_name.get(name)) is not None and album.contents.files is not None:
            text = f"{safe(Path(name).name, 60)} is damaged, or not a picture. It is left out."
            yield Thing("unreadable", f"unreadable:{name}", text, (at,))
    found = opened.findings or {}
    for kind in ("conflicting-labels", "exact-duplicates"):
        for case in found[kind].cases if kind in found else ():
            known = [album.at_row[row] for row in case.rows if row in album.at_row]
            photos = tuple(at for at in known if album.labels[at] != OUT)
            classes = sorted({album.class_of(at) for at in photos})
            if len(photos) < 2 or (len(classes) > 1) != (kind == "conflicting-labels"):
                continue
            key = _key(kind, [opened.digest(row) for row in case.rows], classes)
            if len(classes) > 1:
                names = " and in ".join(safe(name, 40) for name in classes)
                yield Thing("conflict", key, f"The same photograph is in {names}.", photos)
            else:
                text = f"{counted(len(photos), 'photograph')} are the same."
                yield Thing("copies", key, text, photos)
    for kind, text in ODD.items():
        for row in found[kind].rows.tolist() if kind in found else ():
            at = album.at_row.get(row)
            if at is not None and album.labels[at] != OUT:
                yield Thing("odd", _key(kind, [opened.digest(row)]), text, (at,))


def _suspect_key(digest: str, label: str) -> str:
    return _key("suspect", [digest], [label])


def _key(kind: str, digests: Sequence[str], labels: Sequence[str] = ()) -> str:
    text = "\0".join([kind, *sorted(digests), "", *labels])
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
