"""Everything that all windows share, in one place."""

from __future__ import annotations

import asyncio
import contextlib

from filelock import FileLock, Timeout
from nicegui import Event

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.core.storage import storage_errors
from opsin.data.run_images import recipe_of_run
from opsin.data.sources.named import NAMES
from opsin.studio.jobs.queue import Queue
from opsin.studio.library.catalogue import Library
from opsin.studio.library.dataset_cache import DatasetCache
from opsin.studio.library.folders import Folders
from opsin.studio.library.uploads import Uploads
from opsin.studio.not_found import NotThere
from opsin.studio.runs.inspection_sessions import Workers
from opsin.studio.runs.prediction_session import PredictionSession
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.studio_settings import StudioSettings
from opsin.studio.watch import watch


class Studio:
    """The state behind the pages: what is on the disk, what is open, and who waits for news.

    Args:
        settings: How the studio is set up.

    Attributes:
        navigation: Word and address of each page that the header leads to.
        changed: Tells all windows what changed: ``runs``, ``jobs``, ``sets``, ``run:<id>`` or
            ``set:<id>``.
    """

    def __init__(self, settings: StudioSettings) -> None:
        self.settings = settings
        self.navigation: list[tuple[str, str]] = []
        self.changed = Event[str]()
        self.runs = RunIndex(settings.runs)
        self.jobs = Queue(settings.home, settings.at_once, settings.runs)
        self.sets = Library(settings.home, self.jobs)
        self.folders = Folders(settings.roots)
        self.uploads = Uploads(settings.home, settings.upload_bytes, settings.upload_files)
        self.open = DatasetCache(self)
        self.tried = PredictionSession(self)
        self.inside = Workers(self)
        self._lock = FileLock(settings.home / "studio.lock")
        self._watcher: asyncio.Task[None] | None = None

    def hold(self, address: str) -> None:
        """Keep the studio's files to this process, and write down where it can be found.

        Raises:
            RunError: Another studio works with them.
        """
        home = self.settings.home
        with storage_errors(home):
            home.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                there = (
                    (home / "address").read_text(encoding="utf-8")
                    if (home / "address").is_file()
                    else "?"
                )
                raise RunError(
                    "no other studio with the same files",
                    f"one is open at {there}",
                    f"Open {self.settings.entrance} in a browser, or choose other files: "
                    "opsin studio --home FOLDER",
                ) from None
            (home / "address").write_text(address, encoding="utf-8")

    async def start(self) -> None:
        """Look at what there is, and go on looking."""
        self._watcher = asyncio.create_task(watch(self), name="watch")

    async def stop(self) -> None:
        """End what belongs to the studio alone; trainings go on."""
        if self._watcher:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        await self.inside.stop()
        await asyncio.to_thread(self.tried.stop)
        self._lock.release()

    def check_places(self, run: RunDirectory) -> None:
        """Refuse to look for a run's images where this studio may not look.

        A run is a folder of files, maybe a stranger's, and can name any place as that of its
        images: what may be listed is what people may browse, and the studio's own sets.

        Raises:
            NotThere: They would lie elsewhere.
            MovedError: They are not where they were.
            RunError: The run's files are damaged.
        """
        recipe = recipe_of_run(run)
        known = {*NAMES, *(place for each in self.sets.all() for place in each.sources)}
        home = Folders([self.settings.home])
        for place in filter(None, (*recipe.sources, recipe.test, recipe.labels)):
            if not (place in known or self.folders.holds(place) or home.holds(place)):
                raise NotThere(
                    "a run whose images lie where this studio may look",
                    f"those of {run.path.name} are said to lie elsewhere",
                    "If the run is yours, start the studio so that it may look there too: "
                    "opsin studio --root FOLDER",
                )

    def queue_in_words(self) -> str:
        """Return what the queue does in a few words, or nothing where it is empty."""
        jobs = self.jobs.jobs()
        running, waiting = sum(job.active for job in jobs), sum(job.pending for job in jobs)
        words = [f"{running} running"] * bool(running) + [f"{waiting} waiting"] * bool(waiting)
        return " · ".join(words)
