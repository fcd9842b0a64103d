"""Answers of several runs, aligned on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.runs import Run
from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_predictions import PART_WORDS, PredictedPart, RunPredictions
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import RunError
from opsin.core.format import grey_or_colour
from opsin.data.run_images import pair_up, read_images
from opsin.data.spelling import places_among
from opsin.data.split import pairs_of, split_groups

#: Fields of the preparation that determine an image's pixels, and so its digest.
PREPARED: Final = ("height", "width", "channels", "resize", "bits")
_NO_PAIRS: Final = np.zeros((0, 2), np.int64)


@dataclass(frozen=True)
class PairedPredictions:
    """Several runs' answers to the same images, in the order and classes of the first."""

    part: PredictedPart  # ``out_of_fold`` where a run was judged by all of its images
    classes: tuple[str, ...]
    digests: NDArray[np.uint8]  # [N, 16], of the pixels in the first run
    names: list[str]
    labels: NDArray[np.int64]  # where a run corrected them, the corrected ones
    probabilities: tuple[NDArray[np.float32], ...]  # of each run, [N, K]
    groups: NDArray[np.int64]  # images that belong together by any of the runs
    rescored: tuple[int, ...]  # images of each run that had another label when it was measured
    tested: tuple[int, ...]  # images of each run that it was tested on, these and others
    notes: tuple[str, ...]  # what the reader should know of the pairing

    @property
    def answers(self) -> list[NDArray[np.int64]]:
        """The answer of each run to each image, ``int64[N]``."""
        return [probabilities.argmax(axis=1) for probabilities in self.probabilities]


class _RunAnswers:
    """One run's recorded answers to one part, with their images."""

    def __init__(self, run: Run, part: PredictedPart) -> None:
        directory = run.directory
        self.run, self.record = run, directory.read(DatasetRecord)
        predictions = RunPredictions.read(directory)
        split = directory.load_arrays(directory.split)
        try:
            kept, digests = predictions.parts[part], split["digests"]
            learnt = {
                "test": np.concatenate([split["train"], split["val"]]),
                "val": split["train"],
                "out_of_fold": kept.rows[:0],  # each is answered by a head that had not seen it
            }[part]
            #: Exact copies of these were learnt from, or chosen by.
            self.learnt = {digests[row].tobytes() for row in learnt}
            self.digests, self.labels = digests[kept.rows], kept.labels
            self.probabilities, self.groups = kept.probabilities, kept.groups
            images = read_images(directory)
            if len(images) != len(digests):
                raise ValueError("an image without a row")
            self.names = [images[row].name for row in kept.rows]
            #: What pixels depend on.
            self.prepared = tuple(getattr(self.record.preparation, key) for key in PREPARED)
            shape = len(self.labels), len(self.record.classes)
            if self.probabilities.shape != shape or len(self.digests) != len(self.labels):
                raise ValueError("lengths differ")
            before = kept.labels if kept.source_labels is None else kept.source_labels
            self.corrected = np.asarray(before != kept.labels)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise RunError(
                f"{run.path} lacks some of its answers to its {PART_WORDS[part]} images",
                "Train again.",
            ) from error
        #: How many images it was tested on.
        self.tested = len(self.labels)

    def take(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Select images, and reorder classes to those of the first run."""
        self.digests, self.corrected = self.digests[rows], self.corrected[rows]
        self.names = [self.names[row] for row in rows]
        self.labels = np.argsort(columns)[self.labels[rows]]
        self.probabilities = self.probabilities[rows][:, columns]
        self.groups = None if self.groups is None else self.groups[rows]

    @property
    def size(self) -> str:
        height, width, channels, resize, bits = self.prepared
        used = f", {bits} bits" if bits else ""
        return f"{height}×{width} {grey_or_colour(channels)} ({resize}{used})"

    @property
    def keys(self) -> list[bytes]:
        return [digest.tobytes() for digest in self.digests]


def bring_together(runs: Sequence[Run]) -> PairedPredictions:
    """Pair the runs' answers image by image."""
    parts: list[PredictedPart] = [run.directory.read(Report).split for run in runs]
    part = parts[0] if len(set(parts)) == 1 else "out_of_fold"
    if part == "out_of_fold" and "val" in parts:
        optimistic = runs[parts.index("val")].path
        raise RunError(
            f"{optimistic} is judged by validation images, not by images that it had not seen",
            f"Train with test images, or judge both by others: opsin evaluate {optimistic} SOURCE",
        )
    word, notes = PART_WORDS[part], []
    every = [_RunAnswers(run, run_part) for run, run_part in zip(runs, parts, strict=True)]
    first, *others = every
    columns = [_same_classes(first, run) for run in every]
    positions = [np.arange(first.tested)]
    for other, column in zip(others, columns[1:], strict=True):
        positions.append(_positions_in(other, first, column, part))
        if first.prepared != other.prepared:
            notes.append(
                f"{first.run.path} sees {first.size} and {other.run.path} {other.size}, so the "
                "images were paired by name, not by content; that holds if no file was changed "
                "between the two trainings"
            )
    shared = np.flatnonzero(np.all(np.stack(positions) >= 0, axis=0))
    if not len(shared):
        raise RunError(f"No {word} image is shared by all {len(runs)} runs", "Compare two.")
    tested = tuple(run.tested for run in every)
    for run, position, column in zip(every, positions, columns, strict=True):
        run.take(position[shared], column)
    if max(tested) > len(shared):
        notes.append(
            f"compared on the {len(shared):,} {word} images that all of these runs have, of "
            f"{', '.join(f'{count:,}' for count in tested)}; the accuracies are those on these"
        )
    right = _agreed_labels(every, word)
    seen = {run.run.path: sum(key in run.learnt for key in run.keys) for run in every}
    if part != "val":
        notes += [
            f"{path} was trained on, or chosen by, exact copies of {count:,} of the "
            f"{len(shared):,} {word} images, which flatters it"
            for path, count in seen.items()
            if count
        ]
    together = [pairs_of(run.groups) for run in every if run.groups is not None]
    return PairedPredictions(
        part=part,
        classes=tuple(first.record.classes),
        digests=first.digests,
        names=first.names,
        labels=right,
        probabilities=tuple(run.probabilities for run in every),
        groups=split_groups(first.digests, (), np.concatenate([_NO_PAIRS, *together])),
        rescored=tuple(int((run.labels != right).sum()) for run in every),
        tested=tested,
        notes=tuple(dict.fromkeys(notes)),
    )


def _same_classes(first: _RunAnswers, other: _RunAnswers) -> NDArray[np.int64]:
    """Return the other run's index of each class of the first."""
    ours, theirs = first.record.classes, other.record.classes
    indices, back = places_among(ours, theirs), places_among(theirs, ours)
    if min(*indices, *back) >= 0:
        return np.array(indices, np.int64)
    alone = []
    for run, names, matched in ((first, ours, indices), (other, theirs, back)):
        extra = [name for name, index in zip(names, matched, strict=True) if index < 0]
        if extra:
            more = f" and {len(extra) - 5:,} more" if len(extra) > 5 else ""
            alone.append(f"only {run.run.path} knows {', '.join(extra[:5])}{more}")
    raise RunError(
        f"The runs have different classes: {' and '.join(alone)}",
        "Train both on the same ones: --classes A,B,C.",
    )


def _agreed_labels(every: Sequence[_RunAnswers], word: str) -> NDArray[np.int64]:
    """Return the labels; where runs differ, the corrected ones."""
    first, *others = every
    right, known = first.labels.copy(), first.corrected.copy()
    for run in others:
        differ = run.labels != right
        if unclear := int((differ & (known == run.corrected)).sum()):
            raise RunError(
                f"{unclear:,} of the {len(right):,} {word} images of {first.run.path} have "
                f"another label in {run.run.path}, and no corrections tell which is right",
                "Train both with the same labels.",
            )
        right = np.where(differ & run.corrected, run.labels, right)
        known |= run.corrected
    return right


def _positions_in(
    other: _RunAnswers, first: _RunAnswers, columns: NDArray[np.int64], part: PredictedPart
) -> NDArray[np.int64]:
    """Return the other run's position of each image of the first, or -1."""
    ours: Sequence[Any] = first.keys
    theirs: Sequence[Any] = other.keys
    if first.prepared != other.prepared:  # other pixels: known by their names
        ours, theirs = _names_of_both(first, other, part)
    pairs = pair_up(
        list(zip(ours, first.labels.tolist(), strict=True)),
        list(zip(theirs, np.argsort(columns)[other.labels].tolist(), strict=True)),
        (lambda image: image, itemgetter(0)),
    )
    if not pairs:
        raise RunError(
            f"None of the {len(ours):,} {PART_WORDS[part]} images of {first.run.path} is among "
            f"the {len(theirs):,} of {other.run.path}",
            "Train both on the same source with the same --split-seed and --size, or judge both by "
            f"images that neither has seen: opsin evaluate {first.run.path} SOURCE",
        )
    positions = np.full(first.tested, -1)
    for one, two in pairs:
        positions[one] = two
    return positions


def _names_of_both(
    first: _RunAnswers, other: _RunAnswers, part: PredictedPart
) -> tuple[list[str], list[str]]:
    """Return names that identify images across different preparations."""
    here, there = first.record.location, other.record.location
    if (here.sources, here.test) != (there.sources, there.test):
        reason = "come from different places, so that names prove nothing"
    elif any(len(set(names)) < len(names) for names in (first.names, other.names)):
        reason = "share names among themselves"
    else:
        return first.names, other.names
    raise RunError(
        f"{first.run.path} sees {first.size}, {other.run.path} {other.size}, and their "
        f"{PART_WORDS[part]} images {reason}",
        "Train both with the same --size, --channels and --resize.",
    )
