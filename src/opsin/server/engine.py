"""Images in, answers out, computed by worker processes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, cast

from opsin.core.defaults import cores
from opsin.core.errors import ImageError, RecipeError
from opsin.core.format import counted, file_size
from opsin.core.framing import Header
from opsin.core.operating_system import CHILDREN_INHERIT
from opsin.server.crash_quarantine import CrashQuarantine, QuarantineVerdict
from opsin.server.model_registry import ModelRegistry
from opsin.server.observer import SILENT_OBSERVER, Load, Observer
from opsin.server.pending_request import PendingRequest, pack_batch, unpack_reply
from opsin.server.predict_requests import (
    Expired,
    ImageToAnswer,
    Overloaded,
    PredictResult,
    Result,
    Stopping,
    TooLarge,
    unknown_model,
    worker_died,
)
from opsin.server.request_queue import BATCH_BYTES, QueueEntry, RequestQueue
from opsin.server.served_model import ModelVersion, ServedModel
from opsin.server.server_settings import ServerSettings
from opsin.server.worker_pool import WorkerPool, log_failure
from opsin.server.worker_process import WorkerBatch, WorkerProcess

#: Bytes of images that may wait.
QUEUE_BYTES: Final = 256_000_000
# Seconds beyond the deadline after which a worker is taken for stuck.
_GRACE: Final = 10.0
# How much the newest batch counts in the mean time an image takes.
_NEWEST: Final = 0.1


class Engine:
    """Answers images in worker processes, as many at once as the machine can.

    Nothing is decoded or computed in the process that it lives in: that one only hands images
    over and answers back. A worker that is free is given what waits at once, up to ``batch``
    images of a model; so batches grow by themselves where there is much to do, and no image waits
    for a batch to fill.

    Args:
        models: Names and where they lie: classifiers, or run directories.
        workers: Processes (default: one for each core that this process may use).
        device: Where they compute: see `opsin.Classifier`.
        queue: Images that wait, at most.
        batch: Images that are computed together, at most.
        deadline: Seconds after which an answer is of no use any more.
        max_pixels: Pixels of the largest image that is decoded.
        observer: Its hooks are called with what happens.
        poll_seconds: Seconds between two looks whether a model's file has changed.

    Example:
        A server's life: ``await engine.start()``, any number of ``await engine.predict(…)``
        at once, ``await engine.stop()``.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        *,
        workers: int | None = None,
        device: str = ServerSettings.device,
        queue: int = ServerSettings.queue,
        batch: int = ServerSettings.batch,
        deadline: float = ServerSettings.deadline,
        max_pixels: int = ServerSettings.max_pixels,
        observer: Observer = SILENT_OBSERVER,
        poll_seconds: float = 1.0,
    ) -> None:
        self._batch = batch
        self._deadline = deadline
        self._max_pixels = max_pixels
        self._observer = observer
        self._registry = ModelRegistry(
            models, batch=batch, device=device, observer=observer, poll_seconds=poll_seconds
        )
        self._quarantine = CrashQuarantine()
        self._queue: RequestQueue[ModelVersion, PendingRequest] = RequestQueue(queue, QUEUE_BYTES)
        self._computing = 0
        self._explaining = 0
        self._pool = WorkerPool(
            workers or cores(),
            lambda: list(self._registry.models.values()),
            self._answered,
            self._died,
            self._dispatch_soon,
        )
        self._dispatching = False
        self._stopping = False
        self._idle = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # Mean seconds of a worker for an image; until the first batch, a guess.
        self._pace = 0.01

    @property
    def served(self) -> Mapping[str, ServedModel]:
        """The models in service.

        Look a model up just before `ask`, with no ``await`` between them: then both speak of the
        same one, even where its file is replaced in the meantime.
        """
        return self._registry.served

    @property
    def ready(self) -> bool:
        """Whether asking makes sense now."""
        return bool(self._registry.served) and not self._stopping and bool(self._pool.workers)

    @property
    def load(self) -> Load:
        """How busy it is."""
        return Load(
            waiting=self._queue.images,
            computing=self._computing,
            workers=len(self._pool.workers),
            queue=self._queue.most_images,
        )

    @property
    def pids(self) -> list[int]:
        """The process numbers of the workers that are ready."""
        return [worker.pid for worker in self._pool.workers]

    async def start(self) -> None:
        """Start the workers and open the models.

        Raises:
            OpsinError: A model cannot be opened.
        """
        if not CHILDREN_INHERIT:
            raise RecipeError(
                "Linux or macOS", "this is Windows", "Serve from its Linux subsystem (WSL)."
            )
        await self._registry.open(self._pool)
        self._tasks = [
            asyncio.create_task(self._registry.watch(self._pool)),
            asyncio.create_task(self._maintain()),
        ]
        for task in self._tasks:
            task.add_done_callback(log_failure)

    async def stop(self, *, wait: bool = True) -> None:
        """Take no more images, answer those that were taken, and end the workers.

        Args:
            wait: Whether those that were taken are answered; else they get `Stopping`, too.
        """
        self._stopping = True
        if not wait:
            given = [batch.entries for worker in self._pool.workers for batch in worker.batches]
            for entry in chain(self._queue, *given):
                entry.request.fail(_stopping())
        while wait and (self._queue.images or self._computing):
            self._idle.clear()
            await self._idle.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.stop(at_once=not wait)

    async def predict(
        self,
        model: str,
        images: Sequence[ImageToAnswer],
        *,
        deadline: float | None = None,
        again: bool = False,
    ) -> list[Result]:
        """Answer images.

        A cancelled task frees the places of its images at once.

        Args:
            model: A name among `served`.
            images: All of them are taken, or none.
            deadline: Seconds after which the answers are of no use (at most the engine's own).
            again: Whether the caller asks again where there is no room: the observer then hears
                of no refusal.

        Returns:
            The answers in order; an `ImageError` in place of the answer to an unreadable image,
            a `BadAnswer` where the model's is none.

        Raises:
            UnknownModel: There is no such model.
            Stopping: The engine takes no more images.
            TooLarge: The request is larger than the whole queue.
            Overloaded: There is no room now.
            Expired: The deadline passed.
            WorkerDied: The process that worked on it ended.
        """
        request = self._admit(model, images, deadline, again=again)
        loop = asyncio.get_running_loop()
        timer = loop.call_at(request.until, lambda: request.fail(_expired(request)))
        try:
            if request.left:
                await request.future
        except Expired:
            self._observer.refused("expired")
            raise
        finally:
            timer.cancel()
            request.model.asked -= 1
            if request.left:
                self._abandon(request)
        return cast("list[Result]", request.results)

    def _admit(
        self,
        name: str,
        images: Sequence[ImageToAnswer],
        deadline: float | None,
        *,
        again: bool = False,
    ) -> PendingRequest:
        """Queue a request's images, or raise why not."""
        model = self._registry.models.get(name)
        if model is None:
            raise unknown_model(name, self._registry.models)
        if self._stopping:
            self._observer.refused("stopping")
            raise _stopping()
        now = asyncio.get_running_loop().time()
        seconds = self._deadline if deadline is None else min(deadline, self._deadline)
        request = PendingRequest(model, images, now, now + seconds)
        if seconds <= 0:
            self._observer.refused("expired")
            raise _expired(request)
        for entry in list(request.entries) if self._quarantine else ():
            match self._quarantine.verdict(request.content(entry.place)):
                case QuarantineVerdict.ALONE:
                    entry.alone = True
                case QuarantineVerdict.REFUSED:
                    request.refuse(entry)
        self._enqueue(request, again=again)
        model.asked += 1
        return request

    def _enqueue(self, request: PendingRequest, *, again: bool) -> None:
        queue, entries = self._queue, request.entries
        size = sum(entry.size for entry in entries)
        if len(entries) > queue.most_images or size > queue.most_bytes:
            self._observer.refused("too large")
            raise TooLarge(
                f"at most {queue.most_images:,} images and "
                f"{queue.most_bytes // 1_000_000} MB in a request",
                f"got {counted(len(entries), 'image')} of {file_size(size)}",
                "Split them into several requests.",
            )
        if not queue.add(entries):
            # Images that a free worker is about to get do not count as waiting.
            self._dispatch()
            if not queue.add(entries):
                if not again:
                    self._observer.refused("overloaded")
                raise self._overloaded()
        self._observer.waiting(queue.images)
        self._dispatch_soon()

    def check_queue(self) -> None:
        """Turn a request away before any of it is read, where the queue is full.

        Raises:
            Overloaded: Not one more image fits.
        """
        if self._queue.images >= self._queue.most_images:
            self._observer.refused("overloaded")
            raise self._overloaded()

    def _overloaded(self) -> Overloaded:
        ahead = self._queue.images + self._computing
        seconds = math.ceil(ahead * self._pace / max(1, len(self._pool.workers)))
        seconds = min(max(1, seconds), math.ceil(self._deadline))
        return Overloaded(
            "room in the queue",
            f"{self._queue.images:,} images wait already",
            f"Try again in {seconds} s.",
            retry_after=seconds,
        )

    def _abandon(self, request: PendingRequest) -> None:
        """Free the places of those that wait; what a worker has is computed in vain."""
        for entry in request.entries:
            self._queue.drop(entry)
        self._observer.waiting(self._queue.images)
        self._signal_idle()

    def _dispatch_soon(self) -> None:
        """Dispatch at the end of this turn of the event loop, when all of its requests are in."""
        if not self._dispatching:
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Give free workers what waits."""
        self._dispatching = False
        now = asyncio.get_running_loop().time()
        before = self._queue.images
        while self._queue.images:
            workers = [worker for worker in self._pool.workers if worker.alive]
            free = [worker for worker in workers if not worker.batches]
            # The next batch lies ready behind the present one only where it could not grow
            # any more; until then, further images may still join it.
            least = 1 if free else self._batch
            free = free or [w for w in workers if len(w.batches) == 1 and w.batches[0].light]
            if not free:
                break
            # One worker is kept from images that take long, so that others get through.
            alone = least == 1 and self._explaining < max(1, len(workers) - 1)
            entries = self._queue.take(
                now, most=self._batch, among=len(free), least=least, alone=alone
            )
            if not entries:
                break
            self._hand_over(free[0], entries)
        if self._queue.images != before:
            self._observer.waiting(self._queue.images)

    def _hand_over(
        self, worker: WorkerProcess, entries: list[QueueEntry[ModelVersion, PendingRequest]]
    ) -> None:
        header, parts = pack_batch(entries, max_pixels=self._max_pixels)
        alone = entries[0].alone
        light = not alone and sum(entry.size for entry in entries) < BATCH_BYTES // 4
        self._computing += len(entries)
        self._explaining += alone
        worker.send(entries[0].model, WorkerBatch(entries, light), header, parts)

    def _done(self, batch: WorkerBatch) -> None:
        self._computing -= len(batch.entries)
        self._explaining -= batch.entries[0].alone

    def _signal_idle(self) -> None:
        if not self._queue.images and not self._computing:
            self._idle.set()

    def _answered(self, batch: WorkerBatch, header: Header, body: bytes) -> None:
        """Deliver a worker's answers, after giving it its next batch."""
        self._done(batch)
        if self._queue.images:
            self._dispatch()
        observer, now = self._observer, asyncio.get_running_loop().time()
        served = cast("ServedModel", batch.entries[0].model.served)
        count, classes = len(batch.entries), served.metadata.classes
        for entry, result, best in unpack_reply(batch.entries, header, body):
            request = entry.request
            if self._quarantine:
                self._quarantine.clear(request.content(entry.place))
            if request.future.done():
                pass  # the client has gone, or the deadline has passed
            elif isinstance(result, PredictResult):
                observer.answered(served.name, result, classes[best], now - request.came)
            elif isinstance(result, ImageError):
                observer.unreadable(served.name)
            request.settle(entry.place, result)
        seconds = header["seconds"]
        if not batch.entries[0].alone:
            self._pace += _NEWEST * (seconds / count - self._pace)
        observer.batch(served.name, count, seconds)
        self._signal_idle()

    def _died(self, batches: list[WorkerBatch]) -> None:
        """Fail the requests whose images a worker had when it ended."""
        self._observer.worker_died()
        for entry in batches[0].entries if batches else ():
            self._quarantine.blame(entry.request.content(entry.place), alone=entry.alone)
        for batch in batches:
            self._done(batch)
            for request in {entry.request for entry in batch.entries}:
                if not request.future.done():
                    self._observer.refused("worker died")
                request.fail(worker_died())
        self._signal_idle()

    async def _maintain(self) -> None:
        """End stuck workers, close models that no request needs, and keep a spare worker."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            self._pool.kill_stuck(loop.time(), self._deadline + _GRACE)
            self._pool.forget(self._registry.needed())
            await self._pool.keep_spare()


def _stopping() -> Stopping:
    return Stopping("a server that runs", "this one is being stopped", "Ask again in a moment.")


def _expired(request: PendingRequest) -> Expired:
    return Expired(
        f"an answer within {request.until - request.came:.3g} s",
        "that time has passed",
        "Ask for less at once, or when fewer others do.",
    )
