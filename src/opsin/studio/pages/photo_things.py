"""What is wrong with photographs: "7 things to look at", and what can be decided of each."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from nicegui import ui

from opsin.core.artifacts.run_report import Report, SuspectedLabel
from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.data.audit import Finding
from opsin.data.cache import digest_names
from opsin.data.run_images import pair_up
from opsin.studio.context import Studio
from opsin.studio.datasets.album import OUT, Album
from opsin.studio.datasets.photo_files import Done, settled_in
from opsin.studio.runs.albums import Albums
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, class_select
from opsin.studio.ui.kit import UndoBar
from opsin.studio.words import safe

# Pictures of each thing.
_PICTURES: Final = 6
# What the check of all photographs finds, by the kind of finding: several, or one.
_FOUND: Final = {
    "conflicting-labels": "The same photograph is in {classes}.",
    "exact-duplicates": "{number} photographs are the same.",
    "dark": "This photograph is very dark.",
    "bright": "This photograph is very bright.",
    "blurred": "This photograph is blurred.",
    "empty": "There is almost nothing on this photograph.",
}


class Thing(NamedTuple):
    """Something to look at."""

    kind: str  # "suspect", "unreadable", or a kind of finding
    key: tuple[str, str]  # by content: it stays settled, in every window
    text: str  # what is wrong, in a sentence
    photos: Sequence[int]  # positions in the album
    suggested: str = ""  # the class that a classifier suggests


def things_to_look_at(studio: Studio, album: Album) -> list[Thing]:
    """What is wrong with the photographs of an album and was not settled; reads small files."""
    if album.opened is None:
        return []
    settled = settled_in(studio.sets.folder(album.dataset.id))
    suspects: Sequence[SuspectedLabel] = ()
    with contextlib.suppress(OpsinError):
        if run := studio.projects.get(album.dataset.id).classifier():
            report = studio.runs.get(run.id).read(Report)
            suspects = report.failures.suspects if report.failures else ()
    look = studio.sets.looked(album.dataset.id)
    findings = look.findings if look and look.images == len(album.opened) else ()
    things = [*_of_names(album, suspects), *_of_audit(album, findings)]
    return [thing for thing in things if thing.key not in settled]


def _of_names(album: Album, suspects: Sequence[SuspectedLabel]) -> Iterator[Thing]:
    """Labels that a classifier suspects and that are still the same, and unreadable files."""
    assert album.opened is not None
    decoded = album.opened.decoded
    if not (suspects or decoded.unreadable):
        return
    # Digests are of the prepared pixels, and the training may have prepared them in another size.
    then = [(suspect.digest, suspect.name) for suspect in suspects]
    now = list(zip(digest_names(decoded.digests), decoded.names, strict=True))
    rows = dict(pair_up(then, now, (lambda one: one, lambda one: one[0], lambda one: one[1])))
    for number, suspect in enumerate(suspects):
        at = album.at_row.get(rows.get(number, -1))
        if at is not None and album.class_of(at) == suspect.label:
            label, answer = safe(suspect.label, 40), safe(suspect.suggested, 40)
            text = f"It is labelled {label}. The classifier says {answer}."
            yield Thing("suspect", (suspect.digest, suspect.label), text, [at], suspect.suggested)
    unreadable = {name for name, _ in decoded.unreadable if album.contents.files is not None}
    for at, name in enumerate(album.contents.names if unreadable else ()):
        if name in unreadable:
            text = f"{safe(Path(name).name, 60)} is damaged, or not a picture. It is left out."
            yield Thing("unreadable", (name, "unreadable"), text, [at])


def _of_audit(album: Album, findings: Sequence[Finding]) -> Iterator[Thing]:
    assert album.opened is not None
    for finding in findings:
        kind, words = finding.kind, _FOUND.get(finding.kind, "")
        several = "{" in words
        cases = [case.rows for case in finding.cases if several]
        for rows in cases or [(row,) for row in finding.rows.tolist() if words and not several]:
            known = [album.at_row[row] for row in rows if row in album.at_row]
            photos = [at for at in known if album.labels[at] != OUT]
            classes = sorted({album.class_of(at) for at in photos})
            is_conflict = kind == "conflicting-labels"
            if len(photos) <= several or (len(classes) > 1) != is_conflict:
                continue
            names = [*sorted(map(album.opened.digest, rows)), "", *classes * several]
            key = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()
            listed = " and in ".join(safe(name, 40) for name in classes)
            text = words.format(number=count(len(photos)), classes=listed)
            yield Thing(kind, (key[:24], kind), text, photos)


def show_thing(
    albums: Albums,
    album: Album,
    thing: Thing,
    do: Callable[[Awaitable[Done]], object],
    undo: UndoBar,
) -> None:
    """Show something with its photographs, and what can be decided; ``do`` changes the album."""
    remove, fine = _decisions(album, thing)

    def move(class_: str, photos: Sequence[int] = thing.photos) -> object:
        return do(albums.move(album, photos, class_))

    async def settle() -> None:
        change = partial(albums.settle, album.dataset.id, thing.key)
        await change()
        undo.offer(fine, partial(change, False), f"set:{album.dataset.id}")

    def button(text: str, work: kit.Handler) -> None:
        kit.action(text, work, needs="labeller").props("dense")

    with ui.element("article").classes("thing"):
        ImageGallery(
            thing.text,
            thing.photos[:_PICTURES],
            lambda at: GalleryImage(album.address(at), album.name(at), album.class_of(at)),
            side=120,
        )
        with ui.element("div").classes("stack"):
            kit.heading(thing.text)
            with ui.element("div").classes("line"):
                if thing.suggested:
                    button(f"It is {safe(thing.suggested, 30)}", partial(move, thing.suggested))
                for text, photos in remove:
                    button(text, partial(move, "", photos))
                button(fine, settle)
                if thing.suggested:
                    class_select(album.classes, move, "Another class")


def _decisions(album: Album, thing: Thing) -> tuple[list[tuple[str, Sequence[int]]], str]:
    """Words with the photographs that are removed then, and the words that settle it."""
    first, *others = thing.photos
    classes = sorted({album.class_of(at) for at in thing.photos})
    match thing.kind:
        case "suspect":
            return [("Remove", [first])], f"It is {safe(classes[0], 30)}"
        case "conflicting-labels":
            rest = [[at for at in thing.photos if album.class_of(at) != name] for name in classes]
            names = [f"It is {safe(name, 30)}" for name in classes]
            return [*zip(names, rest, strict=True), ("Remove all", thing.photos)], "It is fine"
        case "exact-duplicates":
            return [("Keep one", others)], "It is fine"
        case "unreadable" if not album.can_add:
            return [], "Leave it"
    return [("Remove", [first])], "It is fine"
