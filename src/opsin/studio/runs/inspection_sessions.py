"""Questions about a classifier's inside, and the processes that answer them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import secrets
import shutil
import signal
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Response

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

#: Progress callback: current work, units done, units in all (0: unknown).
OnProgress = Callable[[str, int, int], object]

# Most answers kept, and most bytes of their images.
_KEPT: Final = 64
_BYTES: Final = 96 << 20
# Seconds that a busy worker gets to clean up.
_GRACE: Final = 2.0


class Stopped(OpsinError):  # noqa: N818  it is what happened
    """A question that was cancelled."""


@dataclass(frozen=True)
class InspectionAnswer:
    """An answer about a run: values that depend on the question, which name images by number."""

    address: str
    values: Header
    images: Sequence[bytes] = field(repr=False, default=())

    def src(self, number: int) -> str:
        """The URL of an image."""
        return f"{self.address}/{number}.png"


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

    async def ask(
        self, question: Header, content: bytes, on_progress: OnProgress
    ) -> tuple[Header, bytes]:
        """Send a question and return the answer with its images."""
        if self._process is None:
            run = str(self._directory.path.absolute())
            with await asyncio.to_thread(self._log.open, "wb") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *module_command("opsin.commands.inspect_worker", run),
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
            answer, body = frame
            if "error" in answer:
                raise without_path(error_from(answer["error"]), self._directory)
            if "progress" not in answer:
                return answer, body
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
    def answer(self) -> InspectionAnswer | None:
        return self.task.result() if self.task.done() and not self.failed else None

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
                raise Stopped("The question was given up", "Ask again.") from None
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

    async def cancel(self, run_id: str, do: str, **with_: str | int) -> None:
        """Cancel a pending question and end its worker."""
        *_, key = await asyncio.to_thread(self._identify, run_id, do, with_)
        asked = self._asked.pop(key, None)
        if asked is not None and not asked.task.done():
            asked.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OpsinError):
                await asked.task

    def image(self, run_id: str, key: str, number: int) -> bytes | None:
        """Return an image of an answer, by the names in its URL."""
        asked = self._asked.get(key)
        answer = asked.answer if asked is not None and asked.run_id == run_id else None
        return answer.images[number] if answer and number < len(answer.images) else None

    async def stop(self) -> None:
        """End all workers and remove their files."""
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
                header, body = await worker.ask(question, content, asked.tell)
            except asyncio.CancelledError:
                await worker.end()
                raise
            finally:
                worker.busy = False
                self._workers.remove(worker)
                self._workers.append(worker)
                loop = asyncio.get_running_loop()
                worker.timer = loop.call_later(self._idle, self._retire, worker)
        ends = [0, *itertools.accumulate(header["images"])]
        images = [body[start:end] for start, end in itertools.pairwise(ends)]
        self._forget(len(body))
        return InspectionAnswer(f"/inside/{asked.run_id}/{key}", header["said"], images)

    def _forget(self, more: int) -> None:
        """Drop the oldest answers until there is room for some more bytes."""
        old = {key: item.answer for key, item in self._asked.items() if item.task.done()}
        sizes = {key: sum(map(len, answer.images)) if answer else 0 for key, answer in old.items()}
        total = sum(sizes.values()) + more
        for key, size in sizes.items():
            if len(self._asked) > _KEPT or total > _BYTES:
                del self._asked[key]
                total -= size

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
    """Add the route for images of answers, by opaque names only."""

    @api.get("/inside/{run_id}/{key}/{number}.png")
    async def image(run_id: str, key: str, number: str) -> Response:
        place = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else -1
        content = inside.image(run_id, key, place) if place >= 0 else None
        if content is None:
            return Response("This image is gone; load its page again.", 404)
        headers = {"cache-control": "private, max-age=86400", "x-content-type-options": "nosniff"}
        return Response(content, media_type="image/png", headers=headers)
