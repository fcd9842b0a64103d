"""Comparison of several runs on the same images."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np

from opsin.commands.runs import Run
from opsin.core.arguments import checked
from opsin.core.arrays import Ints
from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_predictions import PART_WORDS, PredictedPart, RunPredictions
from opsin.core.artifacts.run_report import Accuracy, Report
from opsin.core.errors import RecipeError, RunError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted, grey_or_colour, plus_minus
from opsin.core.storage import check_writable
from opsin.data.cache import digest_names
from opsin.data.run_images import pair_up, read_images
from opsin.data.spelling import places_among
from opsin.data.split import pairs_of, split_groups
from opsin.evaluation.comparison import PairedTest, compare_answers, decide, shown_best
from opsin.evaluation.metric_table import headline_metrics
from opsin.report import side_by_side
from opsin.report.side_by_side import Comparison

#: More runs would make an unreadable table and chart.
_MOST: Final = 10
# Fields of the preparation that determine an image's pixels, and so its digest.
_PREPARED: Final = ("height", "width", "channels", "resize", "bits")


@checked
def compare(
    *runs: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
) -> Comparison:
    """Compare runs on the same images, and say which is better, if that is significant.

    Each is compared with the first, on the images that all were tested on. One is called better
    only if an exact test (McNemar's, or by groups for images that belong together) and the interval
    of the difference agree; otherwise no difference can be shown.

    Args:
        *runs: Two to ten run directories that were judged by some of the same images, with the same
            classes.
        out: Folder for ``compare.html``, ``compare.json`` and the figures.
        watcher: Receives the progress of the work.

    Raises:
        RecipeError: Fewer than two runs, or more than ten.
        RunError: A run is not finished, or they share no images, or have other labels or classes.
        MissingExtraError: SciPy or matplotlib is not installed.
        StorageError: The disk refuses a write.

    Example:
        >>> import tempfile
        >>> from opsin import train
        >>> folder = tempfile.mkdtemp()
        >>> run = train("digits", model="mlp", epochs=1, runs=folder, quiet=True)
        >>> comparison = compare(run, run)
        >>> comparison.pairs[0].p, comparison.pairs[0].better
        (1.0, None)
    """
    if not 2 <= len(runs) <= _MOST:
        raise RecipeError(
            f"Two to {_MOST} runs can be compared, not {len(runs)}",
            "Name the run directories: opsin compare RUN RUN; opsin runs lists them.",
        )
    opened = [Run(run) for run in runs]
    if out is not None:  # fail before the work
        from opsin.commands.compare_files import write_files  # noqa: PLC0415  needs matplotlib

        check_writable(Path(out) / "compare.json")
    paired = _paired(opened)
    rows = [_row(run, number, paired) for number, run in enumerate(opened)]
    notes = list(paired.notes)
    for row in rows:
        if row.reported:
            notes.append(
                f"{row.run} is judged by the corrected labels: {row.rescored:,} of the "
                f"{len(paired.labels):,} {PART_WORDS[paired.part]} labels are others than when it "
                f"was measured, with accuracy {plus_minus(row.reported)}"
            )
    for run in opened:
        if run.directory.read(Report).training.elsewhere:
            notes.append(f"{run.path} was imported: whether it learnt from these images is unknown")
    for note in notes:
        watcher.note(note)
    _name_best(rows, paired)
    pairs = _pairs(paired, [row.letter for row in rows])
    comparison = side_by_side.Comparison(
        part=paired.part,
        images=len(paired.labels),
        headline=side_by_side.headline_of(paired.part, rows[0].letter, pairs),
        runs=tuple(rows),
        pairs=tuple(pairs),
        remarks=side_by_side.remarks_on(paired.part, len(pairs), pairs[0].groups),
        notes=tuple(notes),
        files=(),
    )
    return comparison if out is None else write_files(comparison, opened, Path(out), watcher)


@dataclass(frozen=True)
class _Paired:
    """Several runs' answers to the same images, in the order and classes of the first."""

    part: PredictedPart  # `out_of_fold` if a run was judged by all of its images
    runs: list[_RunAnswers]
    labels: Ints  # those corrected by any run
    groups: Ints  # images that belong together by any of the runs
    notes: list[str]


class _RunAnswers:
    """One run's recorded answers to one part, with their images."""

    def __init__(self, run: Run, part: PredictedPart) -> None:
        directory, self.path = run.directory, run.path
        record, split = directory.read(DatasetRecord), directory.load_arrays(directory.split)
        predictions = RunPredictions.read(directory)
        self.classes, self.location = record.classes, record.location
        self.prepared = tuple(getattr(record.preparation, key) for key in _PREPARED)
        try:
            kept, digests = predictions.parts[part], split["digests"]
            learnt = {
                "test": np.concatenate([split["train"], split["val"]]),
                "val": split["train"],
                "out_of_fold": kept.rows[:0],  # each is answered by a head that had not seen it
            }[part]
            #: Exact copies of these were learnt from, or chosen by.
            self.learnt = set(map(bytes, digests[learnt]))
            self.digests, self.labels = digests[kept.rows], kept.labels
            self.probabilities, self.groups = kept.probabilities, kept.groups
            images = read_images(directory)
            self.names = [images[row].name for row in kept.rows]
            shape = len(self.labels), len(self.classes)
            lengths = len(images) == len(digests) and len(self.digests) == len(self.labels)
            if self.probabilities.shape != shape or not lengths:
                raise ValueError("lengths differ")
            before = kept.labels if kept.source_labels is None else kept.source_labels
            self.corrected = np.asarray(before != kept.labels)
            #: Images that it was tested on, with those that other runs lack.
            self.tested = len(self.labels)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise RunError(
                f"{run.path} lacks some of its answers to its {PART_WORDS[part]} images",
                "Train again.",
            ) from error

    def take(self, rows: Ints) -> None:
        self.digests, self.corrected = self.digests[rows], self.corrected[rows]
        self.names = [self.names[row] for row in rows]
        self.labels, self.probabilities = self.labels[rows], self.probabilities[rows]
        self.groups = None if self.groups is None else self.groups[rows]

    @property
    def answers(self) -> Ints:
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def size(self) -> str:
        height, width, channels, resize, bits = self.prepared
        used = f", {bits} bits" if bits else ""
        return f"{height}×{width} {grey_or_colour(channels)} ({resize}{used})"

    @property
    def keys(self) -> list[bytes]:
        return list(map(bytes, self.digests))


def _paired(runs: Sequence[Run]) -> _Paired:
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
    positions = [np.arange(first.tested)]
    alone = _join_classes(every)
    for other in others:
        positions.append(_positions_in(other, first, part))
        if first.prepared != other.prepared:
            notes.append(
                f"{first.path} sees {first.size} and {other.path} {other.size}, so the images were "
                "paired by name, not by content; that holds if no file was changed between the "
                "two trainings"
            )
    shared = np.flatnonzero(np.all(np.stack(positions) >= 0, axis=0))
    if not len(shared):
        raise RunError(f"No {word} image is shared by all {len(runs)} runs", "Compare two.")
    for run, position in zip(every, positions, strict=True):
        run.take(position[shared])
    for name, knowing in alone.items():
        paths = " and ".join(str(run.path) for run in knowing)
        notes.append(f"only {paths} knows {name}; what is compared are images of the other classes")
    if max(run.tested for run in every) > len(shared):
        tested = " and ".join(f"{run.tested:,}" for run in every)
        notes.append(
            f"the accuracies are on the {len(shared):,} {word} images that these runs share, of "
            f"their {tested}"
        )
    labels = _agreed_labels(every, word)
    for run in every if part != "val" else ():
        if count := sum(key in run.learnt for key in run.keys):
            notes.append(
                f"{run.path} was trained on, or chosen by, exact copies of {count:,} of the "
                f"{len(shared):,} {word} images, which flatters it"
            )
    together = [pairs_of(run.groups) for run in every if run.groups is not None]
    groups = split_groups(
        first.digests, (), np.concatenate([np.zeros((0, 2), np.int64), *together])
    )
    return _Paired(part, every, labels, groups, list(dict.fromkeys(notes)))


def _join_classes(every: Sequence[_RunAnswers]) -> dict[str, list[_RunAnswers]]:
    """Bring all runs' classes into one order; return those added later, with the runs of each."""
    joined, knowing = list[str](), dict[str, list[_RunAnswers]]()
    for run in every:
        more = [name for name in run.classes if places_among([name], joined)[0] < 0]
        less = [name for name in joined if places_among([name], run.classes)[0] < 0]
        if joined and more and less:
            alone = [
                f"only {knows.path} knows {', '.join(names[:5])}{' …' if names[5:] else ''}"
                for knows, names in ((every[0], less), (run, more))
            ]
            raise RunError(
                f"The runs have different classes: {' and '.join(alone)}",
                "Train both on the same ones: --classes A,B,C.",
            )
        joined += more
    for run in every:
        places = places_among(run.classes, joined)
        for place in places:
            knowing.setdefault(joined[place], []).append(run)
        run.labels = np.array(places, np.int64)[run.labels]
        probabilities = np.zeros((len(run.labels), len(joined)), run.probabilities.dtype)
        probabilities[:, places] = run.probabilities
        run.classes, run.probabilities = joined, probabilities
    return {name: runs for name, runs in knowing.items() if len(runs) < len(every)}


def _agreed_labels(every: Sequence[_RunAnswers], word: str) -> Ints:
    """Return the labels; where runs differ, the corrected ones."""
    first, *others = every
    right, known = first.labels.copy(), first.corrected.copy()
    for run in others:
        differ = run.labels != right
        if unclear := int((differ & (known == run.corrected)).sum()):
            raise RunError(
                f"{unclear:,} of the {len(right):,} {word} images of {first.path} have another "
                f"label in {run.path}, and no corrections tell which is right",
                "Train both with the same labels.",
            )
        right = np.where(differ & run.corrected, run.labels, right)
        known |= run.corrected
    return right


def _positions_in(other: _RunAnswers, first: _RunAnswers, part: PredictedPart) -> Ints:
    """Return the other run's position of each image of the first, or -1."""
    ours: Sequence[Any] = first.keys
    theirs: Sequence[Any] = other.keys
    if first.prepared != other.prepared:  # other pixels: known by their names
        ours, theirs = first.names, other.names
        here, there = first.location, other.location
        reason = ""
        if (here.sources, here.test) != (there.sources, there.test):
            reason = "come from different places, so that names prove nothing"
        elif any(len(set(names)) < len(names) for names in (ours, theirs)):
            reason = "share names among themselves"
        if reason:
            raise RunError(
                f"{first.path} sees {first.size}, {other.path} {other.size}, and their "
                f"{PART_WORDS[part]} images {reason}",
                "Train both with the same --size, --channels and --resize.",
            )
    pairs = pair_up(
        list(zip(ours, first.labels.tolist(), strict=True)),
        list(zip(theirs, other.labels.tolist(), strict=True)),
        (lambda image: image, itemgetter(0)),
    )
    if not pairs:
        raise RunError(
            f"None of the {len(ours):,} {PART_WORDS[part]} images of {first.path} is among "
            f"the {len(theirs):,} of {other.path}",
            "Train both on the same source with the same --split-seed and --size, or judge both by "
            f"images that neither has seen: opsin evaluate {first.path} SOURCE",
        )
    positions = np.full(len(ours), -1)
    for one, two in pairs:
        positions[one] = two
    return positions


def _row(run: Run, number: int, paired: _Paired) -> side_by_side.ComparedRun:
    from opsin.evaluation.metrics import measure, widen  # noqa: PLC0415  scipy takes a second

    report, one = run.directory.read(Report), paired.runs[number]
    figures, rescored = report.judged, int((one.labels != paired.labels).sum())
    reported = Accuracy(**figures.plain) if rescored else None
    if rescored or one.tested > len(paired.labels):
        figures = measure(one.probabilities, paired.labels, one.classes, paired.groups)
        if report.split == "out_of_fold":
            figures = widen(figures)
    return side_by_side.ComparedRun(
        **{metric.key: metric.value(figures) for metric in headline_metrics()},
        letter="ABCDEFGHIJ"[number],
        run=str(run.path),
        model=report.model,
        source=report.source,
        **figures.plain,
        tested=one.tested,
        rescored=rescored,
        reported=reported,
        bytes=report.file.bytes,
        parameters=report.training.parameters,
        seconds=report.seconds.get("train"),
        parity=report.file.difference,
        best=[],
    )


def _name_best(rows: Sequence[side_by_side.ComparedRun], paired: _Paired) -> None:
    """Note which run is more accurate than every other, and whose file is the smallest."""
    unseen = paired.part == "out_of_fold"
    answers = [run.answers for run in paired.runs]
    best = shown_best(answers, paired.labels, paired.groups, out_of_fold=unseen)
    if best is not None:
        rows[best].best.append("accuracy")
    sizes = [row.bytes for row in rows if row.bytes is not None]
    if len(sizes) == len(rows) and sizes.count(min(sizes)) == 1:
        rows[sizes.index(min(sizes))].best.append("bytes")


def _pairs(paired: _Paired, letters: Sequence[str]) -> list[side_by_side.ComparedPair]:
    first, *others = (run.answers for run in paired.runs)
    unseen = paired.part == "out_of_fold"
    tests = [
        compare_answers(first, other, paired.labels, paired.groups, out_of_fold=unseen)
        for other in others
    ]
    pairs = []
    for number, test in enumerate(decide(tests), start=1):
        both = (letters[0], letters[number])
        pairs.append(
            side_by_side.ComparedPair.model_validate(
                {
                    **dict(test),
                    "letters": both,
                    "better": {"first": both[0], "second": both[1], None: None}[test.better],
                    "sentence": sentence(test, both, paired.part, comparisons=len(tests)),
                    "disagreements": _disagreements(paired, number),
                }
            )
        )
    return pairs


def sentence(
    test: PairedTest, letters: tuple[str, str], part: PredictedPart, *, comparisons: int = 1
) -> str:
    """Describe the result of a comparison."""

    def shown(p: float) -> str:
        return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"

    first, second = letters
    # One image is 0.1 points of a thousand, 0.01 of ten thousand.
    digits = max(1, math.ceil(math.log10(test.images)) - 2)
    p = f"exact McNemar p {shown(test.p)}"
    if test.groups is not None:
        p = f"test by {counted(test.groups, 'group')} p {shown(test.p)}"
    if comparisons > 1:
        p += f", {shown(test.p_adjusted)} adjusted for {comparisons} comparisons"
    sign = -1 if test.better == "first" else 1
    ends = sorted((sign * test.low, sign * test.high))
    size, low, high = (
        f"{round(100 * value, digits) + 0.0:.{digits}f}"
        for value in (sign * test.difference, *ends)
    )
    optimistic = "Validation, optimistic: " if part == "val" else ""
    if test.better is None:
        return (
            f"{optimistic}{'no' if optimistic else 'No'} difference between {first} and {second} "
            f"can be shown with these {test.images:,} {PART_WORDS[part]} images ({second} less "
            f"{first}: {size} points, 95% interval {low} to {high}, {p})"
        )
    winner, loser = (first, second) if test.better == "first" else (second, first)
    return (
        f"{optimistic}{winner} is better than {loser} by {size} points, 95% interval {low} "
        f"to {high} ({p})"
    )


def _disagreements(paired: _Paired, number: int) -> list[side_by_side.DifferentAnswers]:
    both = first, _ = paired.runs[0], paired.runs[number]
    rows = np.flatnonzero(np.not_equal(*(run.answers for run in both)))
    labels = [run.answers[rows] for run in both]
    shares = [run.probabilities.max(axis=1)[rows] for run in both]
    right = [label == paired.labels[rows] for label in labels]
    # The confidence of the wrong answer, or of the more confident one if both are wrong.
    mistaken = np.where(right, 0, shares).max(axis=0)
    digests = digest_names(first.digests[rows])
    return [
        side_by_side.DifferentAnswers(
            name=first.names[rows[n]],
            digest=digests[n],
            actual=first.classes[paired.labels[rows[n]]],
            answers=[
                side_by_side.GivenAnswer(
                    label=first.classes[label[n]], confidence=float(share[n]), right=bool(ok[n])
                )
                for label, share, ok in zip(labels, shares, right, strict=True)
            ],
        )
        for n in np.lexsort((-mistaken, ~(right[0] | right[1])))
    ]
