"""Images in, answers out, computed by worker processes."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.child_process import Header, error_from
from opsin.core.errors import ImageError, OpsinError, RecipeError
from opsin.core.files import MISSING, file_stamp
from opsin.core.metadata import Metadata
from opsin.core.platform import CHILDREN_INHERIT
from opsin.runtime.prediction import NONE_OF_THESE
from opsin.server import ServerSettings
from opsin.server.errors import (
    BadAnswer,
    Expired,
    Overloaded,
    Stopping,
    TooLarge,
    UnknownModel,
    WorkerDied,
)
from opsin.server.metrics import ServerMetrics
from opsin.server.models import ModelFile, ServedModel, training_shares
from opsin.server.workers import Reply, WorkerPool, fail, log_failure

#: Most bytes of a batch, unless a single image is larger: decoding
#: time grows with size, and later images wait for the whole batch.
BATCH_BYTES: Final = 4_000_000
# Most images remembered from batches whose process died.
_SUSPECTS: Final = 256

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageToAnswer:
    """An image to classify: a file's content, or prepared pixels ``uint8[H, W, C]``."""

    image: bytes | NDArray[np.uint8] = field(repr=False)
    as_is: bool = False  # leave the background as it is
    embedding: bool = False  # also return the last layer's features
    explain: bool = False  # also return the heat map; computed alone

    @property
    def content(self) -> bytes:
        """What a worker gets of it; pixels are copied."""
        return self.image if isinstance(self.image, bytes) else self.image.tobytes()

    @property
    def size(self) -> int:
        """The number of bytes of its content."""
        return len(self.image) if isinstance(self.image, bytes) else self.image.nbytes

    @property
    def pixels(self) -> str | None:
        """The type and shape of prepared pixels, such as ``uint8[8, 8, 1]``."""
        image = self.image
        return None if isinstance(image, bytes) else f"{image.dtype}{list(image.shape)}"


@dataclass(frozen=True)
class PredictResult:
    """The answer to one image."""

    probabilities: NDArray[np.float32] = field(repr=False)  # float32[K], in the file's order
    ood_score: float | None = None  # 0 (like the training images) to 2; None if unknown
    rejected: bool | None = None  # whether it is "none of these"; None without a threshold
    notes: tuple[str, ...] = ()  # preparation beyond decoding and resizing
    # float32[D] and float32[H, W], if requested.
    embedding: NDArray[np.float32] | None = field(repr=False, default=None)
    heat: NDArray[np.float32] | None = field(repr=False, default=None)


#: The outcome for one image.
Result = PredictResult | ImageError | BadAnswer


@dataclass(eq=False, slots=True)
class Entry:
    """An accepted image, and its result to come."""

    model: ServedModel  # as it was when the image came, even if its file changes
    image: ImageToAnswer
    alone: bool  # whether it gets its own batch
    result: asyncio.Future[Result]


Queue = OrderedDict[Entry, None]  # for fast removal from the middle


def next_batch(waiting: Queue, most: int, *, among: int = 1, least: int = 1) -> list[Entry]:
    """Take a batch from a queue: images of the model that has waited longest, if enough wait.

    ``among`` so many free workers, the waiting images are shared out evenly.
    """
    if not waiting:
        return []
    model = next(iter(waiting)).model
    candidates = list(islice((entry for entry in waiting if entry.model is model), most * among))
    batch: list[Entry] = []
    size = 0
    if len(candidates) >= least:
        for entry in candidates[: -(-len(candidates) // among)]:
            size += entry.image.size
            if batch and (size > BATCH_BYTES or entry.alone or batch[0].alone):
                break
            batch.append(entry)
    for entry in batch:
        del waiting[entry]
    return batch


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
        self.settings = settings or ServerSettings()
        self.metrics = metrics or ServerMetrics()
        self.metrics.images.set_function(lambda: self.waiting)
        #: The served models.
        self.served: dict[str, ServedModel] = {}
        self._paths, self._poll_seconds = dict(models), poll_seconds
        self._queue: Queue = OrderedDict()
        self._open: set[Entry] = set()  # accepted and not yet answered
        # Any image of a batch whose process died may be the cause: each is computed alone
        # until it has an answer.
        self._suspects: dict[object, None] = {}
        self._pool = WorkerPool(
            self.settings,
            lambda: [model.file for model in self.served.values()],
            self._dispatch,
            self.metrics.worker_died,
        )
        self._dispatching = self._stopping = False
        self._watcher: asyncio.Task[None] | None = None

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

    async def start(self) -> None:
        """Start the workers and open the models."""
        if not CHILDREN_INHERIT:
            raise RecipeError("Windows cannot serve", "Serve from its Linux subsystem (WSL).")
        files = [await self._read(path) for path in self._paths.values()]
        known = await self._pool.start(files)
        for name, file, header in zip(self._paths, files, known, strict=True):
            self._serve(name, file, header)
        self._watcher = asyncio.create_task(self._watch())
        self._watcher.add_done_callback(log_failure)

    async def stop(self, *, wait: bool = True) -> None:
        """Accept no more images, answer accepted ones (or refuse them), and end the workers."""
        self._stopping = True
        for entry in () if wait else self._open:
            fail(entry.result, Stopping())
        while self._open:
            await asyncio.sleep(0.01)
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
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
        served = self.model(model)
        if self._stopping:
            self.metrics.refused("stopping")
            raise Stopping
        longest = self.settings.deadline
        seconds = longest if deadline is None else min(deadline, longest)
        entries: list[Entry] = []
        try:
            if seconds <= 0:
                raise TimeoutError
            async with asyncio.timeout(seconds):
                entries = self._admit(served, images)
                return [await entry.result for entry in entries]
        except TimeoutError:
            self.metrics.refused("expired")
            raise Expired(
                f"The answer was not there within {seconds:.3g} s",
                "Ask for less at once, or when fewer others do.",
            ) from None
        except WorkerDied:
            self.metrics.refused("worker died")
            raise
        finally:
            for entry in entries:
                self._queue.pop(entry, None)  # those that wait free their places
                self._open.discard(entry)
                entry.result.cancel()

    def _admit(self, model: ServedModel, images: Sequence[ImageToAnswer]) -> list[Entry]:
        """Queue a request's images, or raise."""
        most = self.settings.queue
        if len(images) > most:
            self.metrics.refused("too large")
            message = f"At most {most:,} images may be in a request"
            raise TooLarge(message, "Split them into several requests.")
        loop = asyncio.get_running_loop()
        if self.waiting + len(images) > most:
            self._dispatch()  # images about to go to a free worker do not count as waiting
        self.check_queue(len(images))
        entries = []
        for image in images:
            alone = image.explain or (bool(self._suspects) and _mark(image) in self._suspects)
            entries.append(Entry(model, image, alone, loop.create_future()))
        self._queue.update(dict.fromkeys(entries))
        self._open.update(entries)
        if not self._dispatching:
            # At the end of this event loop iteration, when all its requests are in.
            self._dispatching = True
            loop.call_soon(self._dispatch)
        return entries

    def check_queue(self, images: int = 1) -> None:
        """Raise `Overloaded` if the queue has no room, before a request is read."""
        if self.waiting + images > self.settings.queue:
            self.metrics.refused("overloaded")
            message = f"The queue is full: {self.waiting:,} images wait already"
            raise Overloaded(message, "Try again in a moment.")

    def _dispatch(self) -> None:
        """Give waiting images to free workers."""
        self._dispatching = False
        most = self.settings.batch
        while self._queue:
            workers = [worker for worker in self._pool.workers if worker.alive]
            free = [worker for worker in workers if not worker.pending]
            # The next batch is queued behind the current one only if it could not grow
            # any more; until then, further images may join it.
            least = 1 if free else most
            free = free or [w for w in workers if len(w.pending) == 1 and w.light]
            batch = next_batch(self._queue, most, among=len(free), least=least) if free else []
            if not batch:
                break
            asked = [entry.image for entry in batch]
            parts = [image.content for image in asked]
            images = [(i.size, i.pixels, i.as_is, i.embedding, i.explain) for i in asked]
            # See `opsin.server.worker.answer`.
            header = {"max_pixels": self.settings.max_pixels, "images": images}
            reply = free[0].answer(batch[0].model.file, header, parts)
            free[0].light = not batch[0].alone and sum(map(len, parts)) < BATCH_BYTES // 4
            reply.add_done_callback(partial(self._deliver, batch))

    def _deliver(self, batch: list[Entry], reply: asyncio.Future[Reply]) -> None:
        """Deliver a batch's answers to its requests, or fail them if the worker died."""
        if reply.exception():
            for entry in batch:
                self._suspects[_mark(entry.image)] = None
                fail(entry.result, WorkerDied())
            while len(self._suspects) > _SUSPECTS:
                del self._suspects[next(iter(self._suspects))]
            return
        model = batch[0].model
        for entry, result in zip(batch, _results(model, batch, *reply.result()), strict=True):
            if self._suspects:
                self._suspects.pop(_mark(entry.image), None)
            if entry.result.done():  # the client left, or the deadline passed
                continue
            entry.result.set_result(result)
            if isinstance(result, PredictResult):
                row = int(result.probabilities.argmax())
                label = NONE_OF_THESE if result.rejected else model.metadata.classes[row]
                self.metrics.answered(model.name, label, float(result.probabilities[row]))
            elif isinstance(result, ImageError):
                self.metrics.unreadables.labels(model.name).inc()
        self.metrics.batch(model.name, len(batch))

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
        """Load a model's new file in every worker, then switch to it; a bad one changes nothing."""
        old = self.served[name].file
        try:
            new = await self._read(old.path)
            if new.digest == old.digest:
                return
            header = await self._pool.replace(new)
        except (OpsinError, OSError) as error:
            _LOG.warning("model %s: the old file stays in use: %s", name, error)
            self.metrics.reloaded(name, ok=False)
            return
        self._serve(name, new, header)
        # By then, all earlier requests are done.
        asyncio.get_running_loop().call_later(self.settings.deadline, self._forget, old.digest)
        _LOG.info("model %s: the new file is in use", name)
        self.metrics.reloaded(name, ok=True)

    def _forget(self, digest: str) -> None:
        if all(model.file.digest != digest for model in self.served.values()):
            for worker in self._pool.workers:
                worker.drop(digest)

    async def _read(self, path: Path) -> ModelFile:
        return await asyncio.to_thread(ModelFile.read, path, self.settings.device)

    def _serve(self, name: str, file: ModelFile, header: Header) -> None:
        metadata = Metadata.model_validate(header["metadata"])
        mix = training_shares(file.path, metadata)
        self.served[name] = ServedModel(name, file, metadata, header["embedding"], mix)


def _results(
    model: ServedModel, batch: Sequence[Entry], header: Header, body: bytes
) -> list[Result]:
    """A worker's reply as the results of a batch's images."""
    arrays: dict[str, Any] = {}  # by row of the answered images
    reject, start = model.metadata.reject, 0
    for name, shape in header["arrays"].items():
        array = np.frombuffer(body, np.float32, math.prod(shape), start).reshape(shape)
        arrays[name] = array.tolist() if array.ndim == 1 else array
        if name == "ood_score" and reject is not None:
            arrays["rejected"] = (array > reject.max_ood_score).tolist()
        start += array.nbytes
    results, row = list[Result](), 0
    for entry, outcome in zip(batch, header["outcomes"], strict=True):
        if "error" not in outcome:
            values = {name: array[row] for name, array in arrays.items()}
            if not entry.image.embedding:
                values.pop("embedding", None)
            results.append(PredictResult(**values, notes=tuple(outcome["notes"])))
            row += 1
            continue
        error = error_from(outcome["error"])
        if not isinstance(error, ImageError):  # for the server's owner only
            _LOG.error("model %s gave no sound answer: %s", model.name, error.message)
            error = BadAnswer(
                f"The model {model.name} gives no sound answer to this image",
                "Tell the server's administrator: the model's file may be damaged.",
            )
        results.append(error)
    return results


def _mark(image: ImageToAnswer) -> object:
    """A short fingerprint of an image, from its ends."""
    content = image.content
    return content[:4096], content[-4096:], len(content)
