"""The process that decodes and computes.

It is started as ``python -m opsin.server.worker`` with its socket as standard input, and ends when
the other side closes, so that no worker outlives its server. Its only state is the models.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from opsin.core.child_process import Header, error_values, pack, receive
from opsin.core.errors import ImageError, ModelFileError, OpsinError
from opsin.core.events import Watcher
from opsin.core.platform import lower_priority, prefer_as_oom_victim
from opsin.data.images import PreparedImage, read_header
from opsin.data.network_pixels import has_no_contrast
from opsin.inspection.occlusion import fill_of, occlusion_map, training_mean
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Answers
from opsin.runtime.providers import CPU

_LOG: Final = logging.getLogger(__name__)
# Most seconds for trying out batches; slower networks gain nothing by batching.
_TRIAL: Final = 3.0


@dataclass
class LoadedModel:
    """A classifier in a worker."""

    classifier: Classifier
    batch_invariant: bool = True

    @cached_property
    def _mean(self) -> NDArray[np.float64] | None:
        return training_mean(self.classifier)

    def heat(self, pixels: NDArray[np.uint8], answers: Answers) -> NDArray[np.float32]:
        """The occlusion map of an image's answer, ``float32[H, W]``."""
        target, fill = int(answers.probabilities[0].argmax()), fill_of(pixels, self._mean)
        return occlusion_map(self.classifier.probabilities, pixels, target, fill)

    def answers(
        self, images: NDArray[np.uint8], *, embedding: bool
    ) -> tuple[Answers | None, list[ModelFileError | None]]:
        """The sound answers, each bit-identical to that of the image alone, and each's fault."""
        if self.batch_invariant or len(images) == 1:
            try:
                return self.classifier.answers(images, embedding=embedding), [None] * len(images)
            except ModelFileError as error:
                if len(images) == 1:
                    return None, [error]
        # One bad image must not spoil the others.
        alone = [self.answers(image[None], embedding=embedding) for image in images]
        parts = [answers for answers, _ in alone if answers]
        return _joined(parts) if parts else None, [fault for _, (fault,) in alone]


def _joined(parts: Sequence[Answers]) -> Answers:
    def of(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    return Answers(of("probabilities"), of("ood_score"), of("embedding"))


def load(content: bytes, header: Header) -> tuple[LoadedModel, Header]:
    """Load a classifier from its file's content and describe it, or raise `OpsinError`."""
    classifier = Classifier.of_content(
        Path(header["path"]),
        content,
        most=header["max_batch"],
        threads=1,
        device=header["device"],
        watcher=_Log(),
    )
    preparation = classifier.metadata.preparation
    blank = np.zeros((1, *preparation.shape), np.uint8)
    first = classifier.answers(blank, embedding=True)
    invariant = header["batch_invariant"]
    if classifier.device != CPU:  # bit-identity is promised on the CPU only
        invariant = True
    elif invariant is None:
        invariant = batch_invariant(classifier, header["batch"])
    return LoadedModel(classifier, invariant), {
        "metadata": classifier.metadata.model_dump(mode="json"),
        "device": classifier.device,
        "embedding": 0 if first.embedding is None else first.embedding.shape[1],
        "batch_invariant": invariant,
    }


class _Log(Watcher):
    """Writes notes to the server's log."""

    def note(self, text: str) -> None:
        _LOG.warning("%s", text)


def batch_invariant(classifier: Classifier, batch: int) -> bool:
    """Whether answers are bit-identical in batches of any size, of noise; no if time runs out."""
    # Different routines may multiply matrices of one row and of several.
    preparation = classifier.metadata.preparation
    shape = (batch, *preparation.shape)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    end = time.monotonic() + _TRIAL
    alone = _joined([classifier.answers(images[i : i + 1], embedding=True) for i in range(batch)])
    for size in range(2, batch + 1):
        if time.monotonic() > end:
            return False
        together = classifier.answers(images[:size], embedding=True)
        for name in ("probabilities", "ood_score", "embedding"):
            value, other = getattr(together, name), getattr(alone, name)
            if value is not None and value.tobytes() != other[:size].tobytes():
                return False
    return True


def size_of(image: bytes) -> tuple[int, int]:
    """An image's width and height from its header, or `ImageError`.

    The two common formats are read in a tenth of the time. A file that states its size twice may
    deceive this, but not the decoder, which has a limit of its own.
    """
    if image[:8] == b"\x89PNG\r\n\x1a\n" and image[12:16] == b"IHDR" and len(image) >= 24:
        return int.from_bytes(image[16:20]), int.from_bytes(image[20:24])
    if image[:2] == b"\xff\xd8":
        with contextlib.suppress(ValueError):
            height, width, *_ = simplejpeg.decode_jpeg_header(image)
            return width, height
    height, width, _ = read_header(image, "image")
    return width, height


def prepare(
    classifier: Classifier,
    content: memoryview,
    pixels: str | None,
    *,
    as_is: bool,
    max_pixels: int,
) -> PreparedImage:
    """Prepare an image: decode its file, or take pixels of the right type and shape as they are."""
    target = classifier.metadata.preparation
    shape = [*target.shape]
    if pixels == f"uint8{shape}":
        return PreparedImage("image", np.frombuffer(content, np.uint8).reshape(shape))
    if pixels is not None:
        raise ImageError(
            f"The image is {pixels}, not uint8{shape}",
            "Send the image's file instead, or prepare it as the model states.",
        )
    image = bytes(content)
    width, height = size_of(image)
    if height * width > max_pixels:
        raise ImageError(
            f"The image has {width:,} × {height:,} pixels, and {max_pixels:,} are allowed",
            "Make it smaller first.",
        )
    try:
        return classifier.prepare(image, "image", as_is=as_is)
    except ImageError:
        raise
    except Exception as error:  # a decoder's error must not end the worker
        raise ImageError(
            f"image: damaged ({type(error).__name__})",
            "Save it again with another program, or leave it out.",
        ) from error


def answer(model: LoadedModel, header: Header, body: bytes) -> tuple[Header, list[bytes]]:
    """Answer a batch.

    Args:
        model: The classifier.
        header: ``max_pixels``: of the largest image. ``images``: for each its bytes, the type
            and shape of prepared pixels, and whether the background stays as it is, the
            embedding is wanted, the heat map is wanted (of an image that is alone in its batch).
        body: The images, concatenated.

    Returns:
        The header of the reply, with the notes or the error of each image, and the arrays that it
        names by their shapes: ``probabilities`` float32[M, K] of the M images without an error,
        ``ood_score`` float32[M], ``embedding`` float32[M, D] if any image wants it, ``heat``
        float32[M, H, W].
    """
    start = 0
    ready: dict[int, NDArray[np.uint8]] = {}
    outcomes: list[Header] = []
    images = header["images"]
    for index, (size, media_type, as_is, *_) in enumerate(images):
        content = memoryview(body)[start : start + size]
        start += size
        try:
            image = prepare(
                model.classifier, content, media_type, as_is=as_is, max_pixels=header["max_pixels"]
            )
        except ImageError as error:
            outcomes.append({"error": error_values(error)})
        else:
            ready[index] = image.pixels
            outcomes.append({"notes": image.notes})
    arrays: dict[str, NDArray[np.float32] | None] = {}
    if ready:
        pixels = np.stack(list(ready.values()))
        embedding = any(images[index][3] for index in ready)
        answers, faults = model.answers(pixels, embedding=embedding)
        for index, fault in zip(ready, faults, strict=True):
            if fault:
                outcomes[index] = {"error": error_values(fault)}
        if answers:
            arrays = {
                "probabilities": answers.probabilities,
                "ood_score": answers.ood_score,
                "embedding": answers.embedding,
            }
            explain = images[0][4] and not has_no_contrast(pixels[0])
            with contextlib.suppress(ModelFileError):  # no answer, so no heat map
                arrays["heat"] = model.heat(pixels[0], answers)[None] if explain else None
    known = {name: array for name, array in arrays.items() if array is not None}
    reply = {"outcomes": outcomes, "arrays": {name: a.shape for name, a in known.items()}}
    return reply, [array.tobytes() for array in known.values()]


def main() -> None:
    """Execute the commands of the socket that is standard input until its other side closes."""
    prefer_as_oom_victim()  # a worker can be replaced, the server cannot
    # The server has priority: it must always be able to refuse requests.
    lower_priority()
    # Warnings about clients' images would fill the log; answers carry them.
    warnings.simplefilter("ignore")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    connection = socket.socket(fileno=0)
    frames: queue.SimpleQueue[tuple[Header, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, frames), daemon=True).start()
    models: dict[str, LoadedModel] = {}
    while True:
        header, body = frames.get()
        parts: list[bytes] = []
        match header["do"]:
            case "load":
                try:
                    models[header["key"]], reply = load(body, header)
                except OpsinError as error:
                    reply = {"error": error_values(error)}
            case "drop":
                models.pop(header["key"], None)
                continue
            case _:
                reply, parts = answer(models[header["key"]], header, body)
        connection.sendall(b"".join(pack(reply, parts)))


def _receive(connection: socket.socket, frames: queue.SimpleQueue[tuple[Header, bytes]]) -> None:
    """Fetch the next frame while one is computed; exit when the connection closes."""
    stream = connection.makefile("rb")
    while True:
        try:
            frame = receive(stream)
        except OSError:
            frame = None
        if frame is None:
            # At once, even while computing: the server is gone.
            os._exit(0)
        frames.put(frame)


if __name__ == "__main__":
    main()
