"""Comparison of several runs on the same images."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.paired_predictions import PairedPredictions, bring_together
from opsin.commands.runs import Run
from opsin.core.arguments import checked
from opsin.core.artifacts.run_predictions import PART_WORDS, PredictedPart
from opsin.core.artifacts.run_report import Accuracy, Report
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted, plus_minus
from opsin.core.storage import check_writable
from opsin.data.cache import digest_names
from opsin.evaluation.comparison import PairedTest, compare_answers, decide, shown_best
from opsin.evaluation.metric_table import headline_metrics
from opsin.report.side_by_side import (
    ComparedPair,
    ComparedRun,
    Comparison,
    DifferentAnswers,
    GivenAnswer,
    headline_of,
    remarks_on,
)

#: More runs would make an unreadable table and chart.
_MOST: Final = 10


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
        importlib.import_module("opsin.report.figures")
        check_writable(Path(out) / "compare.json")
    paired = bring_together(opened)
    rows = [_row(run, number, paired) for number, run in enumerate(opened)]
    notes = [*paired.notes]
    notes += [
        f"{row.run} is judged by the corrected labels: {row.rescored:,} of the "
        f"{len(paired.labels):,} {PART_WORDS[paired.part]} labels are others than when it was "
        f"measured, with accuracy {plus_minus(row.reported)}"
        for row in rows
        if row.reported
    ]
    notes += [
        f"{run.path} was imported: whether it learnt from these images is not known"
        for run in opened
        if run.directory.read(Report).training.elsewhere
    ]
    for note in notes:
        watcher.note(note)
    pairs = _pairs(paired, [row.letter for row in rows])
    comparison = Comparison(
        part=paired.part,
        images=len(paired.labels),
        headline=headline_of(paired.part, rows[0].letter, pairs),
        runs=tuple(_with_best(rows, paired)),
        pairs=tuple(pairs),
        remarks=remarks_on(paired.part, len(pairs), pairs[0].groups),
        notes=tuple(notes),
        files=(),
    )
    if out is None:
        return comparison
    from opsin.commands.compare_files import write_files  # noqa: PLC0415  needs matplotlib

    return write_files(comparison, opened, Path(out), watcher)


def _row(run: Run, number: int, paired: PairedPredictions) -> ComparedRun:
    from opsin.evaluation.metrics import measure, widen  # noqa: PLC0415  scipy takes a second

    report = run.directory.read(Report)
    figures, reported = report.judged, None
    if paired.rescored[number]:
        reported = Accuracy(
            images=figures.images, accuracy=figures.accuracy, low=figures.low, high=figures.high
        )
    if paired.rescored[number] or paired.tested[number] > len(paired.labels):
        probabilities = paired.probabilities[number]
        figures = measure(probabilities, paired.labels, paired.classes, paired.groups)
        if report.split == "out_of_fold":
            figures = widen(figures)
    return ComparedRun(
        **{metric.key: metric.value(figures) for metric in headline_metrics()},
        letter="ABCDEFGHIJ"[number],
        run=str(run.path),
        model=report.model,
        source=report.source,
        images=figures.images,
        accuracy=figures.accuracy,
        low=figures.low,
        high=figures.high,
        tested=paired.tested[number],
        rescored=paired.rescored[number],
        reported=reported,
        bytes=report.file.bytes,
        parameters=report.training.parameters,
        seconds=report.seconds.get("train"),
        parity=report.file.difference,
        best=[],
    )


def _with_best(rows: Sequence[ComparedRun], paired: PairedPredictions) -> list[ComparedRun]:
    """Return the rows with the columns in which each is significantly best."""
    most_accurate = shown_best(
        paired.answers, paired.labels, paired.groups, out_of_fold=paired.part == "out_of_fold"
    )
    sizes = [row.bytes for row in rows if row.bytes is not None]
    smallest = min(sizes) if len(sizes) == len(rows) and sizes.count(min(sizes)) == 1 else None
    return [
        row.model_copy(
            update={
                "best": ["accuracy"] * (number == most_accurate)
                + ["bytes"] * (smallest is not None and row.bytes == smallest)
            }
        )
        for number, row in enumerate(rows)
    ]


def _pairs(paired: PairedPredictions, letters: Sequence[str]) -> list[ComparedPair]:
    """Compare each run with the first."""
    answers, unseen = paired.answers, paired.part == "out_of_fold"
    tests = [
        compare_answers(answers[0], other, paired.labels, paired.groups, out_of_fold=unseen)
        for other in answers[1:]
    ]
    pairs = []
    for number, test in enumerate(decide(tests), start=1):
        both = (letters[0], letters[number])
        pairs.append(
            ComparedPair.model_validate({
                **dict(test),
                "letters": both,
                "better": {"first": both[0], "second": both[1], None: None}[test.better],
                "sentence": sentence(test, both, paired.part, comparisons=len(tests)),
                "disagreements": _disagreements(paired, answers, number),
            })
        )  # fmt: skip
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


def _disagreements(
    paired: PairedPredictions, answers: Sequence[NDArray[np.int64]], number: int
) -> list[DifferentAnswers]:
    """Return the images that a run and the first answered differently."""
    rows = np.flatnonzero(answers[0] != answers[number])
    labels = [answers[run][rows] for run in (0, number)]
    shares = [
        paired.probabilities[run][rows, label]
        for run, label in zip((0, number), labels, strict=True)
    ]
    right = [label == paired.labels[rows] for label in labels]
    # The confidence of the wrong answer, or of the more confident one if both are wrong.
    mistaken = np.maximum(
        *(np.where(ok, 0, share) for ok, share in zip(right, shares, strict=True))
    )
    digests = digest_names(paired.digests[rows])
    return [
        DifferentAnswers(
            name=paired.names[rows[n]],
            digest=digests[n],
            actual=paired.classes[paired.labels[rows[n]]],
            answers=[
                GivenAnswer(
                    label=paired.classes[label[n]], confidence=float(share[n]), right=bool(ok[n])
                )
                for label, share, ok in zip(labels, shares, right, strict=True)
            ],
        )
        for n in np.lexsort((-mistaken, ~(right[0] | right[1])))
    ]
