"""A request on its way through the engine."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError
from opsin.core.framing import Header
from opsin.core.metadata import Preparation
from opsin.server.predict_requests import BadAnswer, PredictRequest, PredictResult, Result
from opsin.server.request_queue import Waiter
from opsin.server.served_model import ModelVersion

_LOG = logging.getLogger(__name__)


class Request:
    """Pictures that were asked for together, and their answers so far.

    Args:
        model: The model, as it was when the request came: whatever happens to its file, all the
            answers come from the same one.
        asks: The pictures.
        now: When it came.
        deadline: When nobody waits for the answers any more.
    """

    def __init__(
        self, model: ModelVersion, asks: Sequence[PredictRequest], now: float, deadline: float
    ) -> None:
        self.model = model
        self.asks = asks
        self.came = now
        self.until = deadline
        self.results: list[Result | None] = [None] * len(asks)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters: list[Waiter[ModelVersion, Request]] = []
        served = model.served
        assert served is not None
        like = served.metadata.preparation
        for place, ask in enumerate(asks):
            size = ask.image.nbytes if isinstance(ask.image, np.ndarray) else len(ask.image)
            wrong = _mismatch(ask.image, like) if isinstance(ask.image, np.ndarray) else None
            if wrong:
                self.results[place] = wrong
                continue
            self.waiters.append(Waiter(model, size, deadline, self, place, ask.explain))
        self.left = len(self.waiters)

    def image(self, place: int) -> bytes:
        """Return a picture as it was sent."""
        image = self.asks[place].image
        return image.tobytes() if isinstance(image, np.ndarray) else image

    def refuse(self, waiter: Waiter[ModelVersion, Request]) -> None:
        """Let a picture not even wait."""
        self.waiters.remove(waiter)
        error = ImageError(
            "a readable picture",
            "the program that reads pictures ended over this one",
            "Open it in a viewer and save it again, or leave it out.",
        )
        self.settle(waiter.place, error)

    def settle(self, place: int, result: Result) -> None:
        """Take note of the answer to one picture; the last one ends the request."""
        self.results[place] = result
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the request without answers."""
        if not self.future.done():
            self.future.set_exception(error)


def _mismatch(pixels: NDArray[np.uint8], like: Preparation) -> ImageError | None:
    shape = (like.height, like.width, like.channels)
    if pixels.shape == shape and pixels.dtype == np.uint8:
        return None
    return ImageError(
        f"prepared pixels uint8{list(shape)}",
        f"the picture is {pixels.dtype}{list(pixels.shape)}",
        "Send the picture's file instead, or prepare it as the model states.",
    )


def to_bytes(
    waiters: Sequence[Waiter[ModelVersion, Request]], *, most: int
) -> tuple[Header, list[bytes]]:
    """Put the pictures of a batch as a worker takes them (see `opsin.server.worker.answer`).

    Args:
        waiters: The pictures.
        most: Pixels of the largest picture that is decoded.
    """
    pictures, parts = [], []
    for waiter in waiters:
        ask = waiter.of.asks[waiter.place]
        shape, content = None, ask.image
        if isinstance(content, np.ndarray):
            shape, content = content.shape, content.tobytes()
        pictures.append((len(content), shape, ask.as_is, ask.embedding, ask.explain))
        parts.append(content)
    return {"most": most, "pictures": pictures}, parts


def _error(waiter: Waiter[ModelVersion, Request], kind: str, *parts: str) -> ImageError | BadAnswer:
    """Return the error that a worker reports, without what only its owner may read."""
    if kind == "ImageError":
        return ImageError(*parts)
    served = waiter.model.served
    assert served is not None
    _LOG.error("model %s gave no sound answer: %s", served.name, parts[1])
    return BadAnswer(
        "a sound answer",
        f"the model {served.name} gives none to this image",
        "Tell whoever runs the server: the model's file may be damaged.",
    )


def to_results(
    waiters: Sequence[Waiter[ModelVersion, Request]], header: Header, body: bytes
) -> Iterator[tuple[Waiter[ModelVersion, Request], Result, int]]:
    """Yield each picture of a batch with its answer and the place of the best class."""
    errors, notes = header["errors"], header["notes"]
    count, classes = header["shape"]
    start = 0

    def floats(*shape: int) -> NDArray[np.float32]:
        nonlocal start
        values = np.frombuffer(body, np.float32, math.prod(shape), start).reshape(shape)
        start += values.nbytes
        return values

    probabilities = floats(count, classes)
    familiarity = floats(count).tolist() if header.get("familiarity") else None
    embedding = floats(count, header["embedding"]) if header.get("embedding") else None
    heats = {row: floats(height, width) for row, height, width in header["heat"]}
    rejected = body[start : start + count]
    best = probabilities.argmax(axis=1).tolist() if count else []
    row = 0
    for place, waiter in enumerate(waiters):
        error = errors.get(str(place)) if errors else None
        if error:
            yield waiter, _error(waiter, *error), 0
            continue
        wanted = waiter.of.asks[waiter.place].embedding
        yield (
            waiter,
            PredictResult(
                probabilities=probabilities[row],
                familiarity=None if familiarity is None else familiarity[row],
                rejected=bool(rejected[row]),
                notes=tuple(notes.get(str(place), ())),
                embedding=embedding[row] if wanted and embedding is not None else None,
                heat=heats.get(row),
            ),
            best[row],
        )
        row += 1
