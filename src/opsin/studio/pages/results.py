"""Results: how good a classifier is, where it fails, and the way to use it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from nicegui import ui

from opsin.core.artifacts.records import IMPORTED
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import OpsinError
from opsin.core.format import ago, count, counted
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.image_routes import files_of
from opsin.studio.pages.downloads import download_menu
from opsin.studio.pages.page import Page
from opsin.studio.pages.result_images import ResultImages
from opsin.studio.pages.result_questions import Questions
from opsin.studio.pages.verdicts import in_short, judged_by, limits, weakest
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui import kit, layout
from opsin.studio.words import safe


async def show(studio: Studio, project: str, run: str = "") -> None:
    """Build it for the asked classifier, or the newest one."""
    of = await asyncio.to_thread(studio.projects.get, project)
    row = of.classifier() or next(iter(of.runs), None)
    if run:
        row = next((row for row in of.runs if row.id == run), None)
        if row is None:
            raise NotThere("There is no such classifier here", "Choose another one.")
    title = of.title_of(row) if row else "Results"
    page = None
    with layout.page(
        studio, title, project=of, here="results", guide="understand/evaluation.html"
    ) as frame:
        if row is None:
            kit.empty("How good the classifier is appears here after its training.",
                      "Train", layout.address(of, "train"))  # fmt: skip
            return
        page = _Results(studio, of, row, frame)
        await page.build()
    if page is not None and page.images is not None:
        await ui.context.client.connected()
        await page.images.load()


PAGE = Page("/projects/{project}/results", show)


class _Results:
    """The page for one window: first what takes no time, then the photographs."""

    images: ResultImages | None = None

    def __init__(self, studio: Studio, project: Project, row: RunRow, frame: layout.Frame) -> None:
        self._studio, self._project, self._row, self._frame = studio, project, row, frame
        self._removed = False

    async def build(self) -> None:
        """Show the verdict, and the questions, folded."""
        studio, row = self._studio, self._row
        directory = await asyncio.to_thread(studio.runs.get, row.id)
        files = await asyncio.to_thread(files_of, directory)
        with self._frame.actions:
            self._tools(files)
        studio.changed.subscribe(self._heard)
        with ui.element("div").classes("stack") as self._content:
            if row.note:
                kit.note(row.note)
            if row.state == "running":
                kit.empty("It is being trained. The results appear here when it is done.",
                          "Watch the training", layout.address(self._project, "train"))  # fmt: skip
            elif row.accuracy is None:
                await self._without_figures(directory)
            else:
                report = await asyncio.to_thread(directory.read, Report)
                self.images = ResultImages(studio, directory, report, self._frame.undo)
                self._verdict(self.images, report)
                Questions(self._project, row, self.images)

    async def _without_figures(self, directory: RunDirectory) -> None:
        row, project = self._row, self._project
        if row.state == "damaged":
            kit.error_line(f"Its files are damaged: {row.cause}. Remove it, and train again.")
        elif row.has_classifier and row.model == IMPORTED:
            kit.empty("It was imported without photographs to test it on, so its accuracy is not "
                      "known. Try it, or import it once more with photographs.",
                      "Import it with photographs", "/import")  # fmt: skip
        else:
            cause = f" {row.cause.rstrip('.')}." if row.cause else ""
            kit.empty(f"The training ended before the classifier was tested.{safe(cause, 400)}",
                      "Train again",
                      layout.address(project, "train", **{"from": row.id}))  # fmt: skip
            states = await asyncio.to_thread(list, directory.checkpoints.glob("*.json"))
            if row.in_steps and states:
                kit.action("Continue the training", self._continue, needs="owner")

    async def _continue(self) -> None:
        title, jobs = self._project.title_of(self._row), self._studio.jobs
        directory = RunDirectory(self._studio.runs.root / self._row.folder)
        await asyncio.to_thread(jobs.continue_run, directory, title, self._project.id)
        self._studio.changed.emit("jobs")
        ui.navigate.to(layout.address(self._project, "train"))

    def _verdict(self, images: ResultImages, report: Report) -> None:
        ui.label(in_short(report.judged)).classes("headline")
        ui.label(judged_by(report)).classes("prose")
        for line in limits(report):
            ui.label(safe(line, 600)).classes("warning prose")
        with ui.element("div").props('role="status"'):
            self._corrected(images)
        images.listeners.append(self._corrected.refresh)
        with ui.element("div").classes("stack") as place:
            ui.skeleton(height="200px")

        async def mistakes() -> None:
            """The mistakes, those of the weakest class first; an error appears in their place."""
            try:
                await images.wait()
            finally:
                place.clear()
            self._corrected.refresh()
            worst = weakest(report.judged)
            if worst is None:
                kit.note("Every answer is right, so there are no mistakes to show.")
                return
            label, words = worst
            kit.heading(words)
            answers = images.answers
            own = (answers.labels == label) & ~answers.right
            others = answers.surest(~answers.right & ~own)
            images.gallery("Mistakes, those of the weakest class first",
                           [*answers.surest(own), *others])  # fmt: skip
            kit.note(images.fixed or "Click a photograph to see it large. If its label is wrong, "
                     "correct it there: the file stays as it is.")  # fmt: skip

        with place:
            ui.timer(0, lambda: kit.guarded(mistakes), once=True)

    @ui.refreshable_method
    def _corrected(self, images: ResultImages) -> None:
        """Say how many labels were corrected since, and lead to the next training."""
        if number := len(images.now):
            again = layout.address(self._project, "train", **{"from": self._row.id, "start": "1"})
            with ui.element("div").classes("line"):
                have = counted(number, "label was", "labels were")
                ui.label(f"{have} corrected since this training.")
                kit.link_button(f"Train again with {counted(number, 'correction')}", again,
                                icon="model_training")  # fmt: skip

    # What can be done with the classifier.

    def _tools(self, files: Collection[str]) -> None:
        project, row = self._project, self._row
        title = project.title_of(row)
        if len(project.runs) > 1:
            names = {item.id: f"{safe(project.title_of(item), 60)} · {ago(item.started or 0)}"
                     for item in project.runs}  # fmt: skip
            chosen = ui.select(names, value=row.id, with_input=len(names) > 12)
            chosen.style("width: 240px; max-width: 100%")
            chosen.props["aria-label"] = f"Classifier, {count(len(names))} in this project"
            chosen.on_value_change(
                lambda event: ui.navigate.to(layout.address(project, "results", run=event.value))
            )
        if row.has_classifier:
            kit.link_button("Try it", layout.address(project, "try", run=row.id), kind="primary",
                            icon="photo_camera")  # fmt: skip
            download_menu(self._studio, row, title, files)
        with kit.icon_action("more_horiz", "More about this classifier"), ui.menu(), ui.list():
            if allows("owner"):
                ui.menu_item("Rename", self._rename)
            if others := [other for other in project.classifiers if other.id != row.id]:
                two = sorted((row, others[0]), key=lambda row: row.started or 0)
                ui.menu_item(
                    f"Compare with {safe(project.title_of(others[0]), 40)}",
                    lambda: ui.navigate.to(f"/compare?runs={two[0].id},{two[1].id}"),
                )
            if allows("owner"):
                ui.menu_item("Remove", self._remove)

    async def _rename(self) -> None:
        before = self._frame.heading.text
        if name := await kit.ask_text("Rename", "Name of the classifier", before):
            await self._write(name)

    async def _write(self, name: str) -> None:
        """Store a name, and offer to take that back."""
        before = self._row.given_name
        await asyncio.to_thread(self._studio.runs.rename, self._row.id, name)
        self._studio.changed.emit("runs")
        self._frame.undo.offer("The name was changed", lambda: self._write(before))

    async def _remove(self) -> None:
        self._removed, title = True, safe(self._project.title_of(self._row), 60)
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
            kit.empty(f"{title} was removed. It is kept for seven days under Classifiers.",
                      "All classifiers", "/classifiers")  # fmt: skip

        async def restore() -> None:
            await asyncio.to_thread(self._studio.runs.restore, token)
            self._studio.changed.emit("runs")
            ui.navigate.to(layout.address(self._project, "results", run=self._row.id))

        self._frame.undo.offer(f"{title} was removed", restore)

    def _heard(self, topic: str) -> None:
        """Load the page anew when another window removed or changed it, or it has ended."""
        if self._removed or topic != "runs":
            return
        before, now = self._row, self._studio.runs.find(self._row.folder)
        if now is None:
            ui.navigate.to(layout.address(self._project, "results"))
            return
        self._row = now
        if (before.state, before.accuracy) != (now.state, now.accuracy):
            ui.navigate.reload()
        self._frame.retitle(self._project.title_of(now))
