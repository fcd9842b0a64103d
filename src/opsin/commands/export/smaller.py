"""Export of a smaller classifier, compared with its original; the result of an export."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, computed_field

from opsin.classical.classical_recipe import PIXEL_MODELS
from opsin.commands.evaluate import accuracy_of, answers
from opsin.commands.known_images import known_images
from opsin.commands.test_set_usage import key_of, note_look
from opsin.core.arrays import Ints, Pixels
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Accuracy
from opsin.core.errors import ModelFileError, ParityError, SourceError
from opsin.core.events import Watcher
from opsin.core.format import counted
from opsin.core.metadata import Score
from opsin.data.cache import digest_rows, short_digest
from opsin.data.lazy_images import Images, ReferenceSet
from opsin.models.architectures import names
from opsin.runtime.classifier import Classifier
from opsin.runtime.model_check import write_classifier
from opsin.runtime.prediction import Answers

#: Forms of export.
To = Literal["int8", "fp16", "bundle"]

#: Images that an export is compared on, and their names.
ShippedPart = Literal["test", "val", "train"]
SHIPPED_WORDS: Final[dict[ShippedPart, str]] = {
    "test": "test", "val": "validation", "train": "training"
}  # fmt: skip
#: How far the accuracy may fall: 0.3 points.
MOST_LOST: Final = 0.003
# Training images to calibrate value ranges: limited by values in all layers, about ten seconds'
# work.
_FEWEST, _MOST_IMAGES, _VALUES = 64, 1000, 300_000_000


class Quality(Accuracy):
    """Quality of a file's answers."""

    log_loss: float
    refused: float | None


class Shipped(BaseModel, frozen=True):
    """An exported file, compared with its original on ``images`` of ``part``.

    ``largest_difference`` is that of probabilities, over all these images and classes. ``before``
    and ``after`` are the qualities of both, ``None`` for a bundle, which holds the same file.
    ``looks`` counts the looks at this test set by the runs of the folder. ``layers_gone`` can no
    longer be fetched by name. ``forced``: it was written although its accuracy fell too far.
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
    looks: int | None = None
    layers_gone: tuple[str, ...] = ()
    samples: int = 0
    forced: bool = False

    @computed_field
    @property
    def optimistic(self) -> bool:
        """Whether the accuracy is on images that the classifier was chosen by."""
        return self.part != "test" and self.before is not None

    @computed_field
    @property
    def verdict(self) -> str:
        """Gains and costs in a few sentences."""
        if self.before is None or self.after is None:
            return (
                f"The same file with {self.samples} sample images and clients in Python and "
                f"JavaScript; plain ONNX Runtime gives the same labels on {self.images:,} images."
            )
        size = f"{self.bytes / self.bytes_before:.0%} of the size"
        where = SHIPPED_WORDS[self.part]
        costs = (
            f"Accuracy {self.after.accuracy:.4f} instead of {self.before.accuracy:.4f} on "
            f"{self.images:,} {where} images; {counted(self.labels_changed, 'label')} changed."
        )
        if self.optimistic:
            costs += f" These are {where} images, so both figures are optimistic."
        if self.forced:
            costs += " The accuracy fell by more than 0.3 points; it was written by force."
        return f"{size}. {costs}"


def write_smaller(
    classifier: Classifier,
    to: To,
    target: Path,
    *,
    force: bool,
    data: Sequence[str | os.PathLike[str]],
    watcher: Watcher,
) -> Shipped:
    """Make a classifier smaller, compare it with its original, and write it."""
    from opsin.onnx_files.postprocessing import finished  # noqa: PLC0415  it needs onnx
    from opsin.onnx_files.quantize import to_fp16  # noqa: PLC0415

    _refuse_others(classifier, to)
    known = known_images(classifier, data, watcher=watcher)
    # A cross-validated head trained on all images: they still show the effect of rounding.
    parts: dict[ShippedPart, Ints] = {"test": known.test, "val": known.val}
    parts |= {"train": known.train} if known.own else {}
    part = next((part for part, rows in parts.items() if len(rows)), None)
    if part is None:
        raise SourceError(f"{known.source} has no images left to compare", "Name others: --data.")
    rows, original = parts[part], classifier.content
    content = _as_int8(classifier, known, watcher) if to == "int8" else to_fp16(original)
    fresh = Classifier.of_content(classifier.path, content, most=classifier.most)
    before = answers(classifier, known.images, rows, "Original", watcher)
    after = answers(fresh, known.images, rows, to, watcher)
    old, new = _quality(classifier, before, known, rows), _quality(fresh, after, known, rows)
    looks = None
    if part == "test":
        starts = range(0, len(rows), 1024)
        digests = [digest_rows(_at(known.images, rows[start : start + 1024])) for start in starts]
        key = key_of(short_digest(np.concatenate(digests)), np.arange(len(rows)))
        run = RunDirectory(classifier.path.parent)
        looks = note_look(run, key, len(rows), old.accuracy, watcher=watcher) or None
    too_far = old.accuracy - new.accuracy > MOST_LOST + 1e-9
    if too_far and not force:
        raise _fell(to, part, len(rows), old, new)
    score = None  # training images prove nothing
    if part != "train":
        score = Score(split=part, **new.plain)
    content = finished(content, fresh.metadata.model_copy(update={"score": score}))
    write_classifier(target, content, most=classifier.most)
    labels = (predicted.probabilities.argmax(axis=1) for predicted in (before, after))
    layers, left = (
        [layer.name for layer in opened.metadata.layers] for opened in (classifier, fresh)
    )
    return Shipped(
        path=target,
        to=to,
        bytes=len(content),
        bytes_before=len(original),
        part=part,
        images=len(rows),
        labels_changed=int(np.not_equal(*labels).sum()),
        largest_difference=float(np.abs(before.probabilities - after.probabilities).max()),
        before=old,
        after=new,
        looks=looks,
        layers_gone=tuple(name for name in layers if name not in left),
        forced=too_far,
    )


def _refuse_others(classifier: Classifier, to: To) -> None:
    metadata = classifier.metadata
    if metadata.model in PIXEL_MODELS:
        raise ModelFileError(
            f"{classifier.path} holds a model without layers ({metadata.model}), whose thresholds "
            f"would change if they were rounded; --to {to} takes a network: {names()}",
            "Export it as it is: --to bundle.",
        )
    if metadata.precision != "float32":
        raise ModelFileError(
            f"{classifier.path} is in {metadata.precision} already",
            "Give the original that it was exported from.",
        )


def _as_int8(classifier: Classifier, known: ReferenceSet, watcher: Watcher) -> bytes:
    from opsin.onnx_files.quantize import to_int8  # noqa: PLC0415

    if not len(known.train):
        raise SourceError(
            f"{known.source} has no training images to take the ranges of the values from",
            "Name images with a training part: --data SOURCE.",
        )
    values = sum(int(np.prod(layer.shape)) for layer in classifier.metadata.layers)
    most = max(_FEWEST, min(_MOST_IMAGES, _VALUES // max(values, 1)))
    places = np.linspace(0, len(known.train) - 1, min(most, len(known.train))).round()
    shown = _at(known.images, known.train[places.astype(np.int64)])
    watcher.begin("Calibrate", len(shown), "images")
    try:
        return to_int8(classifier.content, shown, progress=watcher.advance)
    finally:
        watcher.end()


def _at(images: Images, rows: Ints) -> Pixels:
    return np.ascontiguousarray(images[rows])


def _quality(
    classifier: Classifier, predicted: Answers, known: ReferenceSet, rows: Ints
) -> Quality:
    labels, groups = known.labels[rows], None if known.groups is None else known.groups[rows]
    shares = predicted.probabilities[np.arange(len(labels)), labels].astype(np.float64)
    rejected = predicted.rejected(classifier.metadata.reject)
    return Quality(
        **dict(accuracy_of(predicted.probabilities.argmax(axis=1) == labels, groups)),
        log_loss=float(-np.log(np.maximum(shares, np.finfo(np.float32).tiny)).mean()),
        refused=None if rejected is None else float(rejected.mean()),
    )


def _fell(to: To, part: str, images: int, before: Quality, after: Quality) -> ParityError:
    wrong = round((before.accuracy - after.accuracy) * images)
    return ParityError(
        f"{to} answers with accuracy {after.accuracy:.4f} instead of {before.accuracy:.4f} on the "
        f"{part} images, {wrong:,} more of {images:,} wrong; it may fall by 0.3 points",
        "Nothing was written. Judge by more images (--data SOURCE), or write it all the same with "
        "--force." + (" Or take --to fp16." if to == "int8" else ""),
    )
