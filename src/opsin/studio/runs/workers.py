"""Processes that ask classifiers and look inside them, and their answers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
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
# Questions that need none of the run's images, and the most seconds that they may take.
_SHORT: Final = {"predict": 60.0, "where": 120.0}


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

    process: asyncio.subprocess.Process | None = None
    timer: asyncio.TimerHandle | None = None  # until it ends, without work

    def __init__(self, run: RunDirectory, stamp: FileStamp) -> None:
        self.run, self.stamp = run, stamp

    def fits(self, run: RunDirectory, stamp: FileStamp) -> bool:
        alive = self.process is not None and self.process.returncode is None
        return alive and (self.run.path, self.stamp) == (run.path, stamp)

    async def ask(
        self, question: Header, content: bytes, tell: OnProgress, memory: int
    ) -> tuple[Header, bytes]:
        if self.timer is not None:
            self.timer.cancel()
        if self.process is None:
            words = str(self.run.path.absolute()), str(memory)
            self.process = await asyncio.create_subprocess_exec(
                *module_command("opsin.commands.inspect_worker", *words),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                env=child_environment(), start_new_session=True,
            )  # fmt: skip
        source, target = self.process.stdout, self.process.stdin
        assert source is not None
        assert target is not None
        with contextlib.suppress(ConnectionError):  # then receiving fails below
            target.writelines(pack(question, [content]))
            await target.drain()
        while (frame := await receive_async(source)) is not None:
            if "progress" not in frame[0]:
                return frame
            tell(*frame[0]["progress"])
        reason = exit_reason(await self.process.wait())
        raise OpsinError(f"The work was ended by {reason} (too little memory?)", "Ask again.")

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.process is not None and self.process.returncode is None:
            end_group(self.process.pid)


class Workers:
    """A few processes, each with one classifier, and what they answered.

    There are ``most`` at most; one ends after so many seconds without work, and takes no more than
    ``memory`` bytes beyond its classifier's (0: any number).
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
        self._answers = ComputedOnce[str, Answer](
            _BYTES, lambda answer: max(_LEAST, sum(map(len, answer.images)))
        )

    async def ask(
        self, run_id: str, do: str, given: GivenImage | None = None, *,
        on_progress: OnProgress = lambda *_: None, **options: str | int,
    ) -> Answer:  # fmt: skip
        """Answer a question, computing each only once; those about a frame are not kept.

        The work ends when one who waits for it is cancelled, and with it all who wait.
        """

        def identify() -> tuple[RunDirectory, FileStamp, str]:
            directory = self._runs.get(run_id)
            if do not in _SHORT:
                # The worker finds the run's images itself, and can do without them.
                with contextlib.suppress(MovedError):
                    self._places.check(directory)
            stamp, image = file_stamp(directory.classifier), given.key if given else ""
            asked = f"{directory.path}\0{stamp}\0{do}\0{image}\0{sorted(options.items())}"
            content = asked.encode("utf-8", "backslashreplace")
            return directory, stamp, hashlib.blake2s(content, digest_size=12).hexdigest()

        async def compute() -> Answer:
            content, named = (given.content, {"name": given.name}) if given else (b"", {})
            question = {"id": key, "do": do, "with": options | named}
            async with self._free:
                header, body = await self._asked(directory, stamp, question, content, on_progress)
            if "error" in header:  # no page shows a path
                path, error = str(directory.path.absolute()), error_from(header["error"])
                raise error.replace(f"{path}{os.sep}", "").replace(path, directory.path.name)
            ends = [0, *itertools.accumulate(header["images"])]
            images = [body[start:end] for start, end in itertools.pairwise(ends)]
            return Answer(f"/inside/{run_id}/{key}", header["said"], images)

        directory, stamp, key = await IMAGES.run(identify)
        if given is not None and not given.key:
            return await compute()
        try:
            return await self._answers.get(key, compute)
        except asyncio.CancelledError:
            await self._answers.cancel(key)
            raise

    async def _asked(
        self, run: RunDirectory, stamp: FileStamp, question: Header, content: bytes,
        tell: OnProgress,
    ) -> tuple[Header, bytes]:  # fmt: skip
        """What a worker of the run says, which works on nothing else meanwhile."""
        worker = next((one for one in self._idle if one.fits(run, stamp)), None)
        if worker is not None:
            self._idle.remove(worker)
        elif len(self._idle) + len(self._busy) >= self._most:
            self._idle.pop(0).end()
        worker = worker or _Worker(run, stamp)
        self._busy.add(worker)
        try:
            async with asyncio.timeout(_SHORT.get(question["do"])):
                answer = await worker.ask(question, content, tell, self._memory)
        except BaseException as error:
            worker.end()
            if not isinstance(error, TimeoutError):
                raise
            raise OpsinError("This takes too long", "Try another image.") from None
        finally:
            self._busy.remove(worker)
        self._idle.append(worker)
        worker.timer = asyncio.get_running_loop().call_later(self._seconds, worker.end)
        return answer

    def image(self, run_id: str, key: str, number: str) -> bytes | None:
        """Return an image of an answer, by the names in its URL."""
        answer = self._answers.kept(key)
        if answer is None or answer.address != f"/inside/{run_id}/{key}":
            return None
        return {str(i): image for i, image in enumerate(answer.images)}.get(number)

    async def stop(self) -> None:
        """End all workers."""
        workers = [*self._idle, *self._busy]
        await self._answers.cancel()
        for worker in workers:
            worker.end()
        await asyncio.gather(*(worker.process.wait() for worker in workers if worker.process))


def add_routes(api: FastAPI, workers: Workers) -> None:
    """Add the route for images of answers, by opaque names only."""

    @api.get("/inside/{run_id}/{key}/{number}.png")
    async def image(run_id: str, key: str, number: str) -> Response:
        content = workers.image(run_id, key, number)
        if content is None:
            return Response("This image is gone; load its page again.", 404)
        headers = {"cache-control": "private, max-age=86400"}
        return Response(content, media_type="image/png", headers=headers)
