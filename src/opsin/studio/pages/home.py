"""Home: a place for photographs, the projects, and an example."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from nicegui import ui

from opsin.core.format import ago, count, counted, day
from opsin.studio.context import Studio
from opsin.studio.datasets.catalogue import LibraryDataset
from opsin.studio.datasets.uploads import SentFile, common_name
from opsin.studio.image_routes import COVERS
from opsin.studio.jobs import training_form
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import in_short
from opsin.studio.people import allows, require
from opsin.studio.projects import Project
from opsin.studio.threads import UPLOADS
from opsin.studio.trash import KEPT, Removed
from opsin.studio.ui import kit
from opsin.studio.ui.intake import Intake
from opsin.studio.ui.layout import Frame, address, page
from opsin.studio.words import safe

# The examples: source, title, what it is, and how it is trained.
_EXAMPLES: Final[tuple[tuple[str, str, str, Mapping[str, str]], ...]] = (
    ("digits", "Handwritten digits", "less than a minute, without a connection",
     {"model": "cnn", "depth": "1", "epochs": "8"}),
    ("fashion-mnist", "Fashion-MNIST", "70,000 pictures of clothes, a few minutes",
     {"model": "cnn", "epochs": "3"}),
)  # fmt: skip
# What an upload is resumed by: the same in every window, and after a reload.
_BATCH: Final = "00000000000da7a5"
# Cards, and removed things, that are shown: hundreds of elements take seconds.
_SHOWN: Final = 24
_REMOVED_MOST: Final = 50
_STARTING: Final = threading.Lock()


@Page("/")
async def home(studio: Studio) -> None:
    """Build the page."""
    with page(studio, "Your projects") as frame:
        content = _Home(studio, frame)
    if not studio.runs.scanned:  # the frame at once, the projects as soon as they are known
        await ui.context.client.connected()
        await studio.first_scan()
    await content.show()


class _Home:
    def __init__(self, studio: Studio, frame: Frame) -> None:
        self._studio, self._frame, self._most = studio, frame, _SHOWN
        self._shown: object = None
        if allows("owner"):
            self._welcome()
        self._status = kit.StatusLine()
        with ui.element("div").classes("stack"):
            with ui.element("div").classes("cards") as self._cards:
                kit.note("Looking for your projects …")
            self._more = kit.action("Show all", self._show_all)
            self._more.set_visibility(False)
            self._removed = ui.element("div")
        studio.changed.subscribe(self.show, "runs", "sets")

    def _welcome(self) -> None:
        """The way to a project of one's own."""
        with ui.element("div").classes("welcome"):
            with ui.element("div").classes("dropzone"):
                with Intake(
                    "Drop photographs, folders or a zip here",
                    camera=False,
                    folders=True,
                    batch=_BATCH,
                    around=".page",
                    on_all=self._take,
                ):
                    kit.action("Use the camera", self._camera, icon="photo_camera")
                kit.note(
                    "Each folder becomes a class. You can sort loose photographs afterwards. They "
                    "stay on this machine."
                )
            with ui.element("section").classes("card stack").props('aria-label="Examples"'):
                kit.note("No photographs at hand? Train an example:")
                for source, title, about, values in _EXAMPLES:
                    with ui.element("div"):
                        kit.action(title, partial(self._example, source, title, values))
                        kit.note(about)
                ui.link("How it works, in six pictures", "/how-it-works").classes("note")

    async def show(self) -> None:
        """Show the projects as they are now, if anything about them has changed."""
        projects = self._studio.projects.all()
        items = await asyncio.to_thread(self._studio.projects.removed)
        if self._cards.is_deleted:
            return
        cards = [(item.id, item.name, _in_words(item)) for item in projects[: self._most]]
        if (cards, len(projects), items) == self._shown:
            return
        self._shown = cards, len(projects), items
        self._frame.retitle(
            "Your projects" if projects else "Teach a computer to tell photographs apart"
        )
        self._more.set_visibility(len(projects) > self._most)
        self._more.set_text(f"Show all {counted(len(projects), 'project')}")
        self._cards.clear()
        self._removed.clear()
        with self._cards:
            for item in projects[: self._most]:
                self._card(item)
            if not projects:
                kit.note("Your projects appear here, with their photographs and classifiers.")
        with self._removed:
            if items:
                removed = partial(self._list_removed, items)
                kit.question(f"Recently removed ({count(len(items))})", removed)

    def _card(self, project: Project) -> None:
        name = safe(project.name, 60)
        with ui.element("article").classes("card project") as card:
            card.props["aria-label"] = name
            with ui.link(target=address(project)).classes("project-pictures") as link:
                link.props["aria-label"] = f"Open {name}"
                for number in range(COVERS):
                    picture = ui.element("img").props("loading=lazy")
                    picture.props["src"] = kit.rooted(f"/covers/{project.id}/{number}")
                    picture.props["alt"] = f"{name}, photograph {number + 1}"
                    kit.sharpen(picture, below=100)
                    picture.on("error", js_handler="(event) => event.target.remove()")
            with ui.element("div").classes("line no-wrap"):
                title = ui.label(name).classes("project-name ellipsis")
                if allows("owner"):
                    if project.dataset is not None:
                        kit.rename_in_place(
                            title, lambda: project.name, partial(self._rename, project)
                        )
                    ui.space()
                    with kit.icon_action("more_horiz", f"More about {name}"), ui.menu():
                        ui.menu_item("Remove", partial(self._remove, project))
            kit.note(_in_words(project))
            links = {"Photographs": "photos", "Train": "train"}
            if project.classifier() is not None:
                improve = {"Improve": "photos"} if allows("labeller") else {"Results": "results"}
                links = {"Try": "try", **improve}
            with ui.element("div").classes("line project-links"):
                for text, there in links.items():
                    ui.link(text, address(project, there)).props["aria-label"] = f"{text}: {name}"

    async def _show_all(self) -> None:
        self._most = len(self._studio.projects.all())
        await self.show()

    # What people do.

    async def _take(self, files: list[SentFile]) -> None:

        def make() -> LibraryDataset:
            title = common_name(files) or self._new_title()
            place = self._studio.sets.new_place(title)
            self._studio.uploads.finish(files, place)
            return self._studio.sets.add_upload(place, title=title)

        with self._status.errors():
            self._status.say("Sorting the photographs …")
            self._made(address((await UPLOADS.run(make)).id, "photos"))

    async def _camera(self) -> None:
        """Make a project whose classes are filled by camera on its page."""
        with self._status.errors():
            new, title = self._studio.sets.new_empty, self._new_title()
            dataset = await UPLOADS.run(new, ["Class 1", "Class 2"], title=title)
            self._made(address(dataset.id, "photos", camera="1"))

    async def _example(self, source: str, title: str, values: Mapping[str, str]) -> None:
        """Train an example once, and show the training or its results."""
        studio = self._studio

        def begin() -> str:
            require("owner")
            with _STARTING:  # a second click starts no second training
                dataset = studio.sets.add_source(source, title=title)
                project, jobs = studio.projects.get(dataset.id), studio.jobs.of_project(dataset.id)
                if project.classifiers:
                    return address(dataset.id, "results")
                if all(job.over for job in jobs):
                    argv = training_form.argv(dataset.words(), values, runs=studio.settings.runs)
                    studio.jobs.add("train", project.next_title(jobs), argv, project=dataset.id)
                return address(dataset.id, "train")

        with self._status.errors():
            there = await asyncio.to_thread(begin)
            studio.changed.emit("jobs")
            self._made(there)

    def _made(self, there: str) -> None:
        self._studio.changed.emit("sets")
        ui.navigate.to(there)

    def _new_title(self) -> str:
        """A name for photographs without one, which no other project has."""
        taken = {item.name for item in self._studio.projects.all()}
        names = ["My photographs", *(f"My photographs {n}" for n in range(2, len(taken) + 2))]
        return next(name for name in names if name not in taken)

    async def _rename(self, project: Project, name: str) -> None:
        rename = self._studio.sets.rename
        await asyncio.to_thread(rename, project.id, name)
        undo = partial(asyncio.to_thread, rename, project.id, project.name)
        self._frame.undo.offer(f"Renamed to {safe(name, 40)}", undo, "sets")

    async def _remove(self, project: Project) -> None:
        with self._status.errors():
            projects = self._studio.projects
            token = await asyncio.to_thread(projects.remove, project.id)
            undo = partial(asyncio.to_thread, projects.restore, token)
            self._frame.undo.offer(f"Removed {project.name}", undo, "runs", "sets")

    def _list_removed(self, items: Sequence[Removed]) -> None:
        kit.note("You can restore what you removed for seven days.")
        for item in items[:_REMOVED_MOST]:
            with ui.element("div").classes("line"):
                ui.label(safe(item.name, 80))
                kit.note(f"removed {ago(item.when)}, kept until {day(item.when + KEPT)}")
                restore = partial(self._restore, item.token)
                button = kit.action("Restore", restore, needs="owner")
                button.props["aria-label"] = f"Restore {safe(item.name, 80)}"

    async def _restore(self, token: str) -> None:
        await asyncio.to_thread(self._studio.projects.restore, token)
        self._studio.changed.emit("runs")
        self._studio.changed.emit("sets")


def _in_words(project: Project) -> str:
    if any(row.state == "running" for row in project.runs):
        return "Training"
    if run := project.classifier():
        return in_short(run) or "Trained, not measured"
    failed = project.runs and project.runs[0].state in {"failed", "damaged"}
    return "The last training failed" if failed else "Not trained yet"
