"""Questions about what is inside a classifier, and the processes that answer them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import MovedError, OpsinError
from opsin.core.files import FileStamp, file_stamp
from opsin.studio.content_security import ALONE
from opsin.studio.runs.image_places import ImagePlaces
from opsin.studio.runs.inspection_worker import InspectionWorker, OnProgress
from opsin.studio.runs.prediction_session import PredictionSession
from opsin.studio.runs.run_index import RunIndex

# Answers that are kept; a page of them takes about a megabyte of the disk.
_KEPT: Final = 64
# What a question is about: the run, its classifier as it is now, and the letters of the question.
_Subject: TypeAlias = tuple[RunDirectory, FileStamp, str]


class ClassifiedImage(BaseModel):
    """What the classifier says of the image that was asked about."""

    image: str
    answer: str
    confidence: float


class NearImage(BaseModel):
    """A training image that the network sees like it; ``shown`` is its address."""

    name: str
    class_name: str = Field(alias="class")
    similarity: float
    same: bool
    shown: str


class InspectionAnswer(BaseModel):
    """An answer from inside a run; what is said depends on the question."""

    page: Path | None = None
    address: str | None = None
    answer: ClassifiedImage | None = None
    nearest: tuple[NearImage, ...] = ()
    units: int = 0
    images: int = 0
    terms: dict[str, tuple[str, ...]] = {}
    term: str = ""
    layer: str = ""


@dataclass
class _Question:
    """A question that is being answered, or was."""

    run_id: str
    task: asyncio.Task[InspectionAnswer]
    listeners: set[OnProgress] = field(default_factory=set)
    progress: tuple[str, int, int] = ("", 0, 0)

    def tell(self, what: str, done: int, total: int) -> None:
        self.progress = (what, done, total)
        for listener in list(self.listeners):
            listener(what, done, total)


class InspectionSessions:
    """Child processes that are kept open, each looking into one run, and what they found."""

    def __init__(
        self,
        runs: RunIndex,
        places: ImagePlaces,
        tried: PredictionSession,
        home: Path,
        *,
        most: int = 2,
        idle: float = 120.0,
    ) -> None:
        self._runs, self._places, self._tried = runs, places, tried
        self._most = most
        self._idle = idle
        self._folder = home.absolute() / "inside"
        self._workers: dict[tuple[str, bool], InspectionWorker] = {}
        self._free = asyncio.Condition()
        self._asked: OrderedDict[str, _Question] = OrderedDict()
        self._cleaned = False
        self._ended = False

    async def ask(
        self, run_id: str, do: str, *, on_progress: OnProgress | None = None, **with_: str | int
    ) -> InspectionAnswer:
        """Ask a question; one that is being answered, or was, is not asked twice."""
        subject = await asyncio.to_thread(self._identify, run_id, do, with_)
        key = subject[2]
        asked = self._asked.get(key)
        if asked is None or (asked.task.done() and _failed(asked.task)):
            work = self._answer(subject, run_id, do, with_)
            asked = _Question(run_id, asyncio.create_task(work, name=f"inside {do}"))
            # It may fail when no page waits for it any more.
            asked.task.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._asked[key] = asked
        self._asked.move_to_end(key)
        if on_progress is not None:
            asked.listeners.add(on_progress)
            if not asked.task.done() and asked.progress[0]:
                on_progress(*asked.progress)
        try:
            return await asyncio.shield(asked.task)
        except asyncio.CancelledError:
            if asked.task.cancelled():  # that is what was given up, not the waiting for it
                raise OpsinError("an answer", "it was given up", "Ask again.") from None
            raise
        finally:
            if on_progress is not None:
                asked.listeners.discard(on_progress)

    def _identify(self, run_id: str, do: str, with_: dict[str, str | int]) -> _Subject:
        """The run, its classifier as it is now, and the same letters for the same question."""
        directory = self._runs.get(run_id)
        stamp = file_stamp(directory.classifier)
        key = _letters(str(directory.path), str(stamp), do, str(sorted(with_.items())))
        return directory, stamp, key

    async def known(self, run_id: str, do: str, **with_: str | int) -> bool:
        """Tell whether a question was answered already, or is being answered."""
        *_, key = await asyncio.to_thread(self._identify, run_id, do, with_)
        asked = self._asked.get(key)
        return asked is not None and not (asked.task.done() and _failed(asked.task))

    async def cancel(self, run_id: str, do: str, **with_: str | int) -> None:
        """Give up a question that is being answered; its worker is ended."""
        *_, key = await asyncio.to_thread(self._identify, run_id, do, with_)
        asked = self._asked.pop(key, None)
        if asked is not None and not asked.task.done():
            asked.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OpsinError):
                await asked.task

    def page(self, run_id: str, key: str) -> Path | None:
        """Return the file of a page that was made, by the names in its address."""
        asked = self._asked.get(key)
        if asked is None or asked.run_id != run_id or not asked.task.done() or _failed(asked.task):
            return None
        return asked.task.result().page

    async def stop(self) -> None:
        """End all workers and remove their pages."""
        self._ended = True
        for asked in self._asked.values():
            asked.task.cancel()
        await asyncio.gather(*(each.task for each in self._asked.values()), return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self._workers.values()))
        self._workers.clear()
        self._asked.clear()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _answer(
        self, subject: _Subject, run_id: str, do: str, with_: dict[str, str | int]
    ) -> InspectionAnswer:
        directory, stamp, key = subject
        # The worker looks for the run's images by itself; without any it can do all else.
        with contextlib.suppress(MovedError):
            await asyncio.to_thread(self._places.check, directory)
        await asyncio.to_thread(self._make_folder)
        given, content = dict(with_), b""
        if "kept" in given:
            kept = self._tried.get(str(given.pop("kept")))
            given["name"], content = kept.name, kept.content
        worker = await self._borrow(directory, stamp, slow=_slow(do, with_))
        try:
            await worker.start()
            answer = await worker.ask(
                {"id": key, "do": do, "with": given}, content, self._asked[key].tell
            )
        except asyncio.CancelledError:
            await worker.end()
            raise
        finally:
            await self._give_back(worker)
        await asyncio.to_thread(_remove, self._forget())
        page = answer["page"]
        address = None if page is None else f"/inside/{run_id}/{key}.html"
        return InspectionAnswer.model_validate({**answer["said"], "page": page, "address": address})

    def _make_folder(self) -> None:
        if not self._cleaned:  # what a studio that was killed has left
            shutil.rmtree(self._folder, ignore_errors=True)
            self._cleaned = True
        self._folder.mkdir(parents=True, exist_ok=True)

    async def _borrow(
        self, directory: RunDirectory, stamp: FileStamp, *, slow: bool
    ) -> InspectionWorker:
        place = (str(directory.path), slow)
        async with self._free:
            while not self._ended:
                worker = self._workers.get(place)
                if worker is not None and not worker.busy:
                    if worker.fits(stamp):
                        return worker.taken()
                    await self._end(place)
                    worker = None
                idle = [key for key, each in self._workers.items() if not each.busy]
                if worker is None and len(self._workers) >= self._most and idle:
                    await self._end(idle[0])  # those used longest ago come first
                if worker is None and len(self._workers) < self._most:
                    log = self._folder / f"{_letters(*map(str, place))}.log"
                    worker = InspectionWorker(directory, stamp, self._folder, log)
                    self._workers[place] = worker
                    return worker.taken()
                await self._free.wait()
        raise OpsinError("a studio at work", "it is being stopped", "Start it again.")

    async def _give_back(self, worker: InspectionWorker) -> None:
        async with self._free:
            worker.busy = False
            place = next((key for key, each in self._workers.items() if each is worker), None)
            if place is not None:
                self._workers[place] = self._workers.pop(place)  # used last, ended last
                worker.later(self._idle, lambda: self._end_idle(place, worker))
            self._free.notify_all()

    async def _end_idle(self, place: tuple[str, bool], worker: InspectionWorker) -> None:
        async with self._free:
            if self._workers.get(place) is worker and not worker.busy:
                await self._end(place)

    async def _end(self, place: tuple[str, bool]) -> None:
        await self._workers.pop(place).end()

    def _forget(self) -> list[Path]:
        """Keep the answers used last; return the pages of the others."""
        pages = []
        done = [key for key, asked in self._asked.items() if asked.task.done()]
        for key in done[: max(0, len(self._asked) - _KEPT)]:
            asked = self._asked.pop(key)
            if not _failed(asked.task) and (page := asked.task.result().page) is not None:
                pages.append(page)
        return pages


def _remove(pages: Sequence[Path]) -> None:
    for page in pages:
        page.unlink(missing_ok=True)


def add_routes(api: FastAPI, inside: InspectionSessions) -> None:
    """Add the address of pages that were made: by opaque names only."""

    @api.get("/inside/{run_id}/{key}.html")
    async def page(run_id: str, key: str) -> Response:
        file = inside.page(run_id, key)
        if file is None or not await asyncio.to_thread(file.is_file):
            return Response("This page is gone; load the one around it again.", 404)
        headers = {"cache-control": "no-store", **ALONE}
        return FileResponse(file, media_type="text/html", headers=headers)


def _slow(do: str, with_: dict[str, str | int]) -> bool:
    return do == "explain" or (do == "layer" and "limit" not in with_)


def _letters(*texts: str) -> str:
    content = "\0".join(texts).encode("utf-8", "backslashreplace")
    return hashlib.blake2s(content, digest_size=12).hexdigest()


def _failed(task: asyncio.Task[InspectionAnswer]) -> bool:
    return task.cancelled() or task.exception() is not None
