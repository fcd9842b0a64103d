"""Which of several runs is better, if any is shown to be."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.bench import Machine, rates_in_turn
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

#: More runs than this make no table and no chart that anyone can read.
_MOST: Final = 10


@checked
def compare(
    *runs: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    speed: bool = True,
    watcher: Watcher = SILENT,
) -> Comparison:
    """Compare runs by the same images, and say which is better, if that is shown.

    Each is set against the first, on the images that all of them were tested on. One is called
    better only where an exact test (McNemar's; by groups where images belong together) and the
    interval of the difference agree; otherwise no difference can be shown.

    Args:
        *runs: Two to ten run directories that were judged by some of the same images, with the same
            classes.
        against: The run that the others are set against (default: the first).
        out: Folder for ``compare.html``, ``compare.json`` and the figures.
        speed: Measure how many images a second each classifier answers on this machine.
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
        >>> found = compare(run, run, speed=False)
        >>> found.pairs[0].p, found.pairs[0].better
        (1.0, None)
    """
    opened = _opened(runs, against)
    if out is not None:  # refused at once, not when all is measured
        importlib.import_module("opsin.report.figures")
        check_writable(Path(out) / "compare.json")
    same = bring_together(opened)
    rows = [_row(run, place, same) for place, run in enumerate(opened)]
    notes = [*same.notes]
    for row in rows:
        if row.reported:
            notes.append(
                f"{row.run} is judged by the corrected labels: {row.rescored:,} of the "
                f"{len(same.labels):,} {PART_WORDS[same.part]} labels are others than when it was "
                f"measured, with accuracy {plus_minus(row.reported)}"
            )
    for run in opened:
        if run.directory.read(Report).training.elsewhere:
            notes.append(
                f"{run.path} was imported: whether it learnt from these images is not known"
            )
    files = [run.directory.classifier for run in opened]
    if speed:
        notes += [
            f"{run.path} has no classifier.onnx any more, so its speed is not measured"
            for run, file in zip(opened, files, strict=True)
            if not file.is_file()
        ]
        notes += [busy] if (busy := Machine.here().busy) else []
    for note in notes:
        watcher.note(note)
    if speed:
        there = [file if file.is_file() else None for file in files]
        rows = [
            row
            if rates is None
            else row.model_copy(
                update={
                    "images_per_second": float(np.median(rates)),
                    "slowest": min(rates),
                    "fastest": max(rates),
                }
            )
            for row, rates in zip(rows, rates_in_turn(there, watcher), strict=True)
        ]
    pairs = _pairs(same, [row.letter for row in rows])
    found = Comparison(
        part=same.part,
        images=len(same.labels),
        headline=headline_of(same.part, rows[0].letter, pairs),
        runs=tuple(_with_best(rows, same)),
        pairs=tuple(pairs),
        remarks=remarks_on(same.part, len(pairs), pairs[0].groups),
        notes=tuple(notes),
        files=(),
    )
    if out is None:
        return found
    from opsin.commands.compare_files import write_files  # noqa: PLC0415  needs matplotlib

    return write_files(found, opened, Path(out), watcher)


def _opened(
    runs: Sequence[str | os.PathLike[str]], against: str | os.PathLike[str] | None
) -> list[Run]:
    """Open the runs, the one that the others are set against first."""
    paths = [Path(run) for run in runs]
    if against is not None:
        first = Path(against)
        same = [place for place, path in enumerate(paths) if path.absolute() == first.absolute()]
        if same:
            del paths[same[0]]
        paths.insert(0, first)
    if not 2 <= len(paths) <= _MOST:
        raise RecipeError(
            f"two to {_MOST} runs to compare",
            f"got {len(paths)}",
            "Name the run directories: opsin compare RUN RUN; opsin runs lists them.",
        )
    return [Run(path) for path in paths]


def _row(run: Run, place: int, same: PairedPredictions) -> ComparedRun:
    """Return a run's row of the table; what its version did not know yet is ``None``."""
    from opsin.evaluation.metrics import measure, widen  # noqa: PLC0415  scipy takes a second

    report = run.directory.read(Report)
    figures, reported = report.judged, None
    if same.rescored[place]:
        reported = Accuracy(accuracy=figures.accuracy, low=figures.low, high=figures.high)
    if same.rescored[place] or same.tested[place] > len(same.labels):
        figures = measure(same.probabilities[place], same.labels, same.classes, same.groups)
        if report.split == "out_of_fold":
            figures = widen(figures)
    return ComparedRun(
        **{metric.key: metric.value(figures) for metric in headline_metrics()},
        letter="ABCDEFGHIJ"[place],
        run=str(run.path),
        model=report.model,
        source=report.source,
        accuracy=figures.accuracy,
        low=figures.low,
        high=figures.high,
        tested=same.tested[place],
        rescored=same.rescored[place],
        reported=reported,
        bytes=report.file.bytes,
        parameters=report.training.parameters,
        seconds=report.seconds.get("train"),
        images_per_second=None,
        slowest=None,
        fastest=None,
        parity=report.file.difference,
        best=[],
    )


def _with_best(rows: Sequence[ComparedRun], same: PairedPredictions) -> list[ComparedRun]:
    """Return the rows with the columns in which each is best, and shown to be."""
    most_accurate = shown_best(
        same.answers, same.labels, same.groups, out_of_fold=same.part == "out_of_fold"
    )
    sizes = [math.inf if row.bytes is None else row.bytes for row in rows]
    known = all(row.bytes is not None for row in rows)
    marked = []
    for place, row in enumerate(rows):
        best = ["accuracy"] if place == most_accurate else []
        if known and sizes[place] == min(sizes) and sizes.count(min(sizes)) == 1:
            best.append("bytes")
        fastest = [other.fastest for other in rows if other is not row]
        if row.slowest is not None and all(f is not None and row.slowest > f for f in fastest):
            best.append("images_per_second")
        marked.append(row.model_copy(update={"best": best}))
    return marked


def _pairs(same: PairedPredictions, letters: Sequence[str]) -> list[ComparedPair]:
    """Set each run against the first."""
    answers, unseen = same.answers, same.part == "out_of_fold"
    tests = [
        compare_answers(answers[0], other, same.labels, same.groups, out_of_fold=unseen)
        for other in answers[1:]
    ]
    pairs = []
    for place, test in enumerate(decide(tests), start=1):
        both = (letters[0], letters[place])
        pairs.append(
            ComparedPair.model_validate({
                **dict(test),
                "letters": both,
                "better": {"first": both[0], "second": both[1], None: None}[test.better],
                "sentence": sentence(test, both, same.part, comparisons=len(tests)),
                "disagreements": _disagreements(same, answers, place),
            })
        )  # fmt: skip
    return pairs


def sentence(
    test: PairedTest, letters: tuple[str, str], part: PredictedPart, *, comparisons: int = 1
) -> str:
    """Say what a comparison has shown, or that it has shown nothing."""

    def shown(p: float) -> str:
        return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"

    first, second = letters
    # An image is worth 0.1 points of a thousand, 0.01 of ten thousand: so many digits tell.
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
    same: PairedPredictions, answers: Sequence[NDArray[np.int64]], place: int
) -> list[DifferentAnswers]:
    """Return the images to which a run and the first gave different answers."""
    rows = np.flatnonzero(answers[0] != answers[place])
    said = [(answers[n][rows], same.probabilities[n][rows]) for n in (0, place)]
    shares = [own[np.arange(len(rows)), answer] for answer, own in said]
    right = [answer == same.labels[rows] for answer, _ in said]
    both_wrong = ~(right[0] | right[1])
    # How sure the wrong one of the two answers was; of two wrong ones, the surer.
    mistaken = np.maximum(
        *(np.where(ok, 0, share) for ok, share in zip(right, shares, strict=True))
    )
    digests = digest_names(same.digests[rows])
    return [
        DifferentAnswers(
            name=same.names[rows[n]] if same.names else None,
            digest=digests[n],
            actual=same.classes[same.labels[rows[n]]],
            answers=[
                GivenAnswer(
                    label=same.classes[answer[n]], confidence=float(share[n]), right=bool(ok[n])
                )
                for (answer, _), share, ok in zip(said, shares, right, strict=True)
            ],
        )
        for n in np.lexsort((-mistaken, both_wrong))
    ]
