"""The server's handles of worker processes, and their pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from opsin.core.child_process import (
    Header,
    Unpacker,
    child_environment,
    error_from,
    module_command,
    pack,
)
from opsin.core.errors import ModelFileError, OpsinError
from opsin.core.platform import cores, stop_signals_blocked
from opsin.server import ServerSettings
from opsin.server.errors import WorkerDied
from opsin.server.models import ModelFile

_LOG: Final = logging.getLogger(__name__)
# Most seconds for loading a model, and for a batch beyond the deadline, before its worker counts
# as stuck.
_LOADING: Final = 120.0
_GRACE: Final = 10.0
# Seconds that a worker gets to end by itself.
_ENDING: Final = 2.0
# Seconds before restarting a worker that failed to start: at first, and at most.
_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0

#: A worker's reply: header and body.
Reply = tuple[Header, bytes]


class Worker(asyncio.Protocol):
    """A worker process behind its socket, killed if a batch takes too long."""

    def __init__(self, settings: ServerSettings, replied: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings, self._replied = settings, replied
        self.loaded: set[str] = set()
        #: Replies to come, in order, and the seconds that each may take.
        self.pending: deque[tuple[asyncio.Future[Reply], float]] = deque()
        #: Whether the last of these is so short that another may follow it.
        self.light = False
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._closing = False

    @property
    def alive(self) -> bool:
        """Whether it is connected."""
        return self._transport is not None and not self._transport.is_closing()

    async def open(self) -> None:
        """Start the process; `end` must follow, even on failure."""
        ours, theirs = socket.socketpair()
        try:
            # Ctrl-C reaches the whole process group, but accepted images must still be answered:
            # the server decides when its workers end.
            with theirs, stop_signals_blocked():
                self.process = subprocess.Popen(  # noqa: S603  the interpreter that runs this
                    module_command("opsin.server.worker"),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=child_environment(one_thread=True),  # one worker per core
                )
            ours.setblocking(False)
            self._transport, _ = await self._loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            raise

    def data_received(self, data: bytes) -> None:
        """Handle data from the worker."""
        for reply in self._unpacker.feed(data):
            future, _ = self.pending.popleft()
            if not future.done():
                future.set_result(reply)
            self._watch()
            self._replied()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Handle the worker's end, or drop one that broke the protocol."""
        if not self._closing:
            self.kill()
        while self.pending:
            fail(self.pending.popleft()[0], WorkerDied())
        self._watch()
        if not self.gone.done():
            self.gone.set_result(None)

    def answer(self, file: ModelFile, header: Header, parts: list[bytes]) -> asyncio.Future[Reply]:
        """Send a batch, after the model if the worker lacks it."""
        if file.digest not in self.loaded:
            self._load(file)
        header = {"do": "answer", "key": file.digest, **header}
        return self._ask(header, parts, self._settings.deadline + _GRACE)

    async def load(self, file: ModelFile) -> Header:
        """Load a model in the worker and return its description; a first crash is the file's."""
        first = file.batch_invariant is None
        try:
            header, _ = await self._load(file)
        except WorkerDied as error:
            if not first:
                raise
            raise ModelFileError(
                f"The process that opened {file.path} ended over it",
                f"Try it alone: opsin predict {file.path} IMAGE",
            ) from error
        if "error" in header:
            self.loaded.discard(file.digest)
            raise error_from(header["error"])
        if first:  # the other workers reuse the result
            file.device, file.batch_invariant = header["device"], header["batch_invariant"]
        return header

    def drop(self, key: str) -> None:
        """Unload a model in the worker."""
        if key in self.loaded:
            self.loaded.discard(key)
            self._write({"do": "drop", "key": key})

    def kill(self) -> None:
        """Kill the process; its pending work is lost."""
        if self.process:
            self.process.kill()
        if self._transport:
            self._transport.abort()

    async def end(self, *, at_once: bool = False) -> None:
        """Let the process end, or kill it, and wait for it."""
        self._closing = True
        if at_once:
            self.kill()
        if self._transport:
            self._transport.close()
        latest = self._loop.time() + _ENDING
        while self.process and self.process.poll() is None:
            if self._loop.time() > latest:
                self.process.kill()
            await asyncio.sleep(0.005)

    def _load(self, file: ModelFile) -> asyncio.Future[Reply]:
        self.loaded.add(file.digest)
        header = {
            "do": "load",
            "key": file.digest,
            "path": str(file.path),
            "device": file.device,
            "batch": self._settings.batch,
            "batch_invariant": file.batch_invariant,
            "max_batch": file.max_batch,
        }
        return self._ask(header, [file.content], _LOADING)

    def _ask(self, header: Header, parts: list[bytes], seconds: float) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self.gone.done():
            fail(future, WorkerDied())
            return future
        self.pending.append((future, seconds))
        self.light = False
        if len(self.pending) == 1:
            self._watch()
        self._write(header, parts)
        return future

    def _watch(self) -> None:
        """Time the reply that comes next."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self.pending:
            self._timer = self._loop.call_later(self.pending[0][1], self._give_up)

    def _give_up(self) -> None:
        _LOG.warning("a worker did nothing for %.0f s and was ended", self.pending[0][1])
        self.kill()

    def _write(self, header: Header, parts: Sequence[bytes] = ()) -> None:
        if self.alive and self._transport:  # else `connection_lost` fails the waiters
            self._transport.writelines(pack(header, parts))


def fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Give up a result, unless it is there."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # it may never be awaited


class WorkerPool:
    """A fixed number of workers; dead ones are replaced.

    A new one loads the ``models``. ``free`` is called when one has replied or is ready, ``died``
    when one has died.
    """

    def __init__(
        self,
        settings: ServerSettings,
        models: Callable[[], list[ModelFile]],
        free: Callable[[], None],
        died: Callable[[], None],
    ) -> None:
        self.workers: list[Worker] = []
        self._settings, self._models, self._free, self._died = settings, models, free, died
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self, models: Sequence[ModelFile]) -> list[Header]:
        """Start all workers with these models, and return the first one's descriptions."""
        size = self._settings.workers or cores()
        first, *others = opened = [Worker(self._settings, self._free) for _ in range(size)]
        try:
            await asyncio.gather(*(worker.open() for worker in opened))
            known = [await first.load(model) for model in models]
            await asyncio.gather(*(worker.load(model) for worker in others for model in models))
        except BaseException:
            await asyncio.gather(*(worker.end(at_once=True) for worker in opened))
            raise
        # One may have died while others were loading; its keeper replaces it.
        self.workers = [worker for worker in opened if not worker.gone.done()]
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in opened]
        for keeper in self._keepers:
            keeper.add_done_callback(log_failure)
        return known

    async def replace(self, model: ModelFile) -> Header:
        """Try a model's new file in a separate process, then load it in each worker in turn."""
        scout = Worker(self._settings, lambda: None)
        try:
            await scout.open()
            header = await scout.load(model)
        finally:
            await scout.end(at_once=True)
        for worker in list(self.workers):
            # A worker that dies on it is replaced, like any other.
            with contextlib.suppress(OpsinError):
                await worker.load(model)
        return header

    async def stop(self, *, at_once: bool) -> None:
        """End all workers: gracefully, or at once."""
        for keeper in self._keepers:
            keeper.cancel()
        if at_once:
            for worker in self.workers:
                worker.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep(self, worker: Worker | None) -> None:
        """Keep one worker running, until cancelled."""
        pause = 0.0
        while True:
            try:
                if worker is None:
                    worker = Worker(self._settings, self._free)
                    await worker.open()
                    for model in self._models():
                        await worker.load(model)
                    if not worker.gone.done():  # it may have died just now
                        self.workers.append(worker)
                        pause = 0.0
                        self._free()
                await asyncio.shield(worker.gone)
                if worker in self.workers:
                    self._died()
            except (OpsinError, OSError) as error:
                pause = min(2 * pause or _PAUSE, _LONGEST_PAUSE)
                _LOG.warning("a worker could not be started: %s", error)
            finally:
                if worker is not None:
                    ready = worker in self.workers
                    if ready:
                        self.workers.remove(worker)
                    await worker.end(at_once=not ready)
            worker = None
            await asyncio.sleep(pause)


def log_failure(task: asyncio.Task[None]) -> None:
    """Log the exception of a background task, which would otherwise be lost."""
    if not task.cancelled() and (error := task.exception()):
        _LOG.error("the server no longer looks after its workers and files", exc_info=error)
