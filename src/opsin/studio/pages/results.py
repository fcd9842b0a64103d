"""Results: how good a classifier is, where it fails, and the way to use it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.artifacts.records import IMPORTED
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import OpsinError
from opsin.core.format import ago, count, counted
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.image_routes import files_of
from opsin.studio.jobs.outside import can_continue, continue_training
from opsin.studio.pages.downloads import download_menu
from opsin.studio.pages.page import Page
from opsin.studio.pages.result_images import ResultImages
from opsin.studio.pages.result_questions import Questions
from opsin.studio.pages.verdicts import headline, judged_by, warnings, weakest
from opsin.studio.people import allows
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui import kit, layout
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.projects import Project

# Labels of the fields for name and notes, and most characters.
_FIELDS: Final = {"name": ("Name of the classifier", 200), "note": ("Notes", 10_000)}
# What makes the page another one when it changes.
_SHOWN: Final = ("state", "accuracy", "has_classifier")


async def show(studio: Studio, project: str, run: str = "") -> None:
    """Build it."""
    of = await asyncio.to_thread(studio.projects.get, project)
    row = _chosen(of, run)
    title = of.title_of(row) if row else "Results"
    page = None
    with layout.page(
        studio, title, project=of, here="results", guide="understand/evaluation.html"
    ) as frame:
        if row is None:
            kit.empty(
                "How good the classifier is appears here after its training.",
                "Train", layout.address(of, "train"),
            )  # fmt: skip
            return
        page = _Results(studio, of, row, frame)
        await page.build()
    if page is not None:
        await ui.context.client.connected()
        await page.show_images()


PAGE = Page("/projects/{project}/results", show)


def _chosen(project: Project, run: str) -> RunRow | None:
    """The asked run, or the newest classifier, or the newest run."""
    if not run:
        return project.classifier() or next(iter(project.runs), None)
    row = next((row for row in project.runs if row.id == run), None)
    if row is None:
        raise NotThere("There is no such classifier here", "Choose another one.")
    return row


class _Results:
    """The page for one window."""

    def __init__(self, studio: Studio, project: Project, row: RunRow, frame: layout.Frame) -> None:
        self._studio, self._project, self._row, self._frame = studio, project, row, frame
        self._images: ResultImages | None = None
        self._removed = self._writing = False

    async def build(self) -> None:
        """Show what takes no time: the verdict, and the questions, folded."""
        studio, row = self._studio, self._row
        self._directory = await asyncio.to_thread(studio.runs.get, row.id)
        self._files = await asyncio.to_thread(files_of, self._directory)
        self._tools()
        self._content = ui.element("div").classes("stack")
        studio.changed.subscribe(self._heard)
        with self._content:
            with ui.element("div"):
                self._note_line = kit.note(row.note)
            self._note_line.set_visibility(bool(row.note))
            if row.state == "running":
                self._running()
            elif row.accuracy is None:
                await self._without_figures()
            else:
                self._verdict(await asyncio.to_thread(self._directory.read, Report))

    def _running(self) -> None:
        kit.empty("It is being trained. The results appear here when it is done.",
                  "Watch the training", layout.address(self._project, "train"))  # fmt: skip

    async def _without_figures(self) -> None:
        row = self._row
        if row.state == "damaged":
            kit.error_line(f"Its files are damaged: {row.cause}. Remove it, and train again.")
        elif row.has_classifier and row.model == IMPORTED:
            kit.empty("It was imported without photographs to test it on, so its accuracy is not "
                      "known. Try it, or import it once more with photographs.",
                      "Import it with photographs", "/import")  # fmt: skip
        else:
            cause = f" {row.cause.rstrip('.')}." if row.cause else ""
            kit.empty(
                f"The training ended before the classifier was tested.{safe(cause, 400)}",
                "Train again", layout.address(self._project, "train", **{"from": row.id}),
            )  # fmt: skip
            if row.in_steps and await asyncio.to_thread(can_continue, self._directory):
                with ui.element("div").classes("line"):
                    kit.action("Continue the training", self._continue, needs="owner")

    async def _continue(self) -> None:
        title = self._project.title_of(self._row)
        await asyncio.to_thread(continue_training, self._studio, self._row, title)
        self._studio.changed.emit("jobs")
        ui.navigate.to(layout.address(self._project, "train"))

    def _verdict(self, report: Report) -> None:
        with ui.element("p").classes("headline"):
            ui.label(headline(report))
        with ui.element("p").classes("prose"):
            ui.label(judged_by(report))
        for line in warnings(report):
            with ui.element("p").classes("warning prose"):
                ui.label(safe(line, 600))
        self._corrected = ui.element("div").classes("line").props('role="status"')
        self._pictures = ui.element("div").classes("stack")
        with self._pictures:
            ui.skeleton(height="200px")
        self._images = ResultImages(self._studio, self._row, self._frame, report)
        self._questions = Questions(
            self._studio, self._project, self._directory, self._files, self._images
        )

    async def show_images(self) -> None:
        """Open the photographs and show the mistakes; an error appears in their place."""
        images, fault = self._images, None
        if images is None:
            return
        try:
            await images.open(self._directory)
        except OpsinError as error:
            fault = error
        if self._pictures.is_deleted:
            return
        self._pictures.clear()
        with self._pictures:
            if fault is not None:
                kit.error_line(fault)
            else:
                _mistakes(images)
                images.on_change(self._show_corrected)
                self._show_corrected()
            self._questions.go_on(fault)

    def _show_corrected(self) -> None:
        """Say how many labels were corrected since, and lead to the next training."""
        if self._images is None or self._corrected.is_deleted:
            return
        self._corrected.clear()
        if number := len(self._images.now):
            again = layout.address(self._project, "train", **{"from": self._row.id, "start": "1"})
            with self._corrected:
                ui.label(f"{counted(number, 'label was', 'labels were')} corrected since this "
                         "training.")  # fmt: skip
                kit.link_button(f"Train again with {counted(number, 'correction')}", again,
                                icon="model_training")  # fmt: skip

    # What can be done with the classifier.

    def _tools(self) -> None:
        project, row = self._project, self._row
        with self._frame.actions:
            if len(project.runs) > 1:
                self._choice()
            if row.has_classifier:
                kit.link_button("Try it", layout.address(project, "try", run=row.id),
                                kind="primary", icon="photo_camera")  # fmt: skip
                download_menu(self._studio, row, project.title_of(row), self._files)
            more = kit.icon_action("more_horiz", "More about this classifier", lambda: None)
            # Its focus does not go back to the button, which would end the writing of a name.
            with more, ui.menu().props("no-refocus"), ui.list():
                if allows("owner"):
                    ui.menu_item("Rename", lambda: self._ask("name", self._frame.heading.text))
                    ui.menu_item("Notes", lambda: self._ask("note", self._row.note))
                if others := [other for other in project.classifiers if other.id != row.id]:
                    two = sorted((row, others[0]), key=lambda row: row.started or 0)
                    ui.menu_item(
                        f"Compare with {safe(project.title_of(others[0]), 40)}",
                        lambda: ui.navigate.to(f"/compare?runs={two[0].id},{two[1].id}"),
                    )
                if allows("owner"):
                    ui.menu_item("Remove", self._remove)

    def _choice(self) -> None:
        project = self._project
        names = {
            row.id: f"{safe(project.title_of(row), 60)} · {ago(row.started or 0)}"
            for row in project.runs
        }
        chosen = ui.select(
            names, value=self._row.id, with_input=len(names) > 12,
            on_change=lambda event: ui.navigate.to(
                layout.address(project, "results", run=event.value)
            ),
        ).style("width: 240px; max-width: 100%")  # fmt: skip
        chosen.props["aria-label"] = f"Classifier, {count(len(names))} in this project"

    def _ask(self, what: str, before: str) -> None:
        """Let the name be written over in the heading's place, or the notes above the verdict."""
        shown: ui.element = self._frame.heading if what == "name" else self._note_line
        if shown.parent_slot is None or self._writing:
            return
        self._writing = True
        shown.set_visibility(False)

        async def done() -> None:
            if field.is_deleted:
                return
            text = str(field.value or "").strip()
            field.delete()
            self._writing = False
            shown.set_visibility(what == "name" or bool(self._row.note))
            numbered = self._project.title_of(replace(self._row, given_name=""))
            await self._write(what, "" if what == "name" and text == numbered else text)

        label, most = _FIELDS[what]
        with shown.parent_slot.parent:
            field = (ui.input if what == "name" else ui.textarea)(value=before)
            field.props(f"autogrow maxlength={most}").on("blur", done)
            field.props["aria-label"] = label
            if what == "name":
                field.on("keydown.enter", done)
            # The menu has the focus until it has closed.
            ui.timer(0.4, lambda: field.run_method("focus"), once=True)

    async def _write(self, what: str, text: str) -> None:
        """Store a name or a note, and offer to take that back."""
        before = self._row.given_name if what == "name" else self._row.note
        if text == before:
            return
        await asyncio.to_thread(lambda: self._studio.runs.write_notes(self._row.id, **{what: text}))
        self._studio.changed.emit("runs")
        self._frame.undo.offer(f"The {what} was changed", lambda: self._write(what, before))

    async def _remove(self) -> None:
        self._removed = True
        title = self._project.title_of(self._row)
        try:
            token = await asyncio.to_thread(self._studio.runs.delete, self._row.id)
        except OpsinError:
            self._removed = False
            raise
        self._studio.opened.forget(self._row.id)
        self._studio.changed.emit("runs")
        self._frame.actions.clear()
        self._content.clear()
        with self._content:
            kit.empty(f"{safe(title, 60)} was removed. It is kept for seven days under "
                      "Classifiers.", "All classifiers", "/classifiers")  # fmt: skip
        address = layout.address(self._project, "results", run=self._row.id)

        async def restore() -> None:
            await asyncio.to_thread(self._studio.runs.restore, token)
            self._studio.changed.emit("runs")
            ui.navigate.to(address)

        self._frame.undo.offer(f"{safe(title, 60)} was removed", restore)

    def _heard(self, topic: str) -> None:
        """Load the page anew when another window removed or renamed it, or it has ended."""
        if self._removed or topic not in ("runs", f"run:{self._row.id}"):
            return
        before, now = self._row, self._studio.runs.find(self._row.folder)
        if now is None:
            ui.navigate.to(layout.address(self._project, "results"))
            return
        self._row = now
        if any(getattr(before, name) != getattr(now, name) for name in _SHOWN):
            ui.navigate.reload()
        self._frame.retitle(self._project.title_of(now))
        self._note_line.set_text(safe(now.note, 600))
        self._note_line.set_visibility(bool(now.note))


def _mistakes(images: ResultImages) -> None:
    """Show the mistakes, those of the weakest class first."""
    worst = weakest(images.report.judged)
    if worst is None:
        kit.note("Every answer is right, so there are no mistakes to show.")
        return
    label, words = worst
    own = images.mistakes(label)
    mine = set(own)
    kit.heading(words)
    images.gallery("Mistakes of the weakest class", own)
    if others := [place for place in images.mistakes() if place not in mine]:
        kit.heading(f"The other {counted(len(others), 'mistake')}")
        images.gallery("Other mistakes, the most confident first", others)
    kit.note(images.fixed or "Click a photograph to see it large. If its label is wrong, correct "
             "it there: the file stays as it is.")  # fmt: skip
