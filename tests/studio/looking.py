"""A studio's state without its pages: runs, a queue, workers and tried images."""

from __future__ import annotations

from pathlib import Path

import httpx
from fastapi import FastAPI

from opsin.studio.datasets.catalogue import Library
from opsin.studio.datasets.folders import Folders
from opsin.studio.jobs.queue import Queue
from opsin.studio.runs.dataset_cache import ImagePlaces
from opsin.studio.runs.inspection_sessions import InspectionSessions
from opsin.studio.runs.prediction_session import PredictionSession
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.studio_settings import StudioSettings


class Looking:
    """What `InspectionSessions`, `PredictionSession` and `Compared` need.

    Args:
        folder: Its runs lie in ``runs``, its own files in ``home``.
        most: Workers at a time.
        idle: Seconds after which an idle one is ended.
    """

    def __init__(self, folder: Path, *, most: int = 2, idle: float = 120.0) -> None:
        home = folder / "home"
        home.mkdir(exist_ok=True)
        self.settings = StudioSettings(runs=folder / "runs", home=home, roots=(folder,))
        self.runs = RunIndex(self.settings.runs)
        self.runs.scan()
        self.jobs = Queue(home, runs=self.settings.runs)
        self.sets = Library(home, self.jobs)
        self.folders = Folders(self.settings.roots)
        self.tried = PredictionSession(self.runs)
        places = ImagePlaces(self.sets, self.folders, home)
        self.inside = InspectionSessions(self.runs, places, self.tried, home, most=most, idle=idle)


async def fetch(api: FastAPI, address: str) -> httpx.Response:
    """Return what an application replies to a GET."""
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://studio") as client:
        return await client.get(address)
