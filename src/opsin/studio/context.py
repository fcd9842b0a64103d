"""State shared by all windows, and the watcher that reports changes."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Callable

from filelock import FileLock, Timeout
from nicegui import Event, ui

from opsin.core.errors import RunError
from opsin.core.storage import storage_errors
from opsin.studio.datasets.catalogue import Library
from opsin.studio.datasets.folders import Folders
from opsin.studio.datasets.sorting import Sorting
from opsin.studio.datasets.uploads import Uploads
from opsin.studio.errors import NotThere
from opsin.studio.jobs.queue import Queue, sweep_outputs
from opsin.studio.people import People, Role, acting, visitor
from opsin.studio.progress import ProgressOfAll
from opsin.studio.projects import Project, Projects
from opsin.studio.runs.albums import Albums, ImagePlaces
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.runs.workers import TriedImages, Workers
from opsin.studio.settings import StudioSettings
from opsin.studio.threads import IMAGES, WATCHER
from opsin.studio.trash import KEPT

# Most bytes that answering a stranger's image may take.
_MEMORY = 2 << 30
_LOG = logging.getLogger("opsin.studio")


class Changes(Event[str]):
    """Reports what changed, by topics."""

    def subscribe(self, show: Callable[[], object], *topics: str) -> None:  # type: ignore[override]
        """Let a page show changes, as its visitor; it loads anew where what it shows is gone."""
        subscriber = visitor.get()

        async def heard() -> None:
            try:
                with acting(subscriber):  # not as who emitted
                    shown = show()
                    if inspect.isawaitable(shown):
                        await shown
            except NotThere:  # another window removed it
                ui.navigate.reload()

        super().subscribe(lambda topic: heard() if topic in topics else None)


class Studio:
    """The state behind the pages: files, caches and listeners."""

    def __init__(self, settings: StudioSettings) -> None:
        self.settings = settings
        #: The menu *More*: words, paths, and who may go there.
        self.menu: list[tuple[str, str, Role]] = []
        self.changed = Changes()
        self.people = People(settings.home)
        self.runs = RunIndex(settings.runs)
        self.jobs = Queue(settings.home, settings.at_once, settings.runs, settings.most_waiting)
        self.progress = ProgressOfAll(self.jobs, self.runs)
        self.sets = Library(settings.home, self.jobs)
        self.projects = Projects(self.sets, self.runs, self.jobs)
        self.folders = Folders(settings.roots)
        self.uploads = Uploads(settings.home, most_disk=settings.most_disk)
        self.places = places = ImagePlaces(self.sets, self.folders, settings.home)
        self.albums = Albums(self.sets, self.runs, places, self.uploads)
        self.sorting = Sorting(self.sets)
        self.inside = Workers(self.runs, places)
        self.tried = TriedImages(Workers(self.runs, places, memory=_MEMORY))
        self._lock = FileLock(settings.home / "studio.lock")
        self._watching: asyncio.Task[None] | None = None

    def hold(self) -> None:
        """Lock the studio's files for this process."""
        home = self.settings.home
        with storage_errors(home):
            home.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                advice = f"Open {self.settings.entrance} in a browser, or choose other files: "
                advice += "opsin studio --home FOLDER"
                raise RunError("Another studio works with the same files", advice) from None

    async def start(self) -> None:
        """Keep watching."""
        self._watching = asyncio.create_task(self.watch())

    async def stop(self) -> None:
        """Stop the studio; trainings continue."""
        if self._watching:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self.sorting.stop()
        await self.inside.stop()
        await self.tried.workers.stop()
        self._lock.release()

    def sweep(self, older: float = KEPT) -> None:
        """Delete for good what was removed so many seconds ago."""
        self.runs.sweep(older)
        self.sets.sweep(older)
        self.albums.sweep(older)
        self.uploads.sweep()
        sweep_outputs(self.jobs)

    async def with_dataset(self, project_id: str) -> Project:
        """A project with its dataset, which is added for classifiers of the command line."""
        project = self.projects.get(project_id)
        if project.dataset is None:
            await IMAGES.run(self.albums.dataset_of_run, project.runs[0].id)
        return self.projects.get(project_id)

    async def first_scan(self) -> None:
        """Wait until the runs are known, once after the start."""
        if not self.runs.scanned:
            await WATCHER.run(self.runs.scan)

    async def watch(self, every: float = 1.0) -> None:
        """Check runs and jobs each second, and empty the trash each hour."""
        said, swept = "", -math.inf
        while True:
            try:
                await self.look()
                if time.monotonic() > swept + 3600:
                    swept = time.monotonic()
                    await asyncio.to_thread(self.sweep)
                said = ""
            except Exception as error:  # noqa: BLE001  without it, the studio would show old data
                if str(error) != said:
                    _LOG.warning("the studio could not look at its files: %s", error)
                said = str(error)
            await asyncio.sleep(every)

    async def look(self) -> None:
        """Check runs and jobs once, and emit changes."""
        # Jobs first: an ended one has written all files of its run's row.
        jobs_changed = await WATCHER.run(self.jobs.tick)
        runs_changed = await WATCHER.run(self.runs.scan)
        await WATCHER.run(self.progress.update)
        if jobs_changed:
            self.changed.emit("jobs")
        if runs_changed:
            self.changed.emit("runs")
