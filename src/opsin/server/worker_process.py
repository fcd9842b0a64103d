"""A worker process as the server sees it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from opsin.core.child_process import child_environment, error_from, module_command
from opsin.core.framing import Header, Unpacker, pack
from opsin.core.operating_system import stop_signals_blocked
from opsin.server.predict_requests import worker_died
from opsin.server.served_model import ModelVersion

# Seconds that loading a model may take before its worker is taken for stuck.
_LOADING: Final = 120.0
# Seconds that a worker has to end by itself once asked.
_ENDING: Final = 2.0


@dataclass(eq=False, slots=True)
class WorkerBatch:
    """What a worker was given and has not answered yet.

    Args:
        entries: The images, in the order in which they were sent.
        light: Whether the worker may be given the next batch before this one is answered.
        since: When the worker began with it.
    """

    entries: list[Any]
    light: bool
    since: float = 0.0


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
        self._answered = answered
        self._lost = lost
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
        """Start the process.

        Raises:
            OSError: The system has no room for another one.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(theirs)
            ours.setblocking(False)
            self._transport, _ = await loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
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
                future.set_exception(worker_died())
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
        """Have it open a model.

        Args:
            model: The model.
            trial_batch: The largest batch in which its answers are tried out; 0: that was done.

        Returns:
            ``metadata``, ``embedding`` (its length), ``device`` and ``batch_invariant``.

        Raises:
            OpsinError: The file is no classifier.
            WorkerDied: The process ended over it.
        """
        try:
            async with asyncio.timeout(_LOADING):
                header = await self._load(model, trial_batch=trial_batch)
        except TimeoutError:
            self.kill()
            raise worker_died() from None
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

    def is_stuck(self, now: float, limit: float) -> bool:
        """Tell whether it has worked on one thing for longer than anything may take."""
        return bool(self.batches) and now - self.batches[0].since > limit

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
        process, loop = self._process, asyncio.get_running_loop()
        if process is None:
            return
        end = loop.time() + _ENDING
        while process.poll() is None:
            if loop.time() > end:
                process.kill()
            await asyncio.sleep(0.005)

    def _load(self, model: ModelVersion, trial_batch: int) -> asyncio.Future[Header]:
        self.loaded.add(model.digest)
        future: asyncio.Future[Header] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        if self.gone.done():
            future.set_exception(worker_died())
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
