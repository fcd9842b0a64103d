"""What an export brought, in figures and words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel

from opsin.core.artifacts.run_report import Accuracy
from opsin.core.format import counted
from opsin.core.stored_json import JsonObject

#: What a classifier can be exported to.
To = Literal["int8", "fp16", "bundle"]

#: Which images an export is compared on, and what they are called.
ShippedPart = Literal["test", "val", "train"]
SHIPPED_WORDS: Final[dict[ShippedPart, str]] = {
    "test": "test", "val": "validation", "train": "training"
}  # fmt: skip
# Less than this is called no difference, even where every turn shows it.
_NOTABLE: Final = 1.05


class Quality(Accuracy):
    """How good a file's answers are."""

    log_loss: float
    refused: float | None


class Speed(BaseModel, frozen=True):
    """Images a second of the original and the export, measured in turn on this machine."""

    batch: int
    before: float
    after: float
    ratio: float
    shown: bool  # whether one of them was the faster in every turn, and by 5% or more

    @classmethod
    def of(cls, batch: int, before: Sequence[float], after: Sequence[float]) -> Speed:
        """The medians of the turns; nothing is called faster that a turn contradicts."""
        medians = statistics.median(before), statistics.median(after)
        ratio = medians[1] / medians[0]
        wins = [new > old for old, new in zip(before, after, strict=True)]
        losses = [new < old for old, new in zip(before, after, strict=True)]
        shown = (all(wins) and ratio >= _NOTABLE) or (all(losses) and ratio <= 1 / _NOTABLE)
        return cls(batch=batch, before=medians[0], after=medians[1], ratio=ratio, shown=shown)

    def in_words(self) -> str:
        """The finding, such as ``2.05 times as fast one image at a time``."""
        how = f"in batches of {self.batch:,}" if self.batch > 1 else "one image at a time"
        return f"{self.ratio:.2f} times as fast {how}" if self.shown else f"as fast as before {how}"


class Shipped(BaseModel, frozen=True):
    """An exported file and how it compares with its original.

    Args:
        path: The file.
        to: What it was exported to.
        bytes: Its size.
        bytes_before: The original's size.
        part: The images both answered to: ``test``, or ``val`` where there are none.
        images: How many they are.
        labels_changed: Images that get another label.
        largest_difference: Of probabilities, over all these images and classes.
        before: How good the original's answers are; ``None`` for a bundle, which holds the very
            same file.
        after: How good the export's are.
        speed: One image at a time, then many; empty for a bundle.
        looks: How often the runs of the folder have now looked at this test set; ``None`` where
            this export did not look at one.
        layers_gone: Layers of the original that can no longer be fetched by their name.
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
        """Whether the accuracy is of images that the classifier was chosen by."""
        return self.part != "test" and self.before is not None

    @property
    def verdict(self) -> str:
        """What it brings and what it costs, in a few sentences."""
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
