"""Results: how good a classifier is, where it fails, and the way to use it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.artifacts.records import IMPORTED
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import OpsinError
from opsin.core.format import ago, count, counted
from opsin.studio.errors import NotThere
from opsin.studio.pages import result_questions
from opsin.studio.pages.downloads import download_menu
from opsin.studio.pages.page import Page
from opsin.studio.pages.result_images import ResultImages
from opsin.studio.pages.terminal_training import can_continue, continue_training, stop_training
from opsin.studio.pages.verdicts import headline, judged_by, warnings, weakest
from opsin.studio.people import allows
from opsin.studio.runs.run_index import RunRow
from opsin.studio.state import Studio
from opsin.studio.ui import kit, layout
from opsin.studio.words import progress_in_words, safe

if TYPE_CHECKING:
    from opsin.studio.projects import Project

# Most characters of names and of notes.
_NAME: Final = 200
_NOTE: Final = 10_000
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


def _compared(*rows: RunRow) -> str:
    """The address that compares classifiers, the others with the oldest."""
    ids = [row.id for row in sorted(rows, key=lambda row: row.started or 0)]
    return f"/compare?runs={','.join(ids)}"


class _Results:
    """The page for one window."""

    def __init__(self, studio: Studio, project: Project, row: RunRow, frame: layout.Frame) -> None:
        self._studio, self._project, self._row, self._frame = studio, project, row, frame
        self._images: ResultImages | None = None
        self._directory: RunDirectory
        self._removed = False

    async def build(self) -> None:
        """Show what takes no time: the verdict, and the questions, folded."""
        studio, row = self._studio, self._row
        self._tools()
        self._content = ui.element("div").classes("stack")
        studio.changed.subscribe(self._heard)
        with self._content:
            self._note_line = kit.note(row.note)
            self._note_line.set_visibility(bool(row.note))
            self._directory = await asyncio.to_thread(studio.runs.get, row.id)
            if row.state == "running":
                self._running()
            elif row.accuracy is None:
                await self._without_figures()
            else:
                report = await asyncio.to_thread(self._directory.read, Report)
                self._verdict(report)

    def _running(self) -> None:
        """Lead to a training of the studio; one of a terminal is shown and stopped here."""
        job = self._studio.jobs.of_run(self._row.folder)
        if job and not job.over:
            kit.empty("It is being trained. The results appear here when it is done.",
                      "Watch the training", layout.address(self._project, "train"))  # fmt: skip
            return
        progress = self._row.progress
        ui.label(progress_in_words(progress, full=True) if progress else "It is being trained.")
        kit.note("This training was started elsewhere. The results appear here when it is done.")
        status = kit.StatusLine()

        async def stop() -> None:
            with status.errors():
                await asyncio.to_thread(stop_training, self._directory)
                status.say("It stops, and keeps the best so far.")

        with ui.element("div").classes("line"):
            kit.action("Stop", stop, needs="owner")

    async def _without_figures(self) -> None:
        row = self._row
        if row.state == "damaged":
            kit.error_line(f"Its files are damaged: {row.cause}. Remove it, and train again.")
        elif row.has_classifier and row.model == IMPORTED:
            kit.empty("It was imported without photographs to test it on, so nobody knows how good "
                      "it is. Try it, or import it once more with photographs.",
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
        questions = result_questions.Questions(
            self._studio, self._project, self._directory, self._images
        )
        self._questions = questions
        questions.build()

    async def show_images(self) -> None:
        """Open the photographs and show the mistakes; an error appears in their place."""
        if self._images is None:
            return
        images, fault = self._images, None
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
                self._questions.without_images(fault)
                return
            self._mistakes(images)
        images.on_change(self._show_corrected)
        self._show_corrected()
        await self._questions.with_images()

    def _mistakes(self, images: ResultImages) -> None:
        """Show the mistakes, those of the weakest class first."""
        report = self._questions.report
        worst = weakest(report.judged)
        if worst is None:
            kit.note("Every answer is right, so there are no mistakes to show.")
            return
        own = images.mistakes(worst.label)
        kit.heading(worst.words)
        images.gallery("Mistakes of the weakest class", own)
        others = [place for place in images.mistakes() if place not in set(own)]
        if others:
            kit.heading(f"The other {counted(len(others), 'mistake')}")
            images.gallery("Other mistakes, the most confident first", others)
        kit.note("Click a photograph to see it large. If its label is wrong, correct it there: "
                 "the file stays as it is." if not images.fixed else images.fixed)  # fmt: skip

    def _show_corrected(self) -> None:
        """Say how many labels were corrected since, and lead to the next training."""
        images = self._images
        if images is None or self._corrected.is_deleted:
            return
        self._corrected.clear()
        if number := len(images.now):
            have = counted(number, "label was", "labels were")
            with self._corrected:
                ui.label(f"{have} corrected since this training.")
                kit.link_button(
                    f"Train again with {counted(number, 'correction')}",
                    layout.address(
                        self._project, "train", **{"from": self._row.id, "start": "1"}
                    ), icon="model_training",
                )  # fmt: skip

    # What can be done with the classifier.

    def _tools(self) -> None:
        project, row = self._project, self._row
        with self._frame.actions:
            if len(project.runs) > 1:
                self._choice()
            if row.has_classifier:
                kit.link_button("Try it", layout.address(project, "try", run=row.id),
                                kind="primary", icon="photo_camera")  # fmt: skip
                download_menu(self._studio, row, project.title_of(row))
            more = kit.icon_action("more_horiz", "More about this classifier", lambda: None)
            with more, ui.menu(), ui.list():
                if allows("owner"):
                    ui.menu_item("Rename", self._rename)
                    ui.menu_item("Notes", self._note)
                if others := [other for other in project.classifiers if other.id != row.id]:
                    target = _compared(row, others[0])
                    ui.menu_item(f"Compare with {safe(project.title_of(others[0]), 40)}",
                                 lambda: ui.navigate.to(target))  # fmt: skip
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

    def _rename(self) -> None:
        """Let the heading be written over."""
        heading = self._frame.heading
        if not heading.visible or heading.parent_slot is None:
            return
        heading.set_visibility(False)

        async def done() -> None:
            if not field.is_deleted:
                name = str(field.value or "").strip()
                field.delete()
                heading.set_visibility(True)
                await self._write("name", "" if name == self._numbered() else name)

        with heading.parent_slot.parent:
            field = ui.input(value=heading.text).props(f"autofocus maxlength={_NAME}")
            field.props["aria-label"] = "Name of the classifier"
            field.on("keydown.enter", done).on("blur", done)

    def _numbered(self) -> str:
        """The name that it has without one of its own."""
        return self._project.title_of(replace(self._row, given_name=""))

    async def _note(self) -> None:
        with ui.dialog() as dialog, ui.card().classes("stack").style("min-width: min(100%, 480px)"):
            dialog.props["aria-label"] = "Notes"
            kit.heading("Notes")
            field = ui.textarea("What you want to remember", value=self._row.note)
            field.props(f"autogrow autofocus maxlength={_NOTE}")
            with ui.element("div").classes("line"):
                kit.action("Cancel", lambda: dialog.submit(None))
                kit.action("Save", lambda: dialog.submit(field.value or ""), kind="primary")
        note = await dialog
        dialog.delete()
        if note is not None:
            await self._write("note", str(note))

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
        try:
            now = self._studio.runs.row(self._row.id)
        except OpsinError:
            ui.navigate.to(layout.address(self._project, "results"))
            return
        before, self._row = self._row, now
        if any(getattr(before, name) != getattr(now, name) for name in _SHOWN):
            ui.navigate.reload()
        self._frame.retitle(self._project.title_of(now))
        self._note_line.set_text(safe(now.note, 600))
        self._note_line.set_visibility(bool(now.note))
