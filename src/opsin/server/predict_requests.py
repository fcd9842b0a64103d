"""What the engine takes and returns, and its errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError, OpsinError


@dataclass(frozen=True)
class ImageToAnswer:
    """One image to be answered.

    Args:
        image: An image file's content, or prepared pixels ``uint8[H, W, C]`` of exactly the
            shape that the model states.
        as_is: Leave the background as it is (see `Classifier.prepare`).
        embedding: Return what the last layer sees, too.
        explain: Return which parts of the image the answer rests on, too.
    """

    image: bytes | NDArray[np.uint8] = field(repr=False)
    as_is: bool = False
    embedding: bool = False
    explain: bool = False


@dataclass(frozen=True)
class PredictResult:
    """The answer to one image.

    Args:
        probabilities: Of each class, ``float32[K]``, the classes in the file's order.
        ood_score: How unlike the training images, 0 (alike) to 2; ``None`` where the file cannot
            tell.
        rejected: Whether it is so unlike them that the answer is "none of these"; ``None`` where
            the file has no threshold, and so cannot tell.
        notes: What was done to the image beyond decoding and resizing.
        embedding: What the last layer sees, ``float32[D]``; ``None`` where it was not asked for.
        heat: By how much the probability of the answer falls where a part is hidden,
            ``float32[H, W]``; ``None`` where it was not asked for.
    """

    probabilities: NDArray[np.float32] = field(repr=False)
    ood_score: float | None
    rejected: bool | None
    notes: tuple[str, ...] = ()
    embedding: NDArray[np.float32] | None = field(repr=False, default=None)
    heat: NDArray[np.float32] | None = field(repr=False, default=None)


class BadAnswer(OpsinError):  # noqa: N818
    """A model's answer to an image is none: no number, or no probability."""


#: What becomes of one image.
Result = PredictResult | ImageError | BadAnswer


class Overloaded(OpsinError):  # noqa: N818
    """More images wait than the queue holds; none of the request's was taken.

    Args:
        retry_after: Seconds after which there should be room, a whole number of at least 1.
    """

    def __init__(self, expected: str, received: str, advice: str, *, retry_after: float) -> None:
        super().__init__(expected, received, advice)
        self.retry_after = retry_after


class Expired(OpsinError):  # noqa: N818
    """The deadline passed before the answer was there."""


class WorkerDied(OpsinError):  # noqa: N818
    """The process that computed the answer ended; others have taken its place."""


class UnknownModel(OpsinError):  # noqa: N818
    """No model of that name is served."""


def unknown_model(name: str, served: Iterable[str]) -> UnknownModel:
    """Return the error for a name that is none of the models in service."""
    return UnknownModel(
        f"a model among {', '.join(served)}", f"got {name[:80]!r}", "Choose one of them."
    )


def worker_died() -> WorkerDied:
    """Return the error for an image whose process ended."""
    return WorkerDied(
        "an answer", "the process that computed it ended", "Another takes its place: try again."
    )


class Stopping(OpsinError):  # noqa: N818
    """The server is on its way out and takes no further images."""


class TooLarge(OpsinError):  # noqa: N818
    """A request with more bytes or images than this server takes, even when nothing else waits."""
