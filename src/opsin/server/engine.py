"""Pictures in, answers out, computed by worker processes."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, cast

from opsin.core.defaults import cores
from opsin.core.errors import ImageError, RecipeError
from opsin.core.framing import Header
from opsin.server.crash_quarantine import CrashQuarantine, QuarantineVerdict
from opsin.server.model_registry import ModelRegistry
from opsin.server.observer import SILENT_OBSERVER, Load, Observer
from opsin.server.predict_requests import (
    Expired,
    Overloaded,
    PredictRequest,
    PredictResult,
    Result,
    Stopping,
    TooLarge,
    UnknownModel,
    WorkerDied,
)
from opsin.server.request import Request, to_bytes, to_results
from opsin.server.request_queue import BATCH_BYTES, RequestQueue, Waiter
from opsin.server.served_model import ModelVersion, Served
from opsin.server.server_settings import MAX_PIXELS
from opsin.server.worker_pool import WorkerPool, tell_why
from opsin.server.worker_process import WorkerBatch, WorkerProcess

__all__ = [
    "Engine",
    "Expired",
    "Load",
    "Overloaded",
    "PredictRequest",
    "PredictResult",
    "Stopping",
    "TooLarge",
    "UnknownModel",
    "WorkerDied",
]  # fmt: skip

#: Bytes of pictures that may wait.
QUEUE_BYTES: Final = 256_000_000
# Seconds beyond the deadline after which a worker is taken for stuck.
_GRACE: Final = 10.0
# How much the newest batch counts in the mean time a picture takes.
_NEWEST: Final = 0.1


class Engine:
    """Answers pictures in worker processes, as many at once as the machine can.

    Nothing is decoded or computed in the process that it lives in: that one only hands pictures
    over and answers back. A worker that is free is given what waits at once, up to ``batch``
    pictures of a model; so batches grow by themselves where there is much to do, and nobody waits
    for a batch to fill.

    Args:
        models: Names and where they lie: classifiers, or run directories.
        workers: Processes (default: one for each core that this process may use).
        queue: Pictures that wait, at most.
        batch: Pictures that are computed together, at most.
        deadline: Seconds after which an answer is of no use any more.
        max_pixels: Pixels of the largest picture that is decoded.
        observer: Is told what happens.
        look_every: Seconds between two looks whether a model's file has changed.

    Example:
        A server's life: ``await engine.start()``, any number of ``await engine.ask(…)`` at once,
        ``await engine.stop()``.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        *,
        workers: int | None = None,
        queue: int = 256,
        batch: int = 16,
        deadline: float = 30.0,
        max_pixels: int = MAX_PIXELS,
        observer: Observer = SILENT_OBSERVER,
        look_every: float = 1.0,
    ) -> None:
        self._batch = batch
        self._deadline = deadline
        self._max_pixels = max_pixels
        self._observer = observer
        self._shelf = ModelRegistry(models, batch=batch, observer=observer, look_every=look_every)
        self._suspects = CrashQuarantine()
        self._waiting: RequestQueue[ModelVersion, Request] = RequestQueue(queue, QUEUE_BYTES)
        self._computing = 0
        self._explaining = 0
        self._crew = WorkerPool(
            workers or cores(),
            lambda: list(self._shelf.models.values()),
            self._answered,
            self._died,
            self._pump_soon,
        )
        self._pumping = False
        self._stopping = False
        self._idle = asyncio.Event()
        self._chores: list[asyncio.Task[None]] = []
        # Mean seconds of a worker for a picture; until the first batch, a guess.
        self._pace = 0.01

    @property
    def served(self) -> Mapping[str, Served]:
        """The models in service.

        Look a model up just before `ask`, with no ``await`` between them: then both speak of the
        same one, even where its file is replaced in the meantime.
        """
        return self._shelf.served

    @property
    def ready(self) -> bool:
        """Whether asking makes sense now."""
        return bool(self._shelf.served) and not self._stopping and bool(self._crew.workers)

    @property
    def load(self) -> Load:
        """How busy it is."""
        return Load(
            waiting=self._waiting.pictures,
            computing=self._computing,
            workers=len(self._crew.workers),
            queue=self._waiting.most_pictures,
        )

    @property
    def pids(self) -> list[int]:
        """The process numbers of the workers that are ready."""
        return [worker.pid for worker in self._crew.workers]

    async def start(self) -> None:
        """Start the workers and open the models.

        Raises:
            OpsinError: A model cannot be opened.
        """
        if os.name == "nt":  # a process cannot be handed a socket there as it is here
            raise RecipeError(
                "Linux or macOS", "this is Windows", "Serve from its Linux subsystem (WSL)."
            )
        await self._shelf.open(self._crew)
        self._chores = [
            asyncio.create_task(self._shelf.watch(self._crew)),
            asyncio.create_task(self._look_after()),
        ]
        for chore in self._chores:
            chore.add_done_callback(tell_why)

    async def stop(self, *, wait: bool = True) -> None:
        """Take no more pictures, answer those that were taken, and end the workers.

        Args:
            wait: Whether those that were taken are answered; else they get `Stopping`, too.
        """
        self._stopping = True
        if not wait:
            given = [batch.waiters for worker in self._crew.workers for batch in worker.batches]
            for waiter in chain(self._waiting, *given):
                waiter.of.fail(_stopping())
        while wait and (self._waiting.pictures or self._computing):
            self._idle.clear()
            await self._idle.wait()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self._crew.stop(at_once=not wait)

    async def ask(
        self, model: str, asks: Sequence[PredictRequest], *, deadline: float | None = None
    ) -> list[Result]:
        """Answer pictures.

        Whoever gives up waiting (a cancelled task) frees the pictures' places at once.

        Args:
            model: A name among `served`.
            asks: The pictures; all of them are taken, or none.
            deadline: Seconds after which the answers are of no use (at most the engine's own).

        Returns:
            The answers in order; an `ImageError` in place of the answer to an unreadable picture,
            a `BadAnswer` where the model's is none.

        Raises:
            UnknownModel: There is no such model.
            Stopping: The engine takes no more pictures.
            TooLarge: The request is larger than the whole queue.
            Overloaded: There is no room now.
            Expired: The deadline passed.
            WorkerDied: The process that worked on it ended.
        """
        request = self._admit(model, asks, deadline)
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

    def _admit(self, name: str, asks: Sequence[PredictRequest], deadline: float | None) -> Request:
        """Let a request's pictures wait, or say why not."""
        model = self._shelf.models.get(name)
        if model is None:
            raise UnknownModel(
                f"a model among {', '.join(self._shelf.models)}",
                f"got {name!r}",
                "Choose one of them.",
            )
        if self._stopping:
            self._observer.refused("stopping")
            raise _stopping()
        now = asyncio.get_running_loop().time()
        seconds = self._deadline if deadline is None else min(deadline, self._deadline)
        request = Request(model, asks, now, now + seconds)
        if seconds <= 0:
            self._observer.refused("expired")
            raise _expired(request)
        for waiter in list(request.waiters) if self._suspects else ():
            match self._suspects.verdict(request.image(waiter.place)):
                case QuarantineVerdict.ALONE:
                    waiter.alone = True
                case QuarantineVerdict.REFUSED:
                    request.refuse(waiter)
        self._line_up(request)
        model.asked += 1
        return request

    def _line_up(self, request: Request) -> None:
        waiting, waiters = self._waiting, request.waiters
        size = sum(waiter.size for waiter in waiters)
        if len(waiters) > waiting.most_pictures or size > waiting.most_bytes:
            self._observer.refused("too large")
            raise TooLarge(
                f"at most {waiting.most_pictures:,} pictures and "
                f"{waiting.most_bytes // 1_000_000} MB in a request",
                f"got {len(waiters):,} pictures of {size / 1e6:.1f} MB",
                "Split them into several requests.",
            )
        if not waiting.add(waiters):
            # Those that a free worker is about to be given do not really wait.
            self._pump()
            if not waiting.add(waiters):
                self._observer.refused("overloaded")
                raise self._overloaded()
        self._observer.waiting(waiting.pictures)
        self._pump_soon()

    def check_room(self) -> None:
        """Turn a request away before any of it is read, where the queue is full.

        Raises:
            Overloaded: Not one more picture fits.
        """
        if self._waiting.pictures >= self._waiting.most_pictures:
            self._observer.refused("overloaded")
            raise self._overloaded()

    def _overloaded(self) -> Overloaded:
        ahead = self._waiting.pictures + self._computing
        seconds = math.ceil(ahead * self._pace / max(1, len(self._crew.workers)))
        seconds = min(max(1, seconds), math.ceil(self._deadline))
        return Overloaded(
            "room in the queue",
            f"{self._waiting.pictures:,} pictures wait already",
            f"Try again in {seconds} s.",
            retry_after=seconds,
        )

    def _abandon(self, request: Request) -> None:
        """Free the places of those that wait; what a worker has is computed for nobody."""
        for waiter in request.waiters:
            self._waiting.drop(waiter)
        self._observer.waiting(self._waiting.pictures)
        self._rest()

    def _pump_soon(self) -> None:
        """Hand out work once everybody who comes in this turn of the loop has come."""
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Hand out work while there is some, and somebody to do it."""
        self._pumping = False
        now = asyncio.get_running_loop().time()
        before = self._waiting.pictures
        while self._waiting.pictures:
            workers = [worker for worker in self._crew.workers if worker.alive]
            free = [worker for worker in workers if not worker.batches]
            # The next batch lies ready behind the present one only where it could not grow
            # any more; meanwhile, whoever waits may still be joined by others.
            least = 1 if free else self._batch
            free = free or [w for w in workers if len(w.batches) == 1 and w.batches[0].light]
            if not free:
                break
            # One worker is kept from pictures that take long, so that others get through.
            alone = least == 1 and self._explaining < max(1, len(workers) - 1)
            waiters = self._waiting.take(
                now, most=self._batch, among=len(free), least=least, alone=alone
            )
            if not waiters:
                break
            self._hand_over(free[0], waiters)
        if self._waiting.pictures != before:
            self._observer.waiting(self._waiting.pictures)

    def _hand_over(
        self, worker: WorkerProcess, waiters: list[Waiter[ModelVersion, Request]]
    ) -> None:
        header, parts = to_bytes(waiters, most=self._max_pixels)
        alone = waiters[0].alone
        light = not alone and sum(waiter.size for waiter in waiters) < BATCH_BYTES // 4
        self._computing += len(waiters)
        self._explaining += alone
        worker.send(waiters[0].model, WorkerBatch(waiters, light), header, parts)

    def _done(self, batch: WorkerBatch) -> None:
        self._computing -= len(batch.waiters)
        self._explaining -= batch.waiters[0].alone

    def _rest(self) -> None:
        if not self._waiting.pictures and not self._computing:
            self._idle.set()

    def _answered(self, batch: WorkerBatch, header: Header, body: bytes) -> None:
        """Give out a worker's answers, and give it the next work before that."""
        self._done(batch)
        if self._waiting.pictures:
            self._pump()
        observer, now = self._observer, asyncio.get_running_loop().time()
        served = cast("Served", batch.waiters[0].model.served)
        count, classes = len(batch.waiters), served.metadata.classes
        for waiter, result, best in to_results(batch.waiters, header, body):
            request = waiter.of
            if self._suspects:
                self._suspects.clear(request.image(waiter.place))
            if request.future.done():
                pass  # nobody waits for it any more
            elif isinstance(result, PredictResult):
                observer.answered(served.name, result, classes[best], now - request.came)
            elif isinstance(result, ImageError):
                observer.unreadable(served.name)
            request.settle(waiter.place, result)
        seconds = header["seconds"]
        if not batch.waiters[0].alone:
            self._pace += _NEWEST * (seconds / count - self._pace)
        observer.batch(served.name, count, seconds)
        self._rest()

    def _died(self, batches: list[WorkerBatch]) -> None:
        """Tell those whose pictures a worker took with it."""
        self._observer.worker_died()
        for waiter in batches[0].waiters if batches else ():
            self._suspects.blame(waiter.of.image(waiter.place), alone=waiter.alone)
        for batch in batches:
            self._done(batch)
            for request in {waiter.of for waiter in batch.waiters}:
                if not request.future.done():
                    self._observer.refused("worker died")
                request.fail(
                    WorkerDied(
                        "an answer",
                        "the process that computed it ended",
                        "Another one takes its place: try again.",
                    )
                )
        self._rest()

    async def _look_after(self) -> None:
        """End workers that are stuck, and have models forgotten that nobody asks any more."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            self._crew.kill_stuck(loop.time(), self._deadline + _GRACE)
            self._crew.forget(self._shelf.needed())
            await self._crew.keep_spare()


def _stopping() -> Stopping:
    return Stopping("a server that runs", "this one is being stopped", "Ask again in a moment.")


def _expired(request: Request) -> Expired:
    return Expired(
        f"an answer within {request.until - request.came:.3g} s",
        "that time has passed",
        "Ask for less at once, or when fewer others do.",
    )
