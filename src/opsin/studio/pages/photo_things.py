"""What is wrong with photographs: "7 things to look at", and the list of them that it opens."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from nicegui import ui

from opsin.core.artifacts.run_report import Report, SuspectedLabel
from opsin.core.errors import OpsinError
from opsin.core.format import count, counted
from opsin.data.cache import digest_names
from opsin.studio.datasets.album import Album
from opsin.studio.datasets.corrections import OUT
from opsin.studio.pages.confirmed_labels import ConfirmedLabels
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit
from opsin.studio.ui.viewer import class_select
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.context import Studio

# Things on the list, and pictures of each.
_SHOWN: Final = 20
_PICTURES: Final = 6
# What the check of all photographs finds, by the kind of finding; of several, or of one.
_SEVERAL: Final = {
    "conflicting-labels": "The same photograph is in {classes}.",
    "exact-duplicates": "{number} photographs are the same.",
}
_ONE: Final = {
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
    settled = ConfirmedLabels(studio.sets.folder(album.dataset.id)).read()
    things = [*_suspects(studio, album), *_unreadable(album), *_of_audit(album)]
    return [thing for thing in things if thing.key not in settled]


def _suspects(studio: Studio, album: Album) -> Iterator[Thing]:
    """Labels that the newest classifier suspects, and that are still the same."""
    assert album.opened is not None
    suspects: Sequence[SuspectedLabel] = ()
    with contextlib.suppress(OpsinError):
        if run := studio.projects.get(album.dataset.id).classifier():
            report = studio.runs.get(run.id).read(Report)
            suspects = report.failures.suspects if report.failures else ()
    if not suspects:
        return
    row_of = {digest: row for row, digest in enumerate(digest_names(album.opened.decoded.digests))}
    by_name = {name: at for at, name in enumerate(album.contents.names)}
    for suspect in suspects:
        row = row_of.get(suspect.digest)
        at = by_name.get(suspect.name) if row is None else album.at_row.get(row)
        if at is not None and album.class_of(at) == suspect.label:
            label, answer = safe(suspect.label, 40), safe(suspect.suggested, 40)
            text = f"It is labelled {label}. The classifier says {answer}."
            yield Thing("suspect", (suspect.digest, suspect.label), text, [at], suspect.suggested)


def _unreadable(album: Album) -> Iterator[Thing]:
    assert album.opened is not None
    unreadable = [name for name, _ in album.opened.decoded.unreadable]
    if unreadable and album.contents.files is not None:
        by_name = {name: at for at, name in enumerate(album.contents.names)}
        for name in filter(by_name.__contains__, unreadable):
            text = f"{safe(Path(name).name, 60)} is damaged, or not a picture. It is left out."
            yield Thing("unreadable", (name, "unreadable"), text, [by_name[name]])


def _of_audit(album: Album) -> Iterator[Thing]:
    opened = album.opened
    assert opened is not None
    for kind, finding in (opened.findings or {}).items():
        cases: Sequence[Sequence[int]] = ()
        if kind in _SEVERAL:
            cases = [case.rows for case in finding.cases]
        elif kind in _ONE:
            cases = [[row] for row in finding.rows.tolist()]
        for rows in cases:
            known = [album.at_row[row] for row in rows if row in album.at_row]
            photos = [at for at in known if album.labels[at] != OUT]
            classes = sorted({album.class_of(at) for at in photos})
            some = len(photos) > 1 and (len(classes) > 1) == (kind == "conflicting-labels")
            if photos if kind in _ONE else some:
                names = [opened.digest(row) for row in rows]
                text = "\0".join([*sorted(names), "", *(classes if kind in _SEVERAL else ())])
                text = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
                words = (_SEVERAL | _ONE)[kind].format(
                    number=count(len(photos)),
                    classes=" and in ".join(safe(name, 40) for name in classes),
                )
                yield Thing(kind, (text, kind), words, photos)


class ThingsDialog:
    """A button with the number of things to look at, and their list.

    Args:
        studio: The state of all windows.
        do: The page's way to change something, with an undo of its own for what is no change of
            an album.
    """

    _album: Album

    def __init__(self, studio: Studio, do: Callable[..., Awaitable[None]]) -> None:
        self._studio, self._do, self._things = studio, do, list[Thing]()
        self._button = kit.action("", self._open, icon="rule")
        self._button.set_visibility(False)
        with ui.dialog() as self._dialog, ui.card().classes("stack things"):
            self._dialog.props["aria-label"] = "Things to look at"
            with ui.element("div").classes("line no-wrap"):
                with ui.element("h2").classes("col"):
                    self._title = ui.label()
                kit.icon_action("close", "Close", self._dialog.close)
            self._list = ui.element("div").classes("stack")

    async def show(self, album: Album) -> None:
        """Look for things in an album, and show their number."""
        things = await IMAGES.run(things_to_look_at, self._studio, album)
        if not self._button.is_deleted:
            self._album, self._things = album, things
            words = f"{counted(len(things), 'thing')} to look at"
            self._button.set_text(words)
            self._button.set_visibility(bool(things))
            self._title.set_text(words if things else "Everything was looked at")
            if self._dialog.value:
                self._fill()

    def _open(self) -> None:
        self._fill()
        self._dialog.open()

    def _fill(self) -> None:
        self._list.clear()
        with self._list:
            for thing in self._things[:_SHOWN]:
                self._thing(thing)
            if len(self._things) > _SHOWN:
                kit.note("The others follow as these are settled.")

    def _thing(self, thing: Thing) -> None:
        with ui.element("article").classes("thing"):
            with ui.element("div").classes("line"):
                for at in thing.photos[:_PICTURES]:
                    with ui.element("figure"):
                        image = ui.element("img").props("loading=lazy")
                        image.props["src"] = kit.rooted(self._album.address(at))
                        image.props["alt"] = safe(self._album.name(at).rpartition("/")[2])
                        with ui.element("figcaption").classes("note"):
                            ui.label(safe(self._album.class_of(at), 24))
            with ui.element("div").classes("stack"):
                kit.heading(thing.text, 3)
                with ui.element("div").classes("line"):
                    for text, work in self._answers(thing):
                        kit.action(text, work, needs="labeller").props("dense")
                    if thing.kind == "suspect":
                        move = partial(self._move, self._album, thing.photos)
                        class_select(self._album.classes, move, "Another class")

    def _answers(self, thing: Thing) -> Iterator[tuple[str, kit.Handler]]:
        """What can be decided, in words, and what does it."""
        (first, *others), album = thing.photos, self._album
        remove = partial(self._remove, album)
        classes = sorted({album.class_of(at) for at in thing.photos})
        fine = "It is fine"
        match thing.kind:
            case "suspect":
                move = partial(self._move, album, thing.photos, thing.suggested)
                yield f"It is {safe(thing.suggested, 30)}", move
                fine = f"It is {safe(classes[0], 30)}"
            case "conflicting-labels":
                for name in classes:
                    rest = [at for at in thing.photos if album.class_of(at) != name]
                    yield f"It is {safe(name, 30)}", partial(remove, rest)
                yield "Remove all", partial(remove, thing.photos)
            case "exact-duplicates":
                yield "Keep one", partial(remove, others)
            case "unreadable" if not album.can_add:
                fine = "Leave it"
            case _:
                yield "Remove", partial(remove, [first])
        yield fine, partial(self._settle, thing, True)
        if thing.kind == "suspect":
            yield "Remove", partial(remove, [first])

    async def _remove(self, album: Album, photos: Sequence[int]) -> None:
        await self._do(self._studio.albums.remove(album, photos))

    async def _move(self, album: Album, photos: Sequence[int], class_: str) -> None:
        await self._do(self._studio.albums.move(album, photos, class_))

    async def _settle(self, thing: Thing, settled: bool) -> None:
        async def change() -> str:
            sets = self._studio.sets
            kept, pair = ConfirmedLabels(sets.folder(self._album.dataset.id)), {thing.key}
            await IMAGES.run(lambda: kept.change(add=pair) if settled else kept.change(remove=pair))
            return "It is fine" if settled else ""

        await self._do(change(), undo=partial(self._settle, thing, False))
