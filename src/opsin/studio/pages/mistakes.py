"""A run's mistakes, and better labels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions, RunPredictions
from opsin.core.artifacts.run_report import Failures, Report, SuspectedLabel
from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.report.terminal import labels_grounds, labels_title
from opsin.studio.pages.relabel import Relabel, open_relabel
from opsin.studio.pages.report import shown
from opsin.studio.parts import layout
from opsin.studio.runs.run_index import RunRow
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

#: What can be looked at, and how it is called.
_KINDS: Final = (
    ("suspects", "Suspected labels"),
    ("mistakes", "Most confident mistakes"),
    ("unsure", "Least confident right answers"),
)
# Images on a page: of a gallery, and of suspects, each of which has buttons.
_PER_PAGE, _SUSPECTS = 100, 20


async def show(
    studio: Studio, row: RunRow, directory: RunDirectory, *, kind: str, page: int
) -> None:
    """Show the mistakes that can be learnt from, and correct labels.

    Args:
        studio: What all windows share.
        row: The run.
        directory: Its files.
        kind: ``suspects``, ``mistakes`` or ``unsure``.
        page: Number of the page, from 0.

    Raises:
        RunError: One of its files is damaged.
    """
    report = await asyncio.to_thread(directory.read, Report)
    suspects = report.failures.suspects if report.failures else []
    if kind not in dict(_KINDS):
        kind = "suspects" if suspects else "mistakes"
    _kinds(row, kind, len(suspects))
    place = ui.element("div")
    with place:
        waiting = ui.label("Opening the images …").classes("op-muted")
    await ui.context.client.connected()
    with place:
        try:
            relabel = await open_relabel(studio, row, directory)
            if place.is_deleted:
                return  # the window was closed meanwhile
            waiting.set_visibility(False)
            relabel.bar()
            if kind == "suspects":
                first = _SUSPECTS * min(page, _last(len(suspects), _SUSPECTS))
                _Suspects(relabel, suspects[first : first + _SUSPECTS], report.failures).build()
                _pages(row, kind, page, len(suspects), _SUSPECTS)
            else:
                total = await _gallery(relabel, directory, report, kind, page)
                _pages(row, kind, page, total, _PER_PAGE)
        except OpsinError as error:
            waiting.set_visibility(False)
            layout.error_line(error)


def _kinds(row: RunRow, chosen: str, suspects: int) -> None:
    with ui.element("nav").classes("op-tabs").props('aria-label="Kinds of images"'):
        for key, word in _KINDS:
            number = f" ({count(suspects)})" if key == "suspects" else ""
            link = ui.link(f"{word}{number}", f"/runs/{row.id}?tab=mistakes&kind={key}")
            if key == chosen:
                link.props('aria-current="page"')


async def _gallery(
    relabel: Relabel, directory: RunDirectory, report: Report, kind: str, page: int
) -> int:
    """Show a page of mistakes, or of right answers; return how many there are."""
    wrong = kind == "mistakes"
    answers, places = await asyncio.to_thread(_read, directory, report, wrong)
    if not places:
        layout.empty("There are none: every answer is right." if wrong else "There are none.")
        return 0
    names = [each.name for each in report.judged.classes]
    what = (
        "wrong answers, most confident first" if wrong else "right answers, least confident first"
    )
    with ui.element("p").classes("op-muted"):
        ui.label(
            f"{count(len(places))} {what}. Below each image is the answer; choose images to "
            "give them another class."
        )
    first = _PER_PAGE * min(page, _last(len(places), _PER_PAGE))
    some = places[first : first + _PER_PAGE]
    relabel.gallery(shown(answers, relabel.opened, some, names), dict(_KINDS)[kind])
    return len(places)


def _read(
    directory: RunDirectory, report: Report, wrong: bool
) -> tuple[PartPredictions, list[int]]:
    answers = RunPredictions.read(directory).of(report.split)
    places = answers.surest(answers.right != wrong)
    return answers, places if wrong else places[::-1]


def _pages(row: RunRow, kind: str, page: int, total: int, per: int) -> None:
    """Show the way to other pages: ordinary links."""
    if total <= per:
        return
    last = _last(total, per)
    page = min(page, last)
    with ui.element("nav").classes("op-actions").props('aria-label="Pages of images"'):
        base = f"/runs/{row.id}?tab=mistakes&kind={kind}&page="
        if page > 0:
            ui.link("Earlier", f"{base}{page - 1}")
        ui.label(f"Page {page + 1:,} of {last + 1:,}")
        if page < last:
            ui.link("Later", f"{base}{page + 1}")


def _last(total: int, per: int) -> int:
    """Return the number of the last page, from 0."""
    return max(0, (total - 1) // per)


class _Suspects:
    """Images whose label is probably wrong, each beside a typical one of the other class.

    Args:
        relabel: What changes labels.
        suspects: Those of this page.
        failures: What ``report.json`` says of all of them, if anything.
    """

    def __init__(
        self, relabel: Relabel, suspects: Sequence[SuspectedLabel], failures: Failures | None
    ) -> None:
        self._relabel, self._suspects = relabel, suspects
        self._title = labels_title(failures) if failures else "No wrong labels are suspected"
        self._grounds = labels_grounds(
            failures.suspected if failures else 0, failures.labels if failures else None
        )

    def build(self) -> None:
        """Show them, and follow what is changed."""
        if not self._suspects:
            layout.empty(safe(f"{self._title}. {self._grounds}", 600))
            return
        with ui.element("p").classes("op-muted"):
            ui.label(
                "The classifier disagrees with these labels. Nothing changes unless you say so. "
                f"{safe(self._grounds, 600)}"
            )
        self._cards = ui.element("div").classes("op-suspects")
        self._draw()
        self._relabel.on_change(self._draw)

    def _draw(self) -> None:
        self._cards.clear()
        with self._cards:
            for suspect in self._suspects:
                self._card(suspect)

    def _card(self, suspect: SuspectedLabel) -> None:
        image, other = suspect.row, suspect.suggested
        relabel = self._relabel
        with ui.element("article").classes("op-suspect"):
            with ui.element("div").classes("op-row"):
                self._figure(image, f"label {suspect.label}")
                if suspect.example is not None:
                    self._figure(suspect.example, f"Typical {other}, for comparison")
            with ui.element("p").classes("op-muted"):
                ui.label(f"{safe(suspect.name, 60)} · doubt {suspect.score:.3f}")
            if image in relabel.now:
                now = relabel.now[image]
                with ui.element("p"):
                    ui.label("Left out now." if now is None else f"Now {safe(now, 60)}.")
                layout.action("Undo", lambda: relabel.change([image], undo=True))
                return
            with ui.element("div").classes("op-actions"):
                if other in relabel.classes:
                    words = f"It is {safe(other, 40)}"
                    layout.action(words, lambda: relabel.change([image], other))
                layout.action("Leave out", lambda: relabel.change([image]))

    def _figure(self, row: int, words: str) -> None:
        with ui.element("figure"):
            image = ui.element("img").classes("op-pixel").props('width="112" height="112"')
            image._props["src"] = self._relabel.opened.address(row)
            image._props["alt"] = safe(f"{self._relabel.opened.name(row)}, {words}")
            with ui.element("figcaption"):
                ui.label(safe(words, 40))
