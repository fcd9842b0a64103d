"""Processes that ask classifiers and look inside them; their answers, and the images given."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import secrets
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from fastapi import FastAPI, Request, Response

from opsin.core import child_process
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ImageError, MovedError, OpsinError
from opsin.core.files import FileStamp, file_stamp
from opsin.core.format import file_size
from opsin.data.images import open_apart
from opsin.data.pixel_values import encode_png
from opsin.runtime.prediction import Prediction
from opsin.studio.child import Child, OnProgress
from opsin.studio.errors import NotThere, TooMany
from opsin.studio.people import visitor
from opsin.studio.runs.albums import ImagePlaces
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import IMAGES, ComputedOnce
from opsin.studio.words import safe
from opsin.web.refusals import BadRequest, json_reply

# Questions that need none of the run's images, and the most seconds that they may take.
_SHORT: Final = {"predict": 60.0, "where": 120.0}
# Most bytes of kept answers, each of which counts as so many at least; of kept images, of one of
# them, and of a camera's frame.
_ANSWERS, _LEAST = 96 << 20, 3 << 19
_IMAGES, _ONE, _FRAME = 96 << 20, 32 << 20, 1 << 20
# Most kept images; most frames of a visitor that wait, since a camera sends the next one after an
# answer; classes that an answer to a frame names.
_MOST, _FRAMES, _NAMED = 200, 2, 20
_NEVER_REUSED: Final = {"cache-control": "private, max-age=86400"}  # addresses of images
# Longest side of a shown image in pixels, and of a small one.
_SIDE, _SMALL = 1024, 320


class GivenImage(NamedTuple):
    """An image that somebody gave; the key is the same for the same image, ``""`` for frames."""

    key: str
    name: str
    content: bytes


class Answer(NamedTuple):
    """Values that depend on the question, and images, which they name by number."""

    address: str
    values: child_process.Header
    images: Sequence[bytes]

    def src(self, number: int) -> str:
        """The URL of an image."""
        return f"{self.address}/{number}.png"


class _Worker(Child):
    def __init__(self, run: RunDirectory, stamp: FileStamp, memory: int, idle: float) -> None:
        place = run.path.absolute()
        words = str(place), str(memory)
        super().__init__("opsin.commands.inspect_worker", *words, place=place, idle=idle)
        self.run, self.stamp = run, stamp

    def fits(self, run: RunDirectory, stamp: FileStamp) -> bool:
        return self.alive and (self.run.path, self.stamp) == (run.path, stamp)


class Workers:
    """A few processes, each with one classifier, and what they answered.

    There are ``most`` at most; one ends after so many seconds without work, and takes no more than
    ``memory`` bytes beyond its classifier's (0: any number).
    """

    def __init__(
        self,
        runs: RunIndex,
        places: ImagePlaces,
        *,
        most: int = 2,
        idle: float = 120.0,
        memory: int = 0,
    ) -> None:
        self._runs, self._places = runs, places
        self._most, self._seconds, self._memory = most, idle, memory
        self._idle: list[_Worker] = []  # the least recently used first
        self._busy: set[_Worker] = set()
        self._free = asyncio.Semaphore(most)
        self._answers = ComputedOnce[str, Answer](
            _ANSWERS, lambda answer: max(_LEAST, sum(map(len, answer.images)))
        )

    async def ask(
        self,
        run_id: str,
        do: str,
        given: GivenImage | None = None,
        *,
        on_progress: OnProgress = lambda *_: None,
        **options: str | int,
    ) -> Answer:
        """Answer a question, computing each only once; those about a frame are not kept.

        The work ends when one who waits for it is cancelled, and with it all who wait.
        """

        def identify() -> tuple[RunDirectory, FileStamp, str]:
            directory = self._runs.get(run_id)
            if do not in _SHORT:
                # The worker finds the run's images itself, and can do without them.
                with contextlib.suppress(MovedError):
                    self._places.check(directory)
            stamp, image = file_stamp(directory.classifier), given.key if given else ""
            asked = f"{directory.path}\0{stamp}\0{do}\0{image}\0{sorted(options.items())}"
            content = asked.encode("utf-8", "backslashreplace")
            return directory, stamp, hashlib.blake2s(content, digest_size=12).hexdigest()

        async def compute() -> Answer:
            content, named = (given.content, {"name": given.name}) if given else (b"", {})
            question = {"do": do, "with": options | named}
            async with self._free:
                header, body = await self._asked(directory, stamp, question, content, on_progress)
            ends = [0, *itertools.accumulate(header["images"])]
            images = [body[start:end] for start, end in itertools.pairwise(ends)]
            return Answer(f"/inside/{run_id}/{key}", header["said"], images)

        directory, stamp, key = await IMAGES.run(identify)
        if given is not None and not given.key:
            return await compute()
        try:
            return await self._answers.get(key, compute)
        except asyncio.CancelledError:
            await self._answers.cancel(key)
            raise

    async def _asked(
        self,
        run: RunDirectory,
        stamp: FileStamp,
        question: child_process.Header,
        content: bytes,
        tell: OnProgress,
    ) -> tuple[child_process.Header, bytes]:
        """What a worker of the run says, which works on nothing else meanwhile."""
        worker = next((one for one in self._idle if one.fits(run, stamp)), None)
        if worker is not None:
            self._idle.remove(worker)
        spare = self._idle.pop(0) if len(self._idle) + len(self._busy) >= self._most else None
        worker = worker or _Worker(run, stamp, self._memory, self._seconds)
        self._busy.add(worker)
        try:
            if spare is not None:
                await spare.end()
            async with asyncio.timeout(_SHORT.get(question["do"])):
                return await worker.ask(question, content, tell)
        except TimeoutError:
            raise OpsinError("This takes too long", "Try another photograph.") from None
        finally:
            self._busy.remove(worker)
            if worker.alive:
                self._idle.append(worker)
            else:
                await worker.end()

    def image(self, address: str, number: str) -> bytes | None:
        """Return an image of an answer that has an address."""
        answer = self._answers.kept(address.rpartition("/")[2])
        images = answer.images if answer and answer.address == address else ()
        return {str(i): image for i, image in enumerate(images)}.get(number)

    async def stop(self) -> None:
        """End all workers."""
        await self._answers.cancel()
        await asyncio.gather(*(worker.end() for worker in (*self._idle, *self._busy)))


class TriedImages:
    """Images chosen, dropped, pasted or photographed, and the answers to them."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._kept: OrderedDict[str, GivenImage] = OrderedDict()
        self._secret = secrets.token_bytes(16)
        self._frames = Counter[str]()  # that wait, by visitor

    def put(self, content: bytes, name: str) -> str:
        """Store an image and return its unguessable key, the same for the same image."""
        if len(content) > _ONE:
            raise ImageError(
                f"The photograph has {file_size(len(content))}, and {_ONE >> 20} MB are allowed",
                "Make it smaller, or put it into a folder and classify that.",
            )
        hashed = hashlib.blake2b(content, key=self._secret, digest_size=8)
        hashed.update(f"\0{name}".encode("utf-8", "replace"))
        key = hashed.hexdigest()
        self._kept[key] = GivenImage(key, name, content)
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST or sum(len(i.content) for i in self._kept.values()) > _IMAGES:
            self._kept.popitem(last=False)
        return key

    def get(self, key: str) -> GivenImage:
        """Return an image."""
        if key not in self._kept:
            raise NotThere("The photograph is not there any more", "Choose it again.")
        return self._kept[key]

    async def answer(self, run: str, image: str | GivenImage) -> Prediction:
        """The answer of a run's classifier to an image, or to the one of a key."""
        given = self.get(image) if isinstance(image, str) else image
        values = (await self.workers.ask(run, "predict", given)).values
        return Prediction(**values | {"notes": tuple(values["notes"])})

    async def where(self, run: str, key: str) -> Answer:
        """Which part of an image decides a run's answer: a heat map."""
        return await self.workers.ask(run, "where", self.get(key))

    async def live(self, run: str, frame: bytes) -> Prediction:
        """The answer to a camera's frame, which is not kept."""
        person = visitor.get().id
        if self._frames[person] >= _FRAMES:
            raise TooMany("Earlier photographs are not answered yet", "Close other cameras.")
        self._frames[person] += 1
        try:
            return await self.answer(run, GivenImage("", "the frame", frame))
        finally:
            self._frames[person] -= 1


async def png_for_pages(image: GivenImage, *, small: bool = False) -> Response:
    """An image as a PNG file, upright and scaled; it is opened in a sandbox."""
    side = _SMALL if small else _SIDE
    pixels, _ = await IMAGES.run(open_apart, image.content, image.name, side=side)
    content = await IMAGES.run(encode_png, pixels, compress_level=1)
    return Response(content, media_type="image/png", headers=_NEVER_REUSED)


def add_routes(api: FastAPI, workers: Workers, tried: TriedImages) -> None:
    """Add the routes for images, and answers to frames, by opaque names only."""

    @api.get("/inside/{run_id}/{key}/{number}.png")
    async def image(run_id: str, key: str, number: str) -> Response:
        address = f"/inside/{run_id}/{key}"
        content = workers.image(address, number) or tried.workers.image(address, number)
        if content is None:
            raise NotThere("This photograph is gone", "Load its page again.")
        return Response(content, media_type="image/png", headers=_NEVER_REUSED)

    @api.get("/kept/{key}.png")
    async def kept(key: str) -> Response:
        return await png_for_pages(tried.get(key))

    @api.post("/live/{run}")
    async def live(run: str, request: Request) -> Response:
        frame = bytearray()
        async for piece in request.stream():
            frame += piece
            if len(frame) > _FRAME:
                raise BadRequest("The frame is too large", "Load the page again.")
        answer = await tried.live(run, bytes(frame))
        best = {name for name, _ in answer.top(_NAMED)}
        shares = [(safe(name, 60), p) for name, p in answer.probabilities.items() if name in best]
        warning = answer.warning and "Nothing to recognise"
        return json_reply({"shares": shares, "rejected": answer.rejected, "warning": warning})
