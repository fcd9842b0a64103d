"""Questions about a classifier's inside, and the processes that answer them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import shutil
import signal
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.child_process import (
    Header,
    child_environment,
    error_from,
    exit_reason,
    module_command,
    pack,
    receive_async,
)
from opsin.core.errors import MovedError, OpsinError
from opsin.core.files import FileStamp, file_stamp
from opsin.core.platform import end_group
from opsin.studio.jobs.job import last_lines
from opsin.studio.runs.dataset_cache import ImagePlaces
from opsin.studio.runs.prediction_session import PredictionSession, without_path
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.security import ALONE

#: Progress callback: current work, units done, units in all (0: unknown).
OnProgress = Callable[[str, int, int], object]

# Most answers kept; a page takes about a megabyte on disk.
_KEPT: Final = 64
# Seconds that a busy worker gets to clean up.
_GRACE: Final = 2.0


class ClassifiedImage(BaseModel):
    """The classifier's answer to the image."""

    image: str
    answer: str
    confidence: float


class NearImage(BaseModel):
    """A similar training image; ``shown`` is its URL."""

    name: str
    class_name: str = Field(alias="class")
    similarity: float
    same: bool
    shown: str


class InspectionAnswer(BaseModel):
    """An answer about a run; its fields depend on the question."""

    page: Path | None = None
    address: str | None = None
    answer: ClassifiedImage | None = None
    nearest: tuple[NearImage, ...] = ()
    units: int = 0
    images: int = 0
    terms: dict[str, tuple[str, ...]] = {}
    term: str = ""
    layer: str = ""


class InspectionWorker:
    """A child process that inspects one run."""

    def __init__(self, directory: RunDirectory, stamp: FileStamp, folder: Path) -> None:
        self.busy = True
        self.timer: asyncio.TimerHandle | None = None
        self._directory, self._stamp, self._folder = directory, stamp, folder
        self._log = folder / f"{secrets.token_hex(6)}.log"
        self._process: asyncio.subprocess.Process | None = None

    def fits(self, directory: RunDirectory, stamp: FileStamp) -> bool:
        """Whether it is running and has this classifier open."""
        running = self._process is not None and self._process.returncode is None
        return running and self._directory.path == directory.path and self._stamp == stamp

    async def ask(self, question: Header, content: bytes, on_progress: OnProgress) -> Header:
        """Send a question and return the answer's header."""
        if self._process is None:
            run = str(self._directory.path.absolute())
            with await asyncio.to_thread(self._log.open, "wb") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *module_command("opsin.commands.inspect_worker", run, str(self._folder)),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                    cwd=self._folder, env=child_environment(), start_new_session=True,
                )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):  # then receiving fails below
            process.stdin.writelines(pack(question, [content]))
            await process.stdin.drain()
        while (frame := await receive_async(process.stdout)) is not None:
            answer, _ = frame
            if "error" in answer:
                raise without_path(error_from(answer["error"]), self._directory)
            if "progress" not in answer:
                return answer
            on_progress(*answer["progress"])
        status = await process.wait()
        printed = [line for line in last_lines(self._log, 20) if line.strip()]
        reason = printed[-1] if printed else "The process ended without a message"
        if status < 0:
            reason = f"The process was ended by {exit_reason(status)} (too little memory?)"
        raise without_path(OpsinError(reason.rstrip("."), "Ask again."), self._directory)

    async def end(self) -> None:
        """End the process; a busy one may first clean up."""
        if self.timer is not None:
            self.timer.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        if self.busy:
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                process.send_signal(signal.SIGINT)
                await asyncio.wait_for(process.wait(), _GRACE)
        if process.returncode is None:
            end_group(process.pid)
        await process.wait()


@dataclass
class _Question:
    """A question, pending or answered."""

    run_id: str
    task: asyncio.Task[InspectionAnswer]
    listeners: set[OnProgress] = field(default_factory=set)
    told: tuple[str, int, int] | None = None

    @property
    def failed(self) -> bool:
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)

    @property
    def page(self) -> Path | None:
        return self.task.result().page if self.task.done() and not self.failed else None

    def tell(self, what: str, done: int, total: int) -> None:
        self.told = what, done, total
        for listener in list(self.listeners):
            listener(what, done, total)


class InspectionSessions:
    """Child processes, each inspecting one run, and their answers."""

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
        self._most, self._idle = most, idle
        self._folder = home.absolute() / "inside"
        self._workers: list[InspectionWorker] = []  # least recently used first
        self._free = asyncio.Semaphore(most)
        self._ending: set[asyncio.Task[None]] = set()
        self._asked: OrderedDict[str, _Question] = OrderedDict()
        self._cleaned = self._ended = False

    async def ask(
        self, run_id: str, do: str, *, on_progress: OnProgress | None = None, **with_: str | int
    ) -> InspectionAnswer:
        """Answer a question, computing each only once."""
        directory, stamp, key = await asyncio.to_thread(self._identify, run_id, do, with_)
        asked = self._asked.get(key)
        if asked is None or asked.failed:
            work = self._answer(directory, stamp, key, do, with_)
            asked = _Question(run_id, asyncio.create_task(work, name=f"inside {do}"))
            # It may fail when no page waits any more.
            asked.task.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._asked[key] = asked
        self._asked.move_to_end(key)
        listeners = {on_progress} if on_progress else set[OnProgress]()
        asked.listeners |= listeners
        if on_progress and asked.told:  # another window asked before
            on_progress(*asked.told)
        try:
            return await asyncio.shield(asked.task)
        except asyncio.CancelledError:
            if asked.task.cancelled():  # the question was cancelled, not this wait
                raise OpsinError("The question was given up", "Ask again.") from None
            raise
        finally:
            asked.listeners -= listeners

    def _identify(
        self, run_id: str, do: str, with_: dict[str, str | int]
    ) -> tuple[RunDirectory, FileStamp, str]:
        """The run, its classifier's stamp, and a key of the question."""
        directory = self._runs.get(run_id)
        stamp = file_stamp(directory.classifier)
        texts = (str(directory.path), str(stamp), do, str(sorted(with_.items())))
        content = "\0".join(texts).encode("utf-8", "backslashreplace")
        return directory, stamp, hashlib.blake2s(content, digest_size=12).hexdigest()

    async def known(self, run_id: str, do: str, **with_: str | int) -> bool:
        """Whether a question is answered or pending."""
        *_, key = await asyncio.to_thread(self._identify, run_id, do, with_)
        return key in self._asked and not self._asked[key].failed

    async def cancel(self, run_id: str, do: str, **with_: str | int) -> None:
        """Cancel a pending question and end its worker."""
        *_, key = await asyncio.to_thread(self._identify, run_id, do, with_)
        asked = self._asked.pop(key, None)
        if asked is not None and not asked.task.done():
            asked.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OpsinError):
                await asked.task

    def page(self, run_id: str, key: str) -> Path | None:
        """Return the file of a generated page, by the names in its URL."""
        asked = self._asked.get(key)
        return asked.page if asked is not None and asked.run_id == run_id else None

    async def stop(self) -> None:
        """End all workers and remove their pages."""
        self._ended = True
        for asked in self._asked.values():
            asked.task.cancel()
        await asyncio.gather(*(item.task for item in self._asked.values()), return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self._workers))
        self._workers.clear()
        self._asked.clear()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _answer(
        self, directory: RunDirectory, stamp: FileStamp, key: str, do: str,
        with_: dict[str, str | int],
    ) -> InspectionAnswer:  # fmt: skip
        asked = self._asked[key]
        # The worker finds the run's images itself, and can do without them.
        with contextlib.suppress(MovedError):
            await asyncio.to_thread(self._places.check, directory)
        await asyncio.to_thread(self._make_folder)
        options, content = dict(with_), b""
        if "kept" in options:
            kept = self._tried.get(str(options.pop("kept")))
            options["name"], content = kept.name, kept.content
        async with self._free:
            worker = await self._borrow(directory, stamp)
            try:
                question = {"id": key, "do": do, "with": options}
                answer = await worker.ask(question, content, asked.tell)
            except asyncio.CancelledError:
                await worker.end()
                raise
            finally:
                worker.busy = False
                self._workers.remove(worker)
                self._workers.append(worker)
                loop = asyncio.get_running_loop()
                worker.timer = loop.call_later(self._idle, self._retire, worker)
        old = [other for other, question in self._asked.items() if question.task.done()]
        # All at once: others answer meanwhile.
        gone = [self._asked.pop(other).page for other in old[: max(0, len(self._asked) - _KEPT)]]
        for forgotten in filter(None, gone):
            await asyncio.to_thread(forgotten.unlink, missing_ok=True)
        page = answer["page"]
        address = None if page is None else f"/inside/{asked.run_id}/{key}.html"
        return InspectionAnswer.model_validate({**answer["said"], "page": page, "address": address})

    def _make_folder(self) -> None:
        if not self._cleaned:  # leftovers of a killed studio
            shutil.rmtree(self._folder, ignore_errors=True)
            self._cleaned = True
        self._folder.mkdir(parents=True, exist_ok=True)

    async def _borrow(self, directory: RunDirectory, stamp: FileStamp) -> InspectionWorker:
        """Take an idle worker of the run, or start one, replacing the least recently used."""
        if self._ended:
            raise OpsinError("The studio is being stopped")
        idle = [worker for worker in self._workers if not worker.busy]
        worker = next((worker for worker in idle if worker.fits(directory, stamp)), None)
        if worker is not None:
            worker.busy = True
            if worker.timer is not None:
                worker.timer.cancel()
            return worker
        worker = InspectionWorker(directory, stamp, self._folder)
        self._workers.append(worker)
        if len(self._workers) > self._most:
            self._workers.remove(idle[0])
            try:
                await idle[0].end()
            except BaseException:  # no longer needed
                self._workers.remove(worker)
                raise
        return worker

    def _retire(self, worker: InspectionWorker) -> None:
        self._workers.remove(worker)
        task = asyncio.create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def add_routes(api: FastAPI, inside: InspectionSessions) -> None:
    """Add the route for generated pages, by opaque names only."""

    @api.get("/inside/{run_id}/{key}.html")
    async def page(run_id: str, key: str) -> Response:
        file = inside.page(run_id, key)
        if file is None or not await asyncio.to_thread(file.is_file):
            return Response("This page is gone; load the one around it again.", 404)
        headers = {"cache-control": "no-store", **ALONE}
        return FileResponse(file, media_type="text/html", headers=headers)
