"""What is wrong with photographs: "7 things to look at", and the list of them that it opens."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from filelock import FileLock
from nicegui import ui

from opsin.core.artifacts.run_report import Report, SuspectedLabel
from opsin.core.errors import OpsinError
from opsin.core.format import count, counted
from opsin.core.storage import storage_errors, write_json
from opsin.data.cache import digest_names
from opsin.studio.datasets.album import Album
from opsin.studio.datasets.corrections import OUT
from opsin.studio.pages.confirmed_labels import ConfirmedLabels
from opsin.studio.people import require
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit
from opsin.studio.ui.label_editor import decisions
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.context import Studio

# Things on the list at first, and pictures of each.
_SHOWN: Final = 20
_PICTURES: Final = 6
# What is wrong with single photographs, by the kind of finding.
_ODD: Final = {
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

    kind: Literal["suspect", "conflict", "copies", "unreadable", "odd"]
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


def things_to_look_at(studio: Studio, album: Album) -> list[Thing]:
    """What is wrong with the photographs of an album and was not settled; reads small files."""
    if album.opened is None:
        return []
    folder = studio.sets.folder(album.dataset.id)
    settled = SettledThings(folder).read()
    confirmed = ConfirmedLabels(folder).read()  # among a classifier's results
    settled |= {_key("suspect", [digest], [label]) for digest, label in confirmed}
    things = [*_suspects(studio, album), *_of_audit(album)]
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
            key = _key("suspect", [suspect.digest], [suspect.label])
            yield Thing("suspect", key, text, (at,), suspect.suggested)


def _of_audit(album: Album) -> Iterator[Thing]:
    """What the check of all photographs has found."""
    opened = album.opened
    assert opened is not None
    if opened.decoded.unreadable and album.contents.files is not None:
        by_name = {name: at for at, name in enumerate(album.contents.names)}
        for name, _ in opened.decoded.unreadable:
            if (at := by_name.get(name)) is not None:
                text = f"{safe(Path(name).name, 60)} is damaged, or not a picture. It is left out."
                yield Thing("unreadable", f"unreadable:{name}", text, (at,))
    findings = opened.findings or {}
    for kind in ("conflicting-labels", "exact-duplicates"):
        for case in findings[kind].cases if kind in findings else ():
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
    for kind, text in _ODD.items():
        for row in findings[kind].rows.tolist() if kind in findings else ():
            at = album.at_row.get(row)
            if at is not None and album.labels[at] != OUT:
                yield Thing("odd", _key(kind, [opened.digest(row)]), text, (at,))


def _key(kind: str, digests: Sequence[str], labels: Sequence[str] = ()) -> str:
    text = "\0".join([kind, *sorted(digests), "", *labels])
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class ThingsDialog:
    """A button with the number of things to look at, and their list.

    Args:
        studio: The state of all windows.
        do: The page's way to change something, with words and undo of its own where it is no
            change of an album.
    """

    def __init__(self, studio: Studio, do: Callable[..., Awaitable[None]]) -> None:
        self._studio, self._do, self._albums = studio, do, studio.albums
        self._things: list[Thing] = []
        self._album: Album | None = None
        self._most = _SHOWN
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
        if self._button.is_deleted:
            return
        self._album, self._things = album, things
        words = f"{counted(len(things), 'thing')} to look at"
        self._button.set_text(words)
        self._button.set_visibility(bool(things))
        self._title.set_text(words if things else "Everything was looked at")
        if self._dialog.value:
            self._fill()

    def _open(self) -> None:
        self._most = _SHOWN
        self._fill()
        self._dialog.open()

    def _fill(self) -> None:
        self._list.clear()
        with self._list:
            for thing in self._things[: self._most]:
                self._thing(thing)
            if len(self._things) > self._most:
                kit.action(f"Show more of {count(len(self._things))}", self._show_more)

    def _show_more(self) -> None:
        self._most += _SHOWN
        self._fill()

    def _thing(self, thing: Thing) -> None:
        album = self._album
        assert album is not None
        with ui.element("article").classes("thing"):
            with ui.element("div").classes("line"):
                for at in thing.photos[:_PICTURES]:
                    with ui.element("figure"):
                        image = ui.element("img").props("loading=lazy")
                        image.props["src"] = kit.rooted(album.address(at))
                        image.props["alt"] = safe(album.name(at).rpartition("/")[2])
                        with ui.element("figcaption").classes("note"):
                            ui.label(safe(album.class_of(at), 24))
            with ui.element("div").classes("stack"):
                kit.heading(thing.text, 3)
                self._answers(album, thing)

    def _answers(self, album: Album, thing: Thing) -> None:
        first, *others = thing.photos
        fine = "It is fine", lambda: self._settle(album, thing)

        def remove(photos: Sequence[int]) -> Callable[[], Awaitable[None]]:
            return lambda: self._do(self._albums.remove(album, photos))

        def move(class_: str) -> Awaitable[None]:
            return self._do(self._albums.move(album, [first], class_))

        match thing.kind:
            case "suspect":
                label, answer = album.class_of(first), thing.suggested
                decisions(
                    [(f"It is {safe(answer, 30)}", lambda: move(answer)),
                     (f"It is {safe(label, 30)}", fine[1]), ("Remove", remove([first]))],
                    [name for name in album.classes if name != label], move,
                )  # fmt: skip
            case "conflict":
                answers = [
                    (f"It is {safe(name, 30)}",
                     remove([at for at in thing.photos if album.class_of(at) != name]))
                    for name in sorted({album.class_of(at) for at in thing.photos})
                ]  # fmt: skip
                decisions([*answers, ("Remove all", remove(thing.photos)), fine])
            case "copies":
                decisions([("Keep one", remove(others)), fine])
            case "unreadable" if not album.can_add:
                decisions([("Leave it", fine[1])])
            case _:
                decisions([("Remove", remove([first])), fine])

    async def _settle(self, album: Album, thing: Thing) -> None:
        settled = SettledThings(self._studio.sets.folder(album.dataset.id))

        async def change(value: bool) -> str:
            await IMAGES.run(settled.settle, thing.key, value)
            return "It is fine"

        async def undo() -> None:
            await self._do(change(False), "Looked at again", undo=lambda: self._do(change(True)))

        await self._do(change(True), undo=undo)
