"""The answers of several runs, brought to the same images in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.runs import Run
from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_predictions import (
    PART_WORDS,
    PartPredictions,
    PredictedPart,
    RunPredictions,
)
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import RunError
from opsin.core.format import grey_or_colour
from opsin.data.groups import pairs_of, split_groups
from opsin.data.run_images import RunImage, pair_up, read_images
from opsin.data.spelling import places_among

_ALONE: Final = np.zeros((0, 2), np.int64)
#: What of its preparation an image's pixels, and so its digest, depend on.
PREPARED: Final = ("height", "width", "channels", "resize", "bits")


@dataclass(frozen=True)
class PairedPredictions:
    """What several runs answered to the same images, in the order of the first run.

    Args:
        part: ``test``, or ``val`` where no run has test images; ``out_of_fold`` where a run was
            judged by all of its images, each answered by a head that had not seen it.
        classes: In the order of the first run.
        digests: First 16 bytes of the SHA-256 of each image's prepared pixels in the first run,
            ``uint8[N, 16]``.
        names: What the first run calls each image; ``None`` where it keeps no names.
        labels: The right classes, ``int64[N]``; where a run corrected them, the corrected ones.
        probabilities: Of each run, ``float32[N, K]``.
        groups: Images with the same number belong together, by any of the runs, ``int64[N]``.
        rescored: Of each run, how many images had another label when it was measured.
        tested: Of each run, how many images it was tested on, these and others.
        notes: What the reader should know of how the images were paired.
    """

    part: PredictedPart
    classes: tuple[str, ...]
    digests: NDArray[np.uint8]
    names: list[str] | None
    labels: NDArray[np.int64]
    probabilities: tuple[NDArray[np.float32], ...]
    groups: NDArray[np.int64]
    rescored: tuple[int, ...]
    tested: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def answers(self) -> list[NDArray[np.int64]]:
        """The answer of each run to each image, ``int64[N]``."""
        return [probabilities.argmax(axis=1) for probabilities in self.probabilities]


@dataclass(frozen=True)
class _AlignedAnswers:
    """What one run keeps of its answers to one part, and of the images they belong to."""

    run: Run
    record: DatasetRecord
    digests: NDArray[np.uint8]
    learnt: frozenset[bytes]
    images: list[RunImage] | None
    labels: NDArray[np.int64]
    corrected: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    groups: NDArray[np.int64] | None

    def taken(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> _AlignedAnswers:
        """Return some of the images, in this order, their classes in the order of the first run."""
        return replace(
            self,
            digests=self.digests[rows],
            images=[self.images[row] for row in rows] if self.images else None,
            labels=np.argsort(columns)[self.labels[rows]],
            corrected=self.corrected[rows],
            probabilities=self.probabilities[rows][:, columns],
            groups=None if self.groups is None else self.groups[rows],
        )

    @property
    def prepared(self) -> tuple[Any, ...]:
        return tuple(getattr(self.record.preparation, key) for key in PREPARED)

    @property
    def place(self) -> list[Any]:
        """Where its images came from; corrections of their labels change no image."""
        location = self.record.location
        return [location.sources, location.test]

    @property
    def size(self) -> str:
        height, width, channels, resize, bits = self.prepared
        used = f", {bits} bits" if bits else ""
        return f"{height}×{width} {grey_or_colour(channels)} ({resize}{used})"

    @property
    def keys(self) -> list[bytes]:
        return [digest.tobytes() for digest in self.digests]

    @property
    def seen(self) -> int:
        """How many images have an exact copy among those it was trained on, or chosen by."""
        return sum(key in self.learnt for key in self.keys)


def bring_together(runs: Sequence[Run]) -> PairedPredictions:
    """Read the runs' answers and pair them, image by image."""
    parts: list[PredictedPart] = [run.directory.read(Report).split for run in runs]
    part = parts[0]
    if len(set(parts)) > 1:
        part = "out_of_fold"
        if "val" in parts:
            optimistic = runs[parts.index("val")].path
            raise RunError(
                "runs judged by images that they had not seen",
                f"{optimistic} is judged by validation images",
                f"Train with test images, or judge both by images that neither has seen: "
                f"opsin evaluate {optimistic} SOURCE",
            )
    every = [_read(run, own) for run, own in zip(runs, parts, strict=True)]
    first, notes = every[0], []
    columns = [_same_classes(first, each) for each in every]
    places = [np.arange(len(first.labels))]
    for other, column in zip(every[1:], columns[1:], strict=True):
        found, note = _shared(first, other, column, part)
        places.append(found)
        notes += [note] if note else []
    shared = np.flatnonzero(np.all(np.stack(places) >= 0, axis=0))
    if not len(shared):
        raise RunError(
            f"runs that share {PART_WORDS[part]} images",
            f"none is shared by all {len(runs)}",
            "Compare two at a time.",
        )
    kept = [
        each.taken(place[shared], column)
        for each, place, column in zip(every, places, columns, strict=True)
    ]
    tested = tuple(len(each.labels) for each in every)
    if max(tested) > len(shared):
        notes.append(
            f"compared on the {len(shared):,} {PART_WORDS[part]} images that all of these "
            f"runs have, of {', '.join(f'{count:,}' for count in tested)}; the accuracies are "
            "those on these"
        )
    right = _agreed(kept, part)
    first = kept[0]
    if part != "val":
        notes += [
            f"{each.run.path} was trained on, or chosen by, exact copies of {each.seen:,} of the "
            f"{len(each.labels):,} {PART_WORDS[part]} images, which flatters it"
            for each in kept
            if each.seen
        ]
    together = [pairs_of(each.groups) for each in kept if each.groups is not None]
    return PairedPredictions(
        part=part,
        classes=tuple(first.record.classes),
        digests=first.digests,
        names=[image.name for image in first.images] if first.images else None,
        labels=right,
        probabilities=tuple(each.probabilities for each in kept),
        groups=split_groups(first.digests, (), np.concatenate([_ALONE, *together])),
        rescored=tuple(int((each.labels != right).sum()) for each in kept),
        tested=tested,
        notes=tuple(dict.fromkeys(notes)),
    )


def _read(run: Run, part: PredictedPart) -> _AlignedAnswers:
    directory = run.directory
    record = directory.read(DatasetRecord)
    split = directory.load_arrays(directory.split)
    predictions = RunPredictions.read(directory)
    try:
        kept = predictions.parts[part]
        rows, digests = kept.rows, split["digests"]
        learnt = {
            "test": np.concatenate([split["train"], split["val"]]),
            "val": split["train"],
            "out_of_fold": rows[:0],  # each is answered by a head that had not seen it
        }[part]
        answers = _AlignedAnswers(
            run=run,
            record=record,
            digests=digests[rows],
            learnt=frozenset(digests[row].tobytes() for row in learnt),
            images=_images(run, rows, len(digests)),
            labels=kept.labels,
            corrected=_corrected(record, kept),
            probabilities=kept.probabilities,
            groups=kept.groups,
        )
        whole = answers.probabilities.shape == (len(answers.labels), len(record.classes))
        if not whole or len(answers.digests) != len(answers.labels) or not answers.prepared:
            raise ValueError("lengths differ")
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise RunError(
            f"a run with its answers to its {PART_WORDS[part]} images",
            f"{run.path} lacks some of them, or was made by an earlier Opsin",
            "Train again.",
        ) from error
    return answers


def _images(run: Run, rows: NDArray[np.int64], count: int) -> list[RunImage] | None:
    """Return what some images are called; ``None`` in a run from before names were kept."""
    if not run.directory.images.is_file():
        return None
    images = read_images(run.directory)
    if len(images) != count:
        raise ValueError("an image without a row")
    return [images[row] for row in rows]


def _same_classes(first: _AlignedAnswers, other: _AlignedAnswers) -> NDArray[np.int64]:
    """Return which of the other's classes each class of the first is."""
    own, theirs = first.record.classes, other.record.classes
    places, back = places_among(own, theirs), places_among(theirs, own)
    if min(*places, *back) < 0:
        alone = [
            f"only {each.run.path} knows {_listed(extra)}"
            for each, extra in (
                (first, [name for name, place in zip(own, places, strict=True) if place < 0]),
                (other, [name for name, place in zip(theirs, back, strict=True) if place < 0]),
            )
            if extra
        ]
        raise RunError(
            "runs with the same classes",
            " and ".join(alone),
            "Train both on the same ones (--classes A,B,C); classes are known by their names.",
        )
    return np.array(places, np.int64)


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _corrected(record: DatasetRecord, kept: PartPredictions) -> NDArray[np.bool_]:
    """Return which labels the user corrected; a run that kept no others may have corrected any."""
    labels = kept.labels
    if kept.source_labels is not None:
        return np.asarray(kept.source_labels != labels)
    relabelled = record.corrections is not None and record.corrections.relabelled > 0
    return np.full(len(labels), relabelled)


def _agreed(kept: Sequence[_AlignedAnswers], part: PredictedPart) -> NDArray[np.int64]:
    """Return the right classes: where runs differ, those that one of them corrected."""
    right, known = kept[0].labels.copy(), kept[0].corrected.copy()
    for each in kept[1:]:
        differ = each.labels != right
        unclear = int((differ & (known == each.corrected)).sum())
        if unclear:
            raise RunError(
                "runs with the same labels, or with corrections of them",
                f"{unclear:,} of the {len(right):,} {PART_WORDS[part]} images of "
                f"{kept[0].run.path} have another label in {each.run.path}, and which of "
                "them is right, no corrections tell",
                "Train both with the same labels.",
            )
        right = np.where(differ & each.corrected, each.labels, right)
        known |= each.corrected
    return right


def _shared(
    first: _AlignedAnswers, other: _AlignedAnswers, columns: NDArray[np.int64], part: PredictedPart
) -> tuple[NDArray[np.int64], str | None]:
    """Return where the other has each image of the first, and a note if names had to tell."""
    own: list[bytes] | list[str] = first.keys
    theirs: list[bytes] | list[str] = other.keys
    note = None
    if first.prepared != other.prepared:
        own, theirs = _names_instead(first, other, part)
        note = (
            f"{first.run.path} sees {first.size} and {other.run.path} {other.size}, so the "
            "images were paired by name, not by content; that holds if no file was changed "
            "between the two trainings"
        )
    pairs = pair_up(
        list(zip(own, first.labels.tolist(), strict=True)),
        list(zip(theirs, np.argsort(columns)[other.labels].tolist(), strict=True)),
        (lambda image: image, itemgetter(0)),
    )
    if not pairs:
        raise _other_images(first, other, part)
    places = np.full(len(own), -1)
    for one, two, _ in pairs:
        places[one] = two
    return places, note


def _names_instead(
    first: _AlignedAnswers, other: _AlignedAnswers, part: PredictedPart
) -> tuple[list[str], list[str]]:
    """Return names to tell images by that have not the same pixels."""
    reason = None
    if first.place != other.place:
        reason = "come from different places, so that names prove nothing"
    elif first.images is None or other.images is None:
        reason = "keep no names to tell them by"
    if reason is None and first.images is not None and other.images is not None:
        names = tuple([image.name for image in each] for each in (first.images, other.images))
        if all(len(set(each)) == len(each) for each in names):
            return names[0], names[1]
        reason = "share names among themselves"
    raise RunError(
        f"the same {PART_WORDS[part]} images, known by their pixels or by their names",
        f"{first.run.path} sees {first.size}, {other.run.path} {other.size}, and their images "
        f"{reason}",
        "Train both with the same --size, --channels and --resize.",
    )


def _other_images(first: _AlignedAnswers, other: _AlignedAnswers, part: PredictedPart) -> RunError:
    """Say how two runs' images differ, and what to do about it."""
    word = PART_WORDS[part]
    received = (
        f"none of the {len(first.labels):,} {word} images of {first.run.path} is among the "
        f"{len(other.labels):,} of {other.run.path}"
    )
    foreign = [
        f"{known:,} {word} images of {judge.run.path} were used to train or choose "
        f"{learner.run.path}"
        for learner, judge in ((first, other), (other, first))
        if (known := sum(key in learner.learnt for key in judge.keys))
    ]
    advice = "Train both on the same source with the same --split-seed"
    if first.prepared != other.prepared:
        advice = (
            "Images are split by their pixels, so each --size has a split of its own: train both "
            "with one size, or give --test SOURCE"
        )
    return RunError(
        f"runs that share {word} images",
        "; ".join([received, *foreign]),
        f"{advice}, or judge both by images that neither has seen: "
        f"opsin evaluate {first.run.path} SOURCE",
    )
