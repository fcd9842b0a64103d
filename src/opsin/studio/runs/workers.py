"""Processes that ask classifiers and look inside them, and their answers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

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
from opsin.studio.runs.dataset_cache import ImagePlaces
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import IMAGES, ComputedOnce

#: Progress callback: current work, units done, units in all (0: unknown).
OnProgress = Callable[[str, int, int], object]

# Most bytes of kept answers, each of which counts as so many at least.
_BYTES: Final = 96 << 20
_LEAST: Final = _BYTES // 64
# Questions about one photograph: most seconds of an answer, and no images of the run are read.
_SHORT: Final = {"predict": 60.0, "where": 120.0}


class Stopped(OpsinError):  # noqa: N818  it is what happened
    """A question that was cancelled."""


class GivenImage(NamedTuple):
    """An image that somebody gave; the key is the same for the same image, ``""`` for frames."""

    key: str
    name: str
    content: bytes


@dataclass(frozen=True)
class Answer:
    """Values that depend on the question, and images, which they name by number."""

    address: str
    values: Header
    images: Sequence[bytes] = field(repr=False)

    def src(self, number: int) -> str:
        """The URL of an image."""
        return f"{self.address}/{number}.png"


class _Worker:
    """A child process that has one run's classifier open."""

    def __init__(self, run: RunDirectory, stamp: FileStamp) -> None:
        self.run, self.stamp = run, stamp
        self.process: asyncio.subprocess.Process | None = None
        self.timer: asyncio.TimerHandle | None = None  # until it ends

    def fits(self, run: RunDirectory, stamp: FileStamp) -> bool:
        running = self.process is not None and self.process.returncode is None
        return running and (self.run.path, self.stamp) == (run.path, stamp)

    async def ask(
        self, question: Header, content: bytes, tell: OnProgress, memory: int
    ) -> tuple[Header, bytes]:
        if self.process is None:
            words = str(self.run.path.absolute()), str(memory)
            self.process = await asyncio.create_subprocess_exec(
                *module_command("opsin.commands.inspect_worker", *words),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                env=child_environment(), start_new_session=True,
            )  # fmt: skip
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):  # then receiving fails below
            process.stdin.writelines(pack(question, [content]))
            await process.stdin.drain()
        while (frame := await receive_async(process.stdout)) is not None:
            if "progress" not in frame[0]:
                return frame
            tell(*frame[0]["progress"])
        reason = exit_reason(await process.wait())
        raise OpsinError(f"The work was ended by {reason} (too little memory?)", "Ask again.")

    async def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.process is not None and self.process.returncode is None:
            end_group(self.process.pid)
            await self.process.wait()


class Workers:
    """A few processes, each with one classifier, and what they answered.

    Args:
        most: Number of processes at most.
        idle: Seconds until a process without work ends.
        memory: Bytes that one may take beyond what its classifier takes (default: any).
    """

    def __init__(
        self, runs: RunIndex, places: ImagePlaces, *, most: int = 2, idle: float = 120.0,
        memory: int = 0,
    ) -> None:  # fmt: skip
        self._runs, self._places = runs, places
        self._most, self._seconds, self._memory = most, idle, memory
        self._idle: list[_Worker] = []  # the least recently used first
        self._busy: set[_Worker] = set()
        self._free = asyncio.Semaphore(most)
        self._ending: set[asyncio.Task[None]] = set()
        self._answers = ComputedOnce[str, Answer](
            _BYTES, lambda answer: max(_LEAST, sum(map(len, answer.images)))
        )
        self._listeners = defaultdict[str, list[OnProgress]](list)

    async def ask(
        self, run_id: str, do: str, given: GivenImage | None = None, *,
        on_progress: OnProgress | None = None, **options: str | int,
    ) -> Answer:  # fmt: skip
        """Answer a question, computing each only once; those about a frame are not kept."""
        directory, stamp, key = await IMAGES.run(self._identify, run_id, do, given, options)

        def tell(what: str, done: int, total: int) -> None:
            for listener in [*self._listeners[key]]:
                listener(what, done, total)

        async def compute() -> Answer:
            content, named = (given.content, {"name": given.name}) if given else (b"", {})
            question = {"id": key, "do": do, "with": options | named}
            header, body = await self._asked(directory, stamp, question, content, tell)
            if "error" in header:
                raise without_path(error_from(header["error"]), directory)
            ends = [0, *itertools.accumulate(header["images"])]
            images = [body[start:end] for start, end in itertools.pairwise(ends)]
            return Answer(f"/inside/{run_id}/{key}", header["said"], images)

        if given is not None and not given.key:
            return await compute()
        if on_progress:
            self._listeners[key].append(on_progress)
        try:
            return await self._answers.get(key, compute)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise Stopped("The question was given up", "Ask again.") from None
        finally:
            if on_progress:
                self._listeners[key].remove(on_progress)
            if not self._listeners[key]:
                del self._listeners[key]

    def _identify(
        self, run_id: str, do: str, given: GivenImage | None, options: Header
    ) -> tuple[RunDirectory, FileStamp, str]:
        """The run, its classifier's stamp, and a key of the question."""
        directory = self._runs.get(run_id)
        if do not in _SHORT:
            # The worker finds the run's images itself, and can do without them.
            with contextlib.suppress(MovedError):
                self._places.check(directory)
        stamp, image = file_stamp(directory.classifier), given.key if given else ""
        asked = f"{directory.path}\0{stamp}\0{do}\0{image}\0{sorted(options.items())}"
        content = asked.encode("utf-8", "backslashreplace")
        return directory, stamp, hashlib.blake2s(content, digest_size=12).hexdigest()

    async def cancel(
        self, run_id: str, do: str, given: GivenImage | None = None, **options: str | int
    ) -> None:
        """Cancel a pending question and end its worker."""
        *_, key = await IMAGES.run(self._identify, run_id, do, given, options)
        await self._answers.cancel(key)

    def image(self, run_id: str, key: str, number: int) -> bytes | None:
        """Return an image of an answer, by the names in its URL."""
        answer = self._answers.kept(key)
        if answer is None or answer.address != f"/inside/{run_id}/{key}":
            return None
        return answer.images[number] if number < len(answer.images) else None

    async def stop(self) -> None:
        """End all workers."""
        await self._answers.cancel()
        await asyncio.gather(*(worker.end() for worker in (*self._idle, *self._busy)))

    async def _asked(
        self, run: RunDirectory, stamp: FileStamp, question: Header, content: bytes,
        tell: OnProgress,
    ) -> tuple[Header, bytes]:  # fmt: skip
        """What a worker of the run says, which works on nothing else meanwhile."""
        async with self._free:
            fitting = (one for one in self._idle if one.fits(run, stamp))
            worker = next(fitting, None) or _Worker(run, stamp)
            self._busy.add(worker)
            try:
                if worker in self._idle:
                    self._idle.remove(worker)
                elif len(self._idle) + len(self._busy) > self._most:
                    await self._idle.pop(0).end()
                if worker.timer is not None:
                    worker.timer.cancel()
                async with asyncio.timeout(_SHORT.get(question["do"])):
                    answer = await worker.ask(question, content, tell, self._memory)
            except BaseException as error:
                await worker.end()
                if isinstance(error, TimeoutError):
                    raise OpsinError(
                        "This takes too long to compute", "Try another image."
                    ) from None
                raise
            finally:
                self._busy.remove(worker)
            self._idle.append(worker)
            later = asyncio.get_running_loop().call_later
            worker.timer = later(self._seconds, self._retire, worker)
            return answer

    def _retire(self, worker: _Worker) -> None:
        self._idle.remove(worker)
        task = asyncio.create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def without_path(error: OpsinError, directory: RunDirectory) -> OpsinError:
    """Return an error about a run without its path, which no page shows."""
    path, name = str(directory.path.absolute()), directory.path.name
    return error.replace(f"{path}{os.sep}", "").replace(path, name)


def add_routes(api: FastAPI, workers: Workers) -> None:
    """Add the route for images of answers, by opaque names only."""

    @api.get("/inside/{run_id}/{key}/{number}.png")
    async def image(run_id: str, key: str, number: str) -> Response:
        known = number.isascii() and number.isdigit() and len(number) < 6
        content = workers.image(run_id, key, int(number)) if known else None
        if content is None:
            return Response("This image is gone; load its page again.", 404)
        headers = {"cache-control": "private, max-age=86400", "x-content-type-options": "nosniff"}
        return Response(content, media_type="image/png", headers=headers)
