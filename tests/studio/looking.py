"""A studio's state without its pages: runs, a queue, workers and tried images."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import httpx
from fastapi import FastAPI

from opsin.studio.jobs.queue import Queue
from opsin.studio.library.catalogue import Library
from opsin.studio.library.folders import Folders
from opsin.studio.runs.inspection_sessions import Workers
from opsin.studio.runs.prediction_session import PredictionSession
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.state import Studio
from opsin.studio.studio_settings import StudioSettings


class Looking:
    """What `Workers`, `PredictionSession` and `Compared` need of a studio.

    Args:
        folder: Its runs lie in ``runs``, its own files in ``home``.
        most: Workers at a time.
        idle: Seconds after which an idle one is ended.
    """

    def __init__(self, folder: Path, *, most: int = 2, idle: float = 120.0) -> None:
        home = folder / "home"
        home.mkdir(exist_ok=True)
        self.settings = StudioSettings(folder / "runs", home, roots=(folder,))
        self.runs = RunIndex(self.settings.runs)
        self.runs.scan()
        self.jobs = Queue(home, runs=self.settings.runs)
        self.sets = Library(home, self.jobs)
        self.folders = Folders(self.settings.roots)
        self.tried = PredictionSession(self.studio)
        self.inside = Workers(self.studio, most=most, idle=idle)

    check_places = Studio.check_places

    @property
    def studio(self) -> Studio:
        """Itself, as those see it that it is made for."""
        return cast("Studio", self)


async def fetch(api: FastAPI, address: str) -> httpx.Response:
    """Return what an application replies to a GET."""
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://studio") as client:
        return await client.get(address)
