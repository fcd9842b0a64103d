"""The answer for one image, and the answers to a batch."""

from __future__ import annotations

import functools
import html
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arguments import checked
from opsin.core.metadata import Reject
from opsin.data.network_pixels import NO_CONTRAST
from opsin.data.pixel_values import png_address

#: The answer to an image that is like none of the training images, and how it is put.
NONE_OF_THESE: Final = "none of these"
REJECTED: Final = "None of these: looks unlike the training images"
CANNOT_TELL: Final = (
    "Cannot tell whether it is similar to the training images: this classifier has no threshold"
)
_NOTHING: Final = np.zeros((0, 0, 1), np.uint8)


@checked
@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Args:
        name: What the image is called.
        label: The most probable class.
        confidence: Its probability, 0 to 1.
        probabilities: Probability of each class, the classes in the file's order.
        ood_score: How unlike the training images it is, 0 (alike) to 2; ``None`` where
            the file cannot tell.
        rejected: Whether it is so unlike them that the answer is "none of these"; ``None`` where
            the file has no threshold, and so cannot tell.
        notes: What was done to the image beyond decoding and resizing; first of all, where it
            holds nothing to recognise, that.
        pixels: The image as the network saw it, ``uint8[H, W, C]``.
    """

    JSON: ClassVar = (
        "image=name warning answer label confidence ood_score rejected probabilities notes"
    )
    name: str
    label: str
    confidence: float
    probabilities: dict[str, float]
    ood_score: float | None = None
    rejected: bool | None = None
    notes: tuple[str, ...] = ()
    pixels: NDArray[np.uint8] = field(repr=False, compare=False, default_factory=_NOTHING.copy)

    @property
    def answer(self) -> str:
        """The label, or ``none of these`` where the image is like nothing in the training."""
        return NONE_OF_THESE if self.rejected else self.label

    @property
    def warning(self) -> str | None:
        """Why the answer means nothing, if so: the image has no contrast."""
        return NO_CONTRAST if NO_CONTRAST in self.notes else None

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 of the pixels, by which a run knows its own images."""
        from opsin.data.cache import digest_rows  # noqa: PLC0415  few predictions need it

        return bytes(digest_rows(self.pixels[None])[0])

    def without_pixels(self) -> Prediction:
        """Return a copy without pixels, but with their digest: a hundredth of the bytes."""
        made = replace(self, pixels=_NOTHING)
        made.__dict__["digest"] = self.digest
        return made

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities, the best first."""
        ranked = sorted(self.probabilities.items(), key=lambda item: -item[1])
        return ranked[:count]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{share:.1%}</td>"
            f"<td><div style='background:#2166ac;height:.8em;width:{12 * share:.2f}em'></div></td>"
            "</tr>"
            for name, share in self.top()
        )
        says = {None: [f"{CANNOT_TELL}."], True: [f"{REJECTED}."], False: []}[self.rejected]
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in (*says, *self.notes))
        seen = ""
        if self.pixels.size:
            seen = (
                f"<img src='{png_address(self.pixels)}' height='140' alt='As the network saw it' "
                "style='image-rendering:pixelated;float:left;margin-right:1em'>"
            )
        return f"<p><b>{html.escape(self.name)}</b></p>{seen}<table>{rows}</table>{notes}"


@dataclass(frozen=True)
class Answers:
    """The answers to a batch of images."""

    probabilities: NDArray[np.float32]  # float32[N, K]
    ood_score: NDArray[np.float32] | None  # float32[N]
    embedding: NDArray[np.float32] | None = None  # float32[N, D]

    def of(self, rows: NDArray[np.int64]) -> Answers:
        """Return the answers to some of the images."""
        further = [self.ood_score, self.embedding]
        return Answers(self.probabilities[rows], *(v if v is None else v[rows] for v in further))

    def rejected(self, reject: Reject | None) -> NDArray[np.bool_] | None:
        """Tell which images are like none of the training images, ``bool[N]``."""
        if reject is None or self.ood_score is None:
            return None
        return np.asarray(self.ood_score > reject.max_ood_score)
