"""The result of an export, in figures and words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel

from opsin.core.artifacts.run_report import Accuracy
from opsin.core.format import counted
from opsin.core.stored_json import JsonObject

#: Forms of export.
To = Literal["int8", "fp16", "bundle"]

#: Images that an export is compared on, and their names.
ShippedPart = Literal["test", "val", "train"]
SHIPPED_WORDS: Final[dict[ShippedPart, str]] = {
    "test": "test", "val": "validation", "train": "training"
}  # fmt: skip
# Smaller ratios count as equal, even if every turn agrees.
_NOTABLE: Final = 1.05


class Quality(Accuracy):
    """Quality of a file's answers."""

    log_loss: float
    refused: float | None


class Speed(BaseModel, frozen=True):
    """Images a second of the original and the export, measured in turn on this machine."""

    batch: int
    before: float
    after: float
    ratio: float
    shown: bool  # whether one was faster in every turn, by 5% or more

    @classmethod
    def of(cls, batch: int, before: Sequence[float], after: Sequence[float]) -> Speed:
        """Compare the medians of the turns; a difference must hold in every turn."""
        medians = statistics.median(before), statistics.median(after)
        ratio = medians[1] / medians[0]
        wins = [new > old for old, new in zip(before, after, strict=True)]
        losses = [new < old for old, new in zip(before, after, strict=True)]
        shown = (all(wins) and ratio >= _NOTABLE) or (all(losses) and ratio <= 1 / _NOTABLE)
        return cls(batch=batch, before=medians[0], after=medians[1], ratio=ratio, shown=shown)

    def in_words(self) -> str:
        """Return the result, such as ``2.05 times as fast one image at a time``."""
        how = f"in batches of {self.batch:,}" if self.batch > 1 else "one image at a time"
        return f"{self.ratio:.2f} times as fast {how}" if self.shown else f"as fast as before {how}"


class Shipped(BaseModel, frozen=True):
    """An exported file, compared with its original.

    Args:
        path: The file.
        to: What it was exported to.
        bytes: Its size.
        bytes_before: The original's size.
        part: The images compared on: ``test``, or ``val`` without any.
        images: Their number.
        labels_changed: Images that get another label.
        largest_difference: Of probabilities, over all these images and classes.
        before: The original's quality; ``None`` for a bundle, which holds the same file.
        after: The export's quality.
        speed: One image at a time, then many; empty for a bundle.
        looks: Looks at this test set by the runs of the folder, or ``None`` if this was none.
        layers_gone: Layers of the original that can no longer be fetched by name.
        samples: Sample images in a bundle.
        forced: Whether it was written although its accuracy fell too far.
    """

    path: Path
    to: To
    bytes: int
    bytes_before: int
    part: ShippedPart
    images: int
    labels_changed: int
    largest_difference: float
    before: Quality | None = None
    after: Quality | None = None
    speed: tuple[Speed, ...] = ()
    looks: int | None = None
    layers_gone: tuple[str, ...] = ()
    samples: int = 0
    forced: bool = False

    @property
    def optimistic(self) -> bool:
        """Whether the accuracy is on images that the classifier was chosen by."""
        return self.part != "test" and self.before is not None

    @property
    def verdict(self) -> str:
        """Gains and costs in a few sentences."""
        if self.before is None or self.after is None:
            return (
                f"The same file with {self.samples} sample images and clients in Python and "
                f"JavaScript; plain ONNX Runtime gives the same labels on {self.images:,} images."
            )
        size = f"{self.bytes / self.bytes_before:.0%} of the size"
        brings = f"{size}; {', '.join(speed.in_words() for speed in self.speed)}."
        if not any(speed.shown and speed.ratio > 1 for speed in self.speed):
            brings += " It is not faster on this machine: take it for its size alone."
        where = SHIPPED_WORDS[self.part]
        costs = (
            f"Accuracy {self.after.accuracy:.4f} instead of {self.before.accuracy:.4f} on "
            f"{self.images:,} {where} images; {counted(self.labels_changed, 'label')} changed."
        )
        if self.optimistic:
            costs += f" These are {where} images, so both figures are optimistic."
        if self.forced:
            costs += " The accuracy fell by more than 0.3 points; it was written by force."
        return f"{brings} {costs}"

    def to_json(self) -> JsonObject:
        """Return it as plain data."""
        more = {"optimistic": self.optimistic, "verdict": self.verdict}
        return self.model_dump(mode="json") | more
