"""Keeps a fixed number of worker processes running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Container, Coroutine, Sequence
from typing import Any, Final

from opsin.core.errors import ModelFileError, OpsinError
from opsin.core.framing import Header
from opsin.server.predict_requests import WorkerDied
from opsin.server.served_model import ModelVersion
from opsin.server.worker_process import WorkerBatch, WorkerProcess

_LOG: Final = logging.getLogger(__name__)
# Seconds to wait before a worker is started that did not even come up: doubled each time.
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

Answered = Callable[[WorkerBatch, Header, bytes], None]


class WorkerPool:
    """Keeps a fixed number of worker processes running.

    Args:
        size: How many.
        models: Returns the models that a worker opens before it counts.
        answered: Called with a batch, the reply's header and its body.
        died: Called with the batches that a worker left unanswered.
        free: Called when there is a worker with nothing to do.
    """

    def __init__(
        self,
        size: int,
        models: Callable[[], Sequence[ModelVersion]],
        answered: Answered,
        died: Callable[[list[WorkerBatch]], None],
        free: Callable[[], None],
    ) -> None:
        self.size = size
        #: Those that are ready.
        self.workers: list[WorkerProcess] = []
        self._models = models
        self._answered = answered
        self._died = died
        self._free = free
        self._keepers: list[asyncio.Task[None]] = []
        self._spare: WorkerProcess | None = None
        self._stopping = False

    async def start(self, models: Sequence[ModelVersion], *, trial_batch: int) -> list[Header]:
        """Start all of them.

        Args:
            models: What they open; the first worker tries each one out.
            trial_batch: The largest batch that it tries.

        Returns:
            What `WorkerProcess.load` returns for each model.

        Raises:
            OpsinError: A model cannot be opened.
        """
        opened = [WorkerProcess(self._answered, self._lost) for _ in range(self.size)]
        try:
            # Another one would only find the same fault, so the first one has its say before.
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
        """Open a model that `check_model` has let in, in a process of its own.

        It tries batches of all sizes, which takes up to 3 s, and no worker stops for that.

        Raises:
            OpsinError: It cannot be opened.
        """
        scout = WorkerProcess(self._answered, lambda _worker, _batches: None)
        try:
            await scout.open()
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
        """Close the models whose keys are no longer needed."""
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
        if self._spare:
            self._spare.kill()
            await self._spare.close()

    async def keep_spare(self) -> None:
        """Keep a started process ready to replace the next one that ends.

        Starting one takes most of a second on a busy machine; opening a model, little.
        """
        spare = self._spare
        if len(self.workers) < self.size or (spare and not spare.gone.done()):
            return
        if spare:
            await spare.close()
        self._spare = None
        with contextlib.suppress(OSError):  # no room for it: then without
            self._spare = await self._opened()

    async def _opened(self) -> WorkerProcess:
        worker = WorkerProcess(self._answered, self._lost)
        try:
            await worker.open()
        except BaseException:  # cancelled half-way, too: no process may be left
            worker.kill()
            await worker.close()
            raise
        return worker

    async def _next(self) -> WorkerProcess:
        """Return a process without models: the spare one where there is one."""
        spare, self._spare = self._spare, None
        if spare and not spare.gone.done():
            return spare
        if spare:
            await spare.close()
        return await self._opened()

    def kill_stuck(self, now: float, limit: float) -> None:
        """End those that have worked on one batch for longer than ``limit`` seconds."""
        for worker in list(self.workers):
            if worker.is_stuck(now, limit):
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
                    worker = await self._next()
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
