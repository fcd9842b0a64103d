"""The server's handles of worker processes, and their pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from opsin.core.child_process import (
    Header,
    Unpacker,
    child_environment,
    error_from,
    module_command,
    pack,
)
from opsin.core.errors import ModelFileError, OpsinError
from opsin.core.platform import stop_signals_blocked
from opsin.server.errors import NotBegun, WorkerDied
from opsin.server.models import ModelFile

_LOG: Final = logging.getLogger(__name__)
# Most seconds for loading a model before its worker counts as stuck.
_LOADING: Final = 120.0
# Seconds that a worker gets to end by itself.
_ENDING: Final = 2.0
# Seconds before restarting a worker that failed to start; doubled each time.
_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0

#: A worker's reply: header and body.
Reply = tuple[Header, bytes]


class WorkerProcess(asyncio.Protocol):
    """A worker process and its socket; `replied` is called after each reply."""

    def __init__(self, replied: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.loaded: set[str] = set()
        #: Pending replies, in order.
        self.asked: deque[asyncio.Future[Reply]] = deque()
        #: When it began the first of these.
        self.since = 0.0
        #: Whether the last of these is so short that another may follow it.
        self.light = False
        self.loading = False
        self.gone: asyncio.Future[None] = loop.create_future()
        self._loop, self._replied = loop, replied
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = False

    @property
    def alive(self) -> bool:
        """Whether it is connected."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid if self._process else 0

    async def open(self) -> None:
        """Start the process; failure or cancellation cleans up."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(theirs)
            ours.setblocking(False)
            self._transport, _ = await self._loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            self.kill()
            await self.close()
            raise

    def data_received(self, data: bytes) -> None:
        """Handle data from the worker."""
        for reply in self._unpacker.feed(data):
            future = self.asked.popleft()
            self.since = self._loop.time()
            if not future.done():
                future.set_result(reply)
            self._replied()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Handle the worker's end, or drop one that broke the protocol."""
        if not self._closing:
            self.kill()
        lost: type[WorkerDied] = WorkerDied
        while self.asked:
            future = self.asked.popleft()
            if not future.done():
                future.set_exception(lost())
                future.exception()  # it may never be awaited
            lost = NotBegun
        if not self.gone.done():
            self.gone.set_result(None)

    def answer(
        self, file: ModelFile, header: Header, parts: list[bytes], *, light: bool
    ) -> asyncio.Future[Reply]:
        """Send a batch, after the model if the worker lacks it."""
        if file.digest not in self.loaded:
            self._load(file)
        reply = self._ask({"do": "answer", "key": file.digest, **header}, parts)
        self.light = light
        return reply

    async def load(self, file: ModelFile, *, trial_batch: int = 0) -> Header:
        """Load a model in the worker, and return its description.

        With a ``trial_batch``, answers are tested in batches of up to so many images, and a
        crash is blamed on the file.

        Raises:
            OpsinError: The file is not a classifier.
            WorkerDied: The process died on it.
        """
        self.loading = True
        try:
            async with asyncio.timeout(_LOADING):
                header, _ = await self._load(file, trial_batch)
        except (TimeoutError, WorkerDied) as error:
            self.kill()
            if not trial_batch:
                raise WorkerDied from None
            raise ModelFileError(
                f"The process that opened {file.path} ended over it",
                f"Try it alone: opsin predict {file.path} IMAGE",
            ) from error
        finally:
            self.loading = False
        if "error" in header:
            self.loaded.discard(file.digest)
            raise error_from(header["error"])
        if trial_batch:  # the other workers reuse the result
            file.device, file.batch_invariant = header["device"], header["batch_invariant"]
        return header

    def drop(self, key: str) -> None:
        """Unload a model in the worker."""
        if key in self.loaded:
            self.loaded.discard(key)
            self._write({"do": "drop", "key": key})

    def kill(self) -> None:
        """Kill the process; its pending work is lost."""
        if self._process:
            self._process.kill()
        if self._transport:
            self._transport.abort()

    async def close(self) -> None:
        """Let the process end, and wait for it."""
        self._closing = True
        if self._transport:
            self._transport.close()
        if self._process is None:
            return
        end = self._loop.time() + _ENDING
        while self._process.poll() is None:
            if self._loop.time() > end:
                self._process.kill()
            await asyncio.sleep(0.005)

    def _load(self, file: ModelFile, trial_batch: int = 0) -> asyncio.Future[Reply]:
        self.loaded.add(file.digest)
        header = {
            "do": "load", "key": file.digest, "path": str(file.path), "trial_batch": trial_batch,
            "batch_invariant": file.batch_invariant, "max_batch": file.max_batch,
            "device": file.device,
        }  # fmt: skip
        return self._ask(header, [file.content])

    def _ask(self, header: Header, parts: list[bytes]) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self.gone.done():
            future.set_exception(NotBegun())
            future.exception()  # it may never be awaited
            return future
        if not self.asked:
            self.since = self._loop.time()
        self.asked.append(future)
        self.light = False
        self._write(header, parts)
        return future

    def _write(self, header: Header, parts: Sequence[bytes] = ()) -> None:
        if self.alive and self._transport:  # else `connection_lost` fails the waiters
            self._transport.writelines(pack(header, parts))


def _start(connection: socket.socket) -> subprocess.Popen[bytes]:
    # Ctrl-C reaches the whole process group, but accepted images must still be answered: the
    # server decides when its workers end.
    with stop_signals_blocked():
        return subprocess.Popen(  # noqa: S603  the interpreter that runs this
            module_command("opsin.server.worker"),
            stdin=connection.fileno(),
            stdout=subprocess.DEVNULL,
            env=child_environment(one_thread=True),  # one worker per core
        )


class WorkerPool:
    """A fixed number of workers; dead ones are replaced.

    Args:
        size: Number of workers.
        models: Returns the models that a new worker loads.
        free: Called when a worker has replied or is ready.
        died: Called when a worker has died.
    """

    def __init__(
        self,
        size: int,
        models: Callable[[], list[ModelFile]],
        free: Callable[[], None],
        died: Callable[[], None],
    ) -> None:
        self.workers: list[WorkerProcess] = []
        self._size, self._models, self._free, self._died = size, models, free, died
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self, models: Sequence[ModelFile], *, trial_batch: int) -> list[Header]:
        """Start all workers with these models, and return the first one's descriptions."""
        opened = [WorkerProcess(self._free) for _ in range(self._size)]
        try:
            await asyncio.gather(*(worker.open() for worker in opened))
            known = [await opened[0].load(model, trial_batch=trial_batch) for model in models]
            await asyncio.gather(*(w.load(model) for w in opened[1:] for model in models))
        except BaseException:
            for worker in opened:
                worker.kill()
            await asyncio.gather(*(worker.close() for worker in opened))
            raise
        # One may have died while others were loading; its keeper replaces it.
        self.workers = [worker for worker in opened if not worker.gone.done()]
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in opened]
        for keeper in self._keepers:
            keeper.add_done_callback(log_failure)
        return known

    async def try_out(self, model: ModelFile, *, trial_batch: int) -> Header:
        """Load a model in a separate process, and test batches of all sizes.

        That takes up to 3 s and blocks no worker.
        """
        scout = WorkerProcess(lambda: None)
        await scout.open()
        try:
            return await scout.load(model, trial_batch=trial_batch)
        finally:
            scout.kill()
            await scout.close()

    async def load(self, model: ModelFile) -> None:
        """Load a model in each worker in turn, while the others keep working."""
        for worker in list(self.workers):
            # A worker that dies on it is replaced, like any other.
            with contextlib.suppress(OpsinError):
                await worker.load(model)

    async def stop(self, *, at_once: bool = False) -> None:
        """End all workers: gracefully, or at once."""
        for keeper in self._keepers:
            keeper.cancel()
        if at_once:
            for worker in self.workers:
                worker.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def kill_stuck(self, now: float, limit: float) -> None:
        """Kill workers that have been on one batch for over ``limit`` seconds."""
        for worker in self.workers:
            loads_now = worker.loading and len(worker.asked) == 1
            if worker.asked and not loads_now and now - worker.since > limit:
                _LOG.warning("a worker did nothing for %.0f s and was ended", limit)
                worker.kill()

    async def _keep(self, worker: WorkerProcess | None) -> None:
        """Keep one worker running, until cancelled."""
        failures = 0
        while True:
            try:
                if worker is None:
                    worker = WorkerProcess(self._free)
                    await worker.open()
                    for model in self._models():
                        await worker.load(model)
                    if not worker.gone.done():  # it may have died just now
                        self.workers.append(worker)
                        failures = 0
                        self._free()
                await asyncio.shield(worker.gone)
                if worker in self.workers:
                    self._died()
            except (OpsinError, OSError) as error:
                failures += 1
                _LOG.warning("a worker could not be started: %s", error)
            finally:
                if worker is not None:
                    if worker in self.workers:
                        self.workers.remove(worker)
                    elif not worker.gone.done():
                        worker.kill()
                    await worker.close()
            worker = None
            if failures:
                # Capped: the power would overflow after a night of failures.
                await asyncio.sleep(min(_LONGEST_PAUSE, _PAUSE * 2 ** min(failures, 16)))


def log_failure(task: asyncio.Task[None]) -> None:
    """Log the exception of a background task, which would otherwise be lost."""
    if not task.cancelled() and (error := task.exception()):
        _LOG.error("the server no longer looks after its workers and files", exc_info=error)
