"""Images in, answers out, computed by worker processes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from opsin.core.child_process import Header, error_from
from opsin.core.errors import ImageError, OpsinError, RecipeError
from opsin.core.files import MISSING, file_stamp
from opsin.core.metadata import Metadata
from opsin.core.platform import CHILDREN_INHERIT, cores
from opsin.server.errors import (
    BadAnswer,
    Expired,
    NotBegun,
    Overloaded,
    Stopping,
    TooLarge,
    UnknownModel,
    WorkerDied,
)
from opsin.server.metrics import ServerMetrics
from opsin.server.models import ModelFile, ServedModel, training_shares
from opsin.server.settings import ServerSettings
from opsin.server.waiting import (
    BATCH_BYTES,
    ImageToAnswer,
    PendingRequest,
    PredictResult,
    QueueEntry,
    RequestQueue,
    Result,
)
from opsin.server.workers import Reply, WorkerPool, log_failure

# Seconds beyond the deadline after which a worker counts as stuck.
_GRACE: Final = 10.0
# Weight of the newest batch in the mean time per image.
_NEWEST: Final = 0.1
# Most images remembered from batches whose process died.
_SUSPECTS: Final = 256

_LOG: Final = logging.getLogger(__name__)


class Engine:
    """Answers images in worker processes.

    Nothing is decoded or computed in this process, which only hands images
    over and answers back. A free worker gets the waiting images at once, up to ``batch``
    images of a model; so batches grow with the load, and no image waits
    for a batch to fill. Model files are checked for changes every ``poll_seconds``.

    Example:
        A server's life: ``await engine.start()``, any number of ``await engine.predict(…)``
        at once, ``await engine.stop()``.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        settings: ServerSettings | None = None,
        *,
        metrics: ServerMetrics | None = None,
        poll_seconds: float = 1.0,
    ) -> None:
        self.settings = settings = settings or ServerSettings()
        self._paths, self._poll_seconds = dict(models), poll_seconds
        self._batch, self._deadline = settings.batch, settings.deadline
        self.metrics = metrics or ServerMetrics()
        #: The served models.
        self.served: dict[str, ServedModel] = {}
        self._queue = RequestQueue(settings.queue)
        self.metrics.images.set_function(lambda: self.waiting)
        self._requests: set[PendingRequest] = set()
        # Any image of a batch whose process died may be the cause: each is computed alone
        # until it has an answer.
        self._suspects: dict[bytes, None] = {}
        #: Number of images in workers.
        self.computing = 0
        self._pool = WorkerPool(
            settings.workers or cores(),
            lambda: [model.file for model in self.served.values()],
            self._dispatch,
            self.metrics.worker_died,
        )
        self._dispatching = self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        # Mean seconds per image; a guess until the first batch.
        self._pace = 0.01

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""
        return bool(self.served) and not self._stopping and bool(self._pool.workers)

    def model(self, name: str) -> ServedModel:
        """A model by name, or `UnknownModel`."""
        if name not in self.served:
            raise UnknownModel(f"There is no model {name[:80]!r}, only {', '.join(self.served)}")
        return self.served[name]

    @property
    def waiting(self) -> int:
        """The number of images waiting for a worker."""
        return len(self._queue)

    @property
    def pids(self) -> list[int]:
        """The process ids of the ready workers."""
        return [worker.pid for worker in self._pool.workers]

    async def start(self) -> None:
        """Start the workers and open the models."""
        if not CHILDREN_INHERIT:
            raise RecipeError("Windows cannot serve", "Serve from its Linux subsystem (WSL).")
        files = {
            name: await asyncio.to_thread(ModelFile.read, path, self.settings.device)
            for name, path in self._paths.items()
        }
        known = await self._pool.start(list(files.values()), trial_batch=self._batch)
        for (name, file), header in zip(files.items(), known, strict=True):
            self._serve(name, file, header)
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._maintain())]
        for task in self._tasks:
            task.add_done_callback(log_failure)

    async def stop(self, *, wait: bool = True) -> None:
        """Accept no more images, answer the accepted ones, and end the workers.

        Without ``wait``, accepted images get `Stopping`, too.
        """
        self._stopping = True
        while self._requests:
            if not wait:
                for request in self._requests:
                    request.fail(Stopping())
            await asyncio.wait([request.future for request in self._requests])
            await asyncio.sleep(0)  # `predict` continues and forgets them
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.stop(at_once=not wait)

    async def predict(
        self, model: str, images: Sequence[ImageToAnswer], *, deadline: float | None = None
    ) -> list[Result]:
        """Answer images; cancelling frees their places in the queue at once.

        Args:
            model: A name in `served`.
            images: Accepted all together or not at all.
            deadline: Seconds after which the answers are useless (at most the engine's own).

        Returns:
            The answers in order; an `ImageError` for an unreadable image,
            a `BadAnswer` for an unsound answer.

        Raises:
            UnknownModel: There is no such model.
            Stopping: The engine accepts no more images.
            TooLarge: The request is larger than the whole queue.
            Overloaded: The queue is full.
            Expired: The deadline passed.
            WorkerDied: The worker process died.
        """
        request = self._admit(model, images, deadline)
        if request.left:
            loop = asyncio.get_running_loop()
            timer = loop.call_at(request.until, lambda: request.fail(_expired(request)))
            self._requests.add(request)
            try:
                await request.future
            except Expired:
                self.metrics.refused("expired")
                raise
            finally:
                timer.cancel()
                self._requests.discard(request)
                for entry in request.entries:  # waiting entries free their places
                    self._queue.drop(entry)
        return cast("list[Result]", request.results)

    def _admit(
        self, name: str, images: Sequence[ImageToAnswer], deadline: float | None
    ) -> PendingRequest:
        """Queue a request's images, or raise."""
        model = self.model(name)
        if self._stopping:
            self.metrics.refused("stopping")
            raise Stopping
        now = asyncio.get_running_loop().time()
        seconds = self._deadline if deadline is None else min(deadline, self._deadline)
        request = PendingRequest(model, images, now, now + seconds)
        if seconds <= 0:
            self.metrics.refused("expired")
            raise _expired(request)
        for entry in request.entries if self._suspects else ():
            entry.alone |= _mark(entry.image) in self._suspects
        if len(request.entries) > self._queue.most:
            self.metrics.refused("too large")
            message = f"At most {self._queue.most:,} images may be in a request"
            raise TooLarge(message, "Split them into several requests.")
        if not self._queue.add(request.entries):
            # Images about to go to a free worker do not count as waiting.
            self._dispatch()
            if not self._queue.add(request.entries):
                raise self._overloaded()
        if not self._dispatching:
            # At the end of this event loop iteration, when all its requests are in.
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)
        return request

    def check_queue(self) -> None:
        """Raise `Overloaded` if the queue is full, before a request is read."""
        if self.waiting >= self._queue.most:
            raise self._overloaded()

    def _overloaded(self) -> Overloaded:
        self.metrics.refused("overloaded")
        ahead = self.waiting + self.computing
        seconds = math.ceil(ahead * self._pace / max(1, len(self._pool.workers)))
        seconds = min(max(1, seconds), math.ceil(self._deadline))
        message = f"The queue is full: {self.waiting:,} images wait already"
        return Overloaded(message, f"Try again in {seconds} s.", retry_after=seconds)

    def _dispatch(self) -> None:
        """Give waiting images to free workers."""
        self._dispatching = False
        while self.waiting:
            workers = [worker for worker in self._pool.workers if worker.alive]
            free = [worker for worker in workers if not worker.asked]
            # The next batch is queued behind the current one only if it could not grow
            # any more; until then, further images may join it.
            least = 1 if free else self._batch
            free = free or [w for w in workers if len(w.asked) == 1 and w.light]
            batch = self._queue.take(most=self._batch, among=len(free), least=least) if free else []
            if not batch:
                break
            light = not batch[0].alone and sum(entry.size for entry in batch) < BATCH_BYTES // 4
            self.computing += len(batch)
            # See `opsin.server.worker.answer`.
            images = [entry.image for entry in batch]
            parts = [image.content for image in images]
            header = {
                "max_pixels": self.settings.max_pixels,
                "images": [
                    (len(part), getattr(image.image, "shape", None), image.as_is, image.embedding,
                     image.explain)
                    for image, part in zip(images, parts, strict=True)
                ],
            }  # fmt: skip
            reply = free[0].answer(batch[0].request.model.file, header, parts, light=light)
            reply.add_done_callback(partial(self._deliver, batch))

    def _deliver(self, batch: list[QueueEntry], reply: asyncio.Future[Reply]) -> None:
        """Deliver a batch's answers to its requests, or fail them if the worker died."""
        self.computing -= len(batch)
        if error := reply.exception():
            for entry in () if isinstance(error, NotBegun) else batch:
                self._suspects[_mark(entry.image)] = None
            while len(self._suspects) > _SUSPECTS:
                del self._suspects[next(iter(self._suspects))]
            for request in {entry.request for entry in batch}:
                if not request.future.done():
                    self.metrics.refused("worker died")
                request.fail(WorkerDied())
            return
        header, body = reply.result()
        model = batch[0].request.model
        for entry, result in zip(batch, _results(model, batch, header, body), strict=True):
            request = entry.request
            if self._suspects:
                self._suspects.pop(_mark(entry.image), None)
            if not request.future.done():  # else the client left, or the deadline passed
                if isinstance(result, PredictResult):
                    label = model.metadata.classes[int(result.probabilities.argmax())]
                    self.metrics.answered(model.name, result, label)
                elif isinstance(result, ImageError):
                    self.metrics.unreadables.labels(model.name).inc()
            request.settle(entry.place, result)
        if not batch[0].alone:
            self._pace += _NEWEST * (header["seconds"] / len(batch) - self._pace)
        self.metrics.batch(model.name, len(batch))

    async def _maintain(self) -> None:
        """End stuck workers."""
        while True:
            await asyncio.sleep(1.0)
            now = asyncio.get_running_loop().time()
            self._pool.kill_stuck(now, self._deadline + _GRACE)

    async def _watch(self) -> None:
        """Reload models whose files change, until cancelled."""
        tried = {name: model.file.stamp for name, model in self.served.items()}
        seen = dict(tried)
        while True:
            await asyncio.sleep(self._poll_seconds)
            for name in self._paths:
                stamp = await asyncio.to_thread(file_stamp, self.served[name].file.path)
                if stamp == MISSING:  # missing: keep serving the old one
                    continue
                # Unchanged since the last check: the write seems complete.
                if stamp == seen[name] != tried[name]:
                    tried[name] = stamp
                    await self._replace(name)
                seen[name] = stamp

    async def _replace(self, name: str) -> None:
        """Load a model's new file and switch to it; a bad file changes nothing.

        Every worker loads it beside the old one before new requests get it; those that
        came before are answered by the old one.
        """
        old = self.served[name].file
        try:
            new = await asyncio.to_thread(ModelFile.read, old.path, self.settings.device)
            if new.digest == old.digest:
                return
            header = await self._pool.try_out(new, trial_batch=self._batch)
        except (OpsinError, OSError) as error:
            _LOG.warning("model %s: the old file stays in use: %s", name, error)
            self.metrics.reloaded(name, ok=False)
            return
        await self._pool.load(new)
        self._serve(name, new, header)
        # By then, all earlier requests are done.
        asyncio.get_running_loop().call_later(self._deadline, self._forget, old.digest)
        _LOG.info("model %s: the new file is in use", name)
        self.metrics.reloaded(name, ok=True)

    def _forget(self, digest: str) -> None:
        if all(model.digest != digest for model in self.served.values()):
            for worker in self._pool.workers:
                worker.drop(digest)

    def _serve(self, name: str, file: ModelFile, header: Header) -> None:
        metadata = Metadata.model_validate(header["metadata"])
        mix = training_shares(file.path, metadata)
        self.served[name] = ServedModel(name, file, metadata, header["embedding"], mix)


def _results(
    model: ServedModel, batch: Sequence[QueueEntry], header: Header, body: bytes
) -> list[Result]:
    """A worker's reply as the results of a batch's images."""
    values: dict[str, Any] = {}  # by row of the answered images
    start = 0
    for name, shape in header["arrays"].items():
        kind = np.bool_ if name == "rejected" else np.float32
        array = np.frombuffer(body, kind, math.prod(shape), start).reshape(shape)
        values[name] = array.tolist() if array.ndim == 1 else array
        start += array.nbytes
    heats = dict(zip(header["explained"], values.pop("heat", ()), strict=True))
    results: list[Result] = []
    row = 0
    for index, entry in enumerate(batch):
        if parts := header["errors"].get(str(index)):
            error = error_from(parts)
            if not isinstance(error, ImageError):  # for the server's owner only
                _LOG.error("model %s gave no sound answer: %s", model.name, error.message)
                error = BadAnswer(
                    f"The model {model.name} gives no sound answer to this image",
                    "Tell the server's administrator: the model's file may be damaged.",
                )
            results.append(error)
            continue
        answer = {name: array[row] for name, array in values.items()}
        if not entry.image.embedding:
            answer.pop("embedding", None)
        notes = tuple(header["notes"].get(str(index), ()))
        results.append(PredictResult(**answer, notes=notes, heat=heats.get(index)))
        row += 1
    return results


def _mark(image: ImageToAnswer) -> bytes:
    """A cheap fingerprint of an image, from its ends, for the event loop."""
    content = image.content
    return hashlib.sha256(content[:4096] + content[-4096:] + len(content).to_bytes(8)).digest()


def _expired(request: PendingRequest) -> Expired:
    seconds = request.until - request.came
    return Expired(
        f"The answer was not there within {seconds:.3g} s",
        "Ask for less at once, or when fewer others do.",
    )
