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
from opsin.studio.threads import IMAGES

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
        self.process: asyncio.subprocess.Process | None = None
        self._directory, self._stamp, self._folder = directory, stamp, folder

    def fits(self, directory: RunDirectory, stamp: FileStamp) -> bool:
        """Whether it is running, idle, and has this classifier open."""
        running = self.process is not None and self.process.returncode is None
        same = self._directory.path == directory.path and self._stamp == stamp
        return running and same and not self.busy

    async def ask(
        self, question: Header, content: bytes, on_progress: OnProgress
    ) -> tuple[Header, bytes]:
        """Send a question and return the answer with its images."""
        if self.process is None:
            self._log = self._folder / f"{secrets.token_hex(6)}.log"
            run = str(self._directory.path.absolute())
            with await IMAGES.run(self._log.open, "wb") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *module_command("opsin.commands.inspect_worker", run),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                    cwd=self._folder, env=child_environment(), start_new_session=True,
                )  # fmt: skip
        process = self.process
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
        printed = [line for line in await IMAGES.run(last_lines, self._log, 20) if line.strip()]
        reason = printed[-1] if printed else "The process ended without a message"
        if status < 0:
            reason = f"The process was ended by {exit_reason(status)} (too little memory?)"
        raise without_path(OpsinError(reason.rstrip("."), "Ask again."), self._directory)

    async def end(self) -> None:
        """End the process; a busy one may first clean up."""
        if self.timer is not None:
            self.timer.cancel()
        process = self.process
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
    answer: InspectionAnswer | None = None
    listeners: list[OnProgress] = field(default_factory=list)
    progress: tuple[str, int, int] | None = None

    def tell(self, what: str, done: int, total: int) -> None:
        self.progress = what, done, total
        for listener in list(self.listeners):
            listener(what, done, total)


class InspectionSessions:
    """Child processes, each inspecting one run, and their answers."""

    def __init__(
        self, runs: RunIndex, places: ImagePlaces, tried: PredictionSession, home: Path, *,
        most: int = 2, idle: float = 120.0,
    ) -> None:  # fmt: skip
        self._runs, self._places, self._tried = runs, places, tried
        self._most, self._idle = most, idle
        self._folder = home.absolute() / "inside"
        self._workers: list[InspectionWorker] = []  # least recently used first
        self._free = asyncio.Semaphore(most)
        self._ending: set[asyncio.Task[None]] = set()
        self._asked: OrderedDict[str, _Question] = OrderedDict()
        self._cleaned = self._ended = False

    async def ask(
        self, run_id: str, do: str, *, on_progress: OnProgress | None = None, **options: str | int
    ) -> InspectionAnswer:
        """Answer a question, computing each only once."""
        directory, stamp, key = await IMAGES.run(self._identify, run_id, do, options)
        asked = self._asked.get(key)
        if asked is None or (asked.task.done() and asked.answer is None):  # new, or failed
            work = self._answer(directory, stamp, key, do, options)
            asked = _Question(run_id, asyncio.create_task(work, name=f"inside {do}"))
            # It may fail when no page waits any more.
            asked.task.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._asked[key] = asked
        self._asked.move_to_end(key)
        if on_progress:
            asked.listeners.append(on_progress)
            if asked.progress:  # another window asked before
                on_progress(*asked.progress)
        try:
            return await asyncio.shield(asked.task)
        except asyncio.CancelledError:
            if asked.task.cancelled():  # the question was cancelled, not this wait
                raise Stopped("The question was given up", "Ask again.") from None
            raise
        finally:
            if on_progress:
                asked.listeners.remove(on_progress)

    def _identify(
        self, run_id: str, do: str, options: Header
    ) -> tuple[RunDirectory, FileStamp, str]:
        """The run, its classifier's stamp, and a key of the question."""
        directory = self._runs.get(run_id)
        stamp = file_stamp(directory.classifier)
        texts = (str(directory.path), str(stamp), do, str(sorted(options.items())))
        content = "\0".join(texts).encode("utf-8", "backslashreplace")
        return directory, stamp, hashlib.blake2s(content, digest_size=12).hexdigest()

    async def cancel(self, run_id: str, do: str, **options: str | int) -> None:
        """Cancel a pending question and end its worker."""
        *_, key = await IMAGES.run(self._identify, run_id, do, options)
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
        await IMAGES.run(shutil.rmtree, self._folder, ignore_errors=True)

    async def _answer(
        self, directory: RunDirectory, stamp: FileStamp, key: str, do: str, options: Header
    ) -> InspectionAnswer:
        asked = self._asked[key]
        # The worker finds the run's images itself, and can do without them.
        with contextlib.suppress(MovedError):
            await IMAGES.run(self._places.check, directory)
        await IMAGES.run(self._make_folder)
        options, content = dict(options), b""
        if "kept" in options:
            kept = self._tried.get(options.pop("kept"))
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
        asked.answer = InspectionAnswer(f"/inside/{asked.run_id}/{key}", header["said"], images)
        return asked.answer

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
        worker = next((one for one in self._workers if one.fits(directory, stamp)), None)
        if worker is not None:
            worker.busy = True
            if worker.timer is not None:
                worker.timer.cancel()
            return worker
        oldest = next((one for one in self._workers if not one.busy), None)
        worker = InspectionWorker(directory, stamp, self._folder)
        self._workers.append(worker)
        if oldest is not None and len(self._workers) > self._most:
            self._workers.remove(oldest)
            try:
                await oldest.end()
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
        known = number.isascii() and number.isdigit() and len(number) < 6
        content = inside.image(run_id, key, int(number)) if known else None
        if content is None:
            return Response("This image is gone; load its page again.", 404)
        headers = {"cache-control": "private, max-age=86400", "x-content-type-options": "nosniff"}
        return Response(content, media_type="image/png", headers=headers)
