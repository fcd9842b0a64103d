"""Images in, answers out, computed by worker processes."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, cast

from opsin.core.child_process import Header
from opsin.core.errors import ImageError, RecipeError
from opsin.core.format import counted, file_size
from opsin.core.platform import CHILDREN_INHERIT, cores
from opsin.server.errors import Expired, Overloaded, Stopping, TooLarge, UnknownModel, WorkerDied
from opsin.server.metrics import ServerMetrics
from opsin.server.models import ServedModel
from opsin.server.registry import ModelRegistry
from opsin.server.settings import MAX_PIXELS
from opsin.server.waiting import (
    BATCH_BYTES,
    ImageToAnswer,
    PendingRequest,
    PredictResult,
    RequestQueue,
    Result,
    pack_batch,
    unpack_reply,
)
from opsin.server.workers import WorkerBatch, WorkerPool, log_failure

#: Bytes of images that may wait.
QUEUE_BYTES: Final = 256_000_000
# Seconds beyond the deadline after which a worker is taken for stuck.
_GRACE: Final = 10.0
# How much the newest batch counts in the mean time an image takes.
_NEWEST: Final = 0.1
# Images that are remembered since a process died with them; the oldest are forgotten first.
_SUSPECTS: Final = 256


class Engine:
    """Answers images in worker processes, as many at once as the machine can.

    Nothing is decoded or computed in the process that it lives in: that one only hands images
    over and answers back. A worker that is free is given what waits at once, up to ``batch``
    images of a model; so batches grow by themselves where there is much to do, and no image waits
    for a batch to fill. The arguments are those of `ServerSettings`; whether a model's file has
    changed is looked for every ``poll_seconds``.

    Example:
        A server's life: ``await engine.start()``, any number of ``await engine.predict(…)``
        at once, ``await engine.stop()``.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        *,
        workers: int | None = None,
        device: str = "auto",
        queue: int = 256,
        batch: int = 16,
        deadline: float = 30.0,
        max_pixels: int = MAX_PIXELS,
        metrics: ServerMetrics | None = None,
        poll_seconds: float = 1.0,
    ) -> None:
        self._batch, self._deadline, self._max_pixels = batch, deadline, max_pixels
        self.metrics = metrics or ServerMetrics()
        self._registry = ModelRegistry(
            models, batch=batch, device=device, metrics=self.metrics, poll_seconds=poll_seconds
        )
        self._queue = RequestQueue(queue, QUEUE_BYTES)
        # Any image of a batch whose process died may be why: each is computed alone from then on,
        # until it has an answer.
        self._suspects: OrderedDict[bytes, None] = OrderedDict()
        self.computing = 0
        self._pool = WorkerPool(
            workers or cores(),
            lambda: list(self._registry.models.values()),
            self._answered,
            self._died,
            self._dispatch_soon,
        )
        self._dispatching = self._stopping = False
        self._idle = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # Mean seconds of a worker for an image; until the first batch, a guess.
        self._pace = 0.01

    @property
    def served(self) -> Mapping[str, ServedModel]:
        """The models in service."""
        return self._registry.served

    @property
    def ready(self) -> bool:
        """Whether asking makes sense now."""
        return bool(self._registry.served) and not self._stopping and bool(self._pool.workers)

    @property
    def waiting(self) -> int:
        """Images that wait for a worker."""
        return self._queue.images

    @property
    def pids(self) -> list[int]:
        """The process numbers of the workers that are ready."""
        return [worker.pid for worker in self._pool.workers]

    async def start(self) -> None:
        """Start the workers and open the models."""
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

        Without ``wait``, those that were taken get `Stopping`, too.
        """
        self._stopping = True
        if not wait:
            given = [batch.entries for worker in self._pool.workers for batch in worker.batches]
            for entry in chain(self._queue, *given):
                entry.request.fail(Stopping())
        while wait and (self.waiting or self.computing):
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
        """Answer images; a cancelled task frees the places of its images at once.

        Args:
            model: A name among `served`.
            images: All of them are taken, or none.
            deadline: Seconds after which the answers are of no use (at most the engine's own).
            again: Whether the caller asks again where there is no room, which is no refusal then.

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
            self.metrics.refused("expired")
            raise
        finally:
            timer.cancel()
            request.model.asked -= 1
            if request.left:  # free the places of those that wait
                for entry in request.entries:
                    self._queue.drop(entry)
                self.metrics.waiting(self.waiting)
                self._signal_idle()
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
            raise UnknownModel.named(name, self._registry.models)
        if self._stopping:
            self.metrics.refused("stopping")
            raise Stopping
        now = asyncio.get_running_loop().time()
        seconds = self._deadline if deadline is None else min(deadline, self._deadline)
        request = PendingRequest(model, images, now, now + seconds)
        if seconds <= 0:
            self.metrics.refused("expired")
            raise _expired(request)
        if self._suspects:
            for entry in request.entries:
                entry.alone |= _mark(images[entry.place]) in self._suspects
        queue, entries = self._queue, request.entries
        size = sum(entry.size for entry in entries)
        if len(entries) > queue.most_images or size > queue.most_bytes:
            self.metrics.refused("too large")
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
                    self.metrics.refused("overloaded")
                raise self._overloaded()
        self.metrics.waiting(self.waiting)
        self._dispatch_soon()
        model.asked += 1
        return request

    def check_queue(self) -> None:
        """Turn a request away before any of it is read, where the queue is full: `Overloaded`."""
        if self.waiting >= self._queue.most_images:
            self.metrics.refused("overloaded")
            raise self._overloaded()

    def _overloaded(self) -> Overloaded:
        ahead = self.waiting + self.computing
        seconds = math.ceil(ahead * self._pace / max(1, len(self._pool.workers)))
        seconds = min(max(1, seconds), math.ceil(self._deadline))
        return Overloaded(
            "room in the queue",
            f"{self.waiting:,} images wait already",
            f"Try again in {seconds} s.",
            retry_after=seconds,
        )

    def _dispatch_soon(self) -> None:
        """Dispatch at the end of this turn of the event loop, when all of its requests are in."""
        if not self._dispatching:
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Give free workers what waits."""
        self._dispatching = False
        before = self.waiting
        while self.waiting:
            workers = [worker for worker in self._pool.workers if worker.alive]
            free = [worker for worker in workers if not worker.batches]
            # The next batch lies ready behind the present one only where it could not grow
            # any more; until then, further images may still join it.
            least = 1 if free else self._batch
            free = free or [w for w in workers if len(w.batches) == 1 and w.batches[0].light]
            if not free:
                break
            entries = self._queue.take(most=self._batch, among=len(free), least=least)
            if not entries:
                break
            header, parts = pack_batch(entries, max_pixels=self._max_pixels)
            size = sum(entry.size for entry in entries)
            light = not entries[0].alone and size < BATCH_BYTES // 4
            self.computing += len(entries)
            free[0].send(entries[0].request.model, WorkerBatch(entries, light), header, parts)
        if self.waiting != before:
            self.metrics.waiting(self.waiting)

    def _signal_idle(self) -> None:
        if not self.waiting and not self.computing:
            self._idle.set()

    def _answered(self, batch: WorkerBatch, header: Header, body: bytes) -> None:
        """Deliver a worker's answers, after giving it its next batch."""
        self.computing -= len(batch.entries)
        if self.waiting:
            self._dispatch()
        now = asyncio.get_running_loop().time()
        served = cast("ServedModel", batch.entries[0].request.model.served)
        count, classes = len(batch.entries), served.metadata.classes
        for entry, result, best in unpack_reply(batch.entries, header, body):
            request = entry.request
            if self._suspects:
                self._suspects.pop(_mark(request.images[entry.place]), None)
            if request.future.done():
                pass  # the client has gone, or the deadline has passed
            elif isinstance(result, PredictResult):
                self.metrics.answered(served.name, result, classes[best], now - request.came)
            elif isinstance(result, ImageError):
                self.metrics.unreadable(served.name)
            request.settle(entry.place, result)
        seconds = header["seconds"]
        if not batch.entries[0].alone:
            self._pace += _NEWEST * (seconds / count - self._pace)
        self.metrics.batch(served.name, count, seconds)
        self._signal_idle()

    def _died(self, batches: list[WorkerBatch]) -> None:
        """Fail the requests whose images a worker had when it ended."""
        self.metrics.worker_died()
        for entry in batches[0].entries if batches else ():
            self._suspects[_mark(entry.request.images[entry.place])] = None
        while len(self._suspects) > _SUSPECTS:
            self._suspects.popitem(last=False)
        for batch in batches:
            self.computing -= len(batch.entries)
            for request in {entry.request for entry in batch.entries}:
                if not request.future.done():
                    self.metrics.refused("worker died")
                request.fail(WorkerDied())
        self._signal_idle()

    async def _maintain(self) -> None:
        """End stuck workers, and close models that no request needs."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            self._pool.kill_stuck(loop.time(), self._deadline + _GRACE)
            self._pool.forget(self._registry.needed())


def _mark(image: ImageToAnswer) -> bytes:
    """What an image is known again by: this is done on the event loop, so by its ends."""
    content = image.content
    return hashlib.sha256(content[:4096] + content[-4096:] + len(content).to_bytes(8)).digest()


def _expired(request: PendingRequest) -> Expired:
    return Expired(
        f"an answer within {request.until - request.came:.3g} s",
        "that time has passed",
        "Ask for less at once, or when fewer others do.",
    )
