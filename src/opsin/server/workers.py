"""The worker processes as the server sees them, and the pool that keeps their number."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Container, Coroutine, Sequence
from dataclasses import dataclass
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
from opsin.core.platform import stop_signals_blocked
from opsin.server.errors import WorkerDied
from opsin.server.models import ModelVersion
from opsin.server.waiting import QueueEntry

_LOG: Final = logging.getLogger(__name__)
# Seconds that loading a model may take before its worker is taken for stuck.
_LOADING: Final = 120.0
# Seconds that a worker has to end by itself once asked.
_ENDING: Final = 2.0
# Seconds to wait before a worker is started that did not even come up: doubled each time.
_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


@dataclass(eq=False, slots=True)
class WorkerBatch:
    """What a worker was given and has not answered yet, in the order in which it was sent."""

    entries: list[QueueEntry]
    light: bool  # whether the worker may be given the next batch before this one is answered
    since: float = 0.0  # when the worker began with it


class WorkerProcess(asyncio.Protocol):
    """One worker process and the socket to it.

    Args:
        answered: Called with a batch, the reply's header and its body.
        lost: Called with the worker and the batches that it leaves unanswered, once it has ended.
    """

    def __init__(
        self,
        answered: Callable[[WorkerBatch, Header, bytes], None],
        lost: Callable[[WorkerProcess, list[WorkerBatch]], None],
    ) -> None:
        self.batches: deque[WorkerBatch] = deque()
        self.loaded: set[str] = set()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answered, self._lost = answered, lost
        # Replies come in the order of the requests: batches, and futures of models being loaded.
        self._asked: deque[WorkerBatch | asyncio.Future[Header]] = deque()
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = False

    @property
    def alive(self) -> bool:
        """Whether what is sent to it may arrive."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid if self._process else 0

    async def open(self) -> None:
        """Start the process; what was begun is undone where that fails or is cancelled."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(theirs)
            ours.setblocking(False)
            self._transport, _ = await asyncio.get_running_loop().create_unix_connection(
                lambda: self, sock=ours
            )
        except BaseException:
            ours.close()
            self.kill()
            await self.close()
            raise

    def data_received(self, data: bytes) -> None:
        """Take what the worker sent."""
        for header, body in self._unpacker.feed(data):
            first = self._asked.popleft()
            if isinstance(first, WorkerBatch):
                self.batches.popleft()
                if self.batches:
                    self.batches[0].since = asyncio.get_running_loop().time()
                self._answered(first, header, body)
            elif not first.done():
                first.set_result(header)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Take note that the worker has ended, or is no longer to be trusted."""
        if not self._closing:
            self.kill()
        batches = list(self.batches)
        waiting = [each for each in self._asked if isinstance(each, asyncio.Future)]
        self.batches.clear()
        self._asked.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(WorkerDied())
                future.exception()  # it may never be awaited
        if not self.gone.done():
            self.gone.set_result(None)
        self._lost(self, batches)

    def send(
        self, model: ModelVersion, batch: WorkerBatch, header: Header, parts: list[bytes]
    ) -> None:
        """Give it a batch to answer, and the model first where it does not have it yet."""
        if model.digest not in self.loaded:
            self._load(model, trial_batch=0).add_done_callback(self._only_loaded)
        if not self.batches:
            batch.since = asyncio.get_running_loop().time()
        self.batches.append(batch)
        self._asked.append(batch)
        self._write({"do": "answer", "key": model.digest, **header}, parts)

    async def load(self, model: ModelVersion, *, trial_batch: int = 0) -> Header:
        """Have it open a model, and return what it found.

        With a ``trial_batch``, answers are tried out in batches of up to so many images.

        Raises:
            OpsinError: The file is no classifier.
            WorkerDied: The process ended over it.
        """
        try:
            async with asyncio.timeout(_LOADING):
                header = await self._load(model, trial_batch=trial_batch)
        except TimeoutError:
            self.kill()
            raise WorkerDied from None
        if "error" in header:
            self.loaded.discard(model.digest)
            raise error_from(header["error"])
        if trial_batch:  # the others need not find out by themselves
            model.device = header["device"]
        return header

    def drop(self, key: str) -> None:
        """Have it forget a model."""
        self.loaded.discard(key)
        self._write({"do": "drop", "key": key})

    def kill(self) -> None:
        """End the process at once; what it was given counts as lost."""
        if self._process:
            self._process.kill()
        if self._transport:
            self._transport.abort()

    async def close(self) -> None:
        """Let the process end, and wait until nothing of it is left."""
        self._closing = True
        if self._transport:
            self._transport.close()
        if self._process is None:
            return
        end = asyncio.get_running_loop().time() + _ENDING
        while self._process.poll() is None:
            if asyncio.get_running_loop().time() > end:
                self._process.kill()
            await asyncio.sleep(0.005)

    def _load(self, model: ModelVersion, trial_batch: int) -> asyncio.Future[Header]:
        self.loaded.add(model.digest)
        future: asyncio.Future[Header] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        if self.gone.done():
            future.set_exception(WorkerDied())
        header = {
            "do": "load", "key": model.digest, "path": str(model.path), "trial_batch": trial_batch,
            "batch_invariant": model.batch_invariant, "max_batch": model.max_batch,
            "device": model.device,
        }  # fmt: skip
        self._write(header, [model.content])
        return future

    def _only_loaded(self, future: asyncio.Future[Header]) -> None:
        """End a worker that could not open what another one could: its memory is short."""
        if not future.cancelled() and not future.exception() and "error" in future.result():
            self.kill()

    def _write(self, header: Header, parts: list[bytes] | None = None) -> None:
        # Where it is about to be lost, `connection_lost` tells all who wait for it.
        if self.alive and self._transport:
            self._transport.writelines(pack(header, parts or ()))


def _start(connection: socket.socket) -> subprocess.Popen[bytes]:
    # Ctrl-C reaches every process of the group, but accepted images are still to be answered: the
    # server decides when its workers end.
    with stop_signals_blocked():
        return subprocess.Popen(  # noqa: S603  the interpreter that runs this
            module_command("opsin.server.worker"),
            stdin=connection.fileno(),
            stdout=subprocess.DEVNULL,
            env=child_environment(one_thread=True),  # there is one worker for each core
        )


class WorkerPool:
    """Keeps a fixed number of workers running: one that ends is replaced.

    Args:
        size: How many.
        models: Returns the models that a new worker opens first.
        answered: Called with a batch, the reply's header and its body.
        died: Called with the batches that a worker left, where it ended unasked.
        free: Called once a new worker is ready.
    """

    def __init__(
        self,
        size: int,
        models: Callable[[], list[ModelVersion]],
        answered: Callable[[WorkerBatch, Header, bytes], None],
        died: Callable[[list[WorkerBatch]], None],
        free: Callable[[], None],
    ) -> None:
        self.workers: list[WorkerProcess] = []
        self._size, self._models = size, models
        self._answered, self._died, self._free = answered, died, free
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self, models: Sequence[ModelVersion], *, trial_batch: int) -> list[Header]:
        """Start all workers with these models, and return what the first found of each."""
        opened = [WorkerProcess(self._answered, self._lost) for _ in range(self._size)]
        try:
            await asyncio.gather(*(worker.open() for worker in opened))
            known = [
                await _loaded_by(opened[0].load(model, trial_batch=trial_batch), model)
                for model in models
            ]
            await asyncio.gather(*(w.load(model) for w in opened[1:] for model in models))
        except BaseException:
            for worker in opened:
                worker.kill()
            await asyncio.gather(*(worker.close() for worker in opened))
            raise
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in opened]
        for keeper in self._keepers:
            keeper.add_done_callback(log_failure)
        # One may have ended while the others were still loading; its keeper replaces it.
        self.workers = [worker for worker in opened if not worker.gone.done()]
        return known

    async def try_out(self, model: ModelVersion, *, trial_batch: int) -> Header:
        """Open a model in a process of its own, and try batches of all sizes.

        That takes up to 3 s, and no worker stops for it.
        """
        scout = WorkerProcess(self._answered, lambda _worker, _batches: None)
        await scout.open()
        try:
            return await _loaded_by(scout.load(model, trial_batch=trial_batch), model)
        finally:
            scout.kill()
            await scout.close()

    async def load(self, model: ModelVersion) -> None:
        """Open a model in each worker, one after another, while the others go on."""
        for worker in list(self.workers):
            # A worker that ends over it is replaced, like any other.
            with contextlib.suppress(OpsinError):
                await worker.load(model)

    def forget(self, needed: Container[str]) -> None:
        """Close the models whose digests are no longer needed."""
        for worker in self.workers:
            for key in [key for key in worker.loaded if key not in needed]:
                worker.drop(key)

    async def stop(self, *, at_once: bool = False) -> None:
        """End all of them: by themselves, or at once, whatever they are doing."""
        self._stopping = True
        if at_once:
            for worker in list(self.workers):
                worker.kill()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def kill_stuck(self, now: float, limit: float) -> None:
        """End those that have worked on one batch for longer than ``limit`` seconds."""
        for worker in list(self.workers):
            if worker.batches and now - worker.batches[0].since > limit:
                _LOG.warning("a worker did nothing for %.0f s and was ended", limit)
                worker.kill()

    def _lost(self, worker: WorkerProcess, batches: list[WorkerBatch]) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            if not self._stopping:
                self._died(batches)

    async def _keep(self, worker: WorkerProcess | None) -> None:
        """Keep one worker running, until cancelled."""
        failures = 0
        while True:
            try:
                if worker is None:
                    worker = WorkerProcess(self._answered, self._lost)
                    await worker.open()
                    for model in self._models():
                        await worker.load(model)
                    if not worker.gone.done():  # it may have ended just now
                        self.workers.append(worker)
                        failures = 0
                        self._free()
                await asyncio.shield(worker.gone)
            except (OpsinError, OSError) as error:
                failures += 1
                _LOG.warning("a worker could not be started: %s", error)
            finally:
                if worker is not None:
                    if not worker.gone.done() and worker not in self.workers:
                        worker.kill()
                    await worker.close()
            worker = None
            if failures:
                # A power beyond what a float can hold would end this after a night of failures.
                await asyncio.sleep(min(_LONGEST_PAUSE, _PAUSE * 2 ** min(failures, 16)))


def log_failure(task: asyncio.Task[None]) -> None:
    """Log what ended a task that should run for ever: nothing else would report it."""
    if not task.cancelled() and (error := task.exception()):
        _LOG.error("the server no longer looks after its workers and files", exc_info=error)


async def _loaded_by(loading: Coroutine[Any, Any, Header], model: ModelVersion) -> Header:
    """Wait for a model to be opened; a process that ends over it is the file's fault."""
    try:
        return await loading
    except WorkerDied as error:
        raise ModelFileError(
            "a classifier.onnx written by Opsin",
            f"the process that opened {model.path} ended over it",
            "Try it alone: opsin predict " + str(model.path) + " IMAGE",
        ) from error
