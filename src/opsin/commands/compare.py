"""Which of several runs is better, if any is shown to be."""

from __future__ import annotations

import html
import importlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.machine import this_machine
from opsin.commands.paired_predictions import WORDS, PairedPredictions, Part, bring_together
from opsin.commands.runs import Run
from opsin.commands.throughput import rates_in_turn
from opsin.core.arguments import checked
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import with_interval
from opsin.core.storage import check_writable

#: More runs than this make no table and no chart that anyone can read.
_MOST: Final = 10


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found: a table of the runs, and a paired test for each pair.

    Args:
        part: What was judged by: ``test``, or ``val`` where no run has test images.
        images: Number of images.
        runs: A row for each run, ``letter`` first; ``best`` names the columns in which it is best
            and shown to be. Where labels were corrected since a run was measured, ``rescored`` is
            how many, and ``reported`` its accuracy then. What an older run does not know is
            ``None``.
        pairs: The first run against each other one: the fields of
            `opsin.evaluation.comparison.decide`, with the two ``letters``, ``better`` as a letter
            or ``None``, the ``sentence``, and the ``disagreements``: images that got different
            answers.
        notes: What the reader should know of how the runs were compared.
        files: What was written, where it was asked for: the page first.
    """

    part: Part
    images: int
    runs: tuple[dict[str, Any], ...]
    pairs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def headline(self) -> str:
        """The finding in a few words: the title of page and chart."""
        said = [pair["sentence"].partition(" (")[0] for pair in self.pairs]
        if len(said) == 1:
            return str(said[0])
        first = self.runs[0]["letter"]
        words = [
            f"{pair['letters'][1]} "
            + {None: "not shown to differ", first: "is worse"}.get(pair["better"], "is better")
            for pair in self.pairs
        ]
        optimistic = " (validation, optimistic)" if self.part == "val" else ""
        return f"Against {first}: {', '.join(words)}{optimistic}"

    @property
    def remarks(self) -> list[str]:
        """What the figures do and do not mean."""
        remarks = []
        if self.part == "val":
            remarks.append(
                "Validation, optimistic: there are no test images, and each run chose its best "
                "epoch by these."
            )
        if len(self.pairs) > 1:
            remarks.append(
                f"There are {len(self.pairs)} comparisons, and of many, some look good by chance: "
                "p is adjusted (Holm), so that all of them together err in 5% of cases. Each "
                "interval stands for itself."
            )
        return remarks

    def to_json(self) -> dict[str, Any]:
        """Return everything as ``--json`` prints it."""
        return {
            "part": self.part,
            "images": self.images,
            "headline": self.headline,
            "runs": list(self.runs),
            "pairs": list(self.pairs),
            "remarks": self.remarks,
            "notes": list(self.notes),
            "files": [str(path) for path in self.files],
        }

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.runs)} runs: {self.headline}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{row['letter']}</th><td>{html.escape(str(row['model']))}</td>"
            f"<td>{_accuracy(row)}</td><td>{html.escape(row['run'])}</td></tr>"
            for row in self.runs
        )
        said = "".join(f"<p>{html.escape(pair['sentence'])}.</p>" for pair in self.pairs)
        return f"<table>{rows}</table>{said}"


@checked
def compare(
    *runs: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    speed: bool = True,
    watcher: Watcher = SILENT,
) -> Comparison:
    """Compare runs by the same images, and say which is better, if that is shown.

    Each is set against the first. One is called better only where an exact McNemar test and a
    paired bootstrap interval agree; otherwise no difference can be shown.

    Args:
        *runs: Two to ten run directories with the same test images and classes.
        against: The run that the others are set against (default: the first).
        out: Folder for ``compare.html``, ``compare.json`` and the figures.
        speed: Measure how many images a second each classifier answers on this machine.
        watcher: Is told how far the work is.

    Raises:
        RecipeError: Fewer than two runs, or more than ten.
        RunError: A run is not finished, or they have other images, labels or classes.
        MissingExtraError: SciPy or matplotlib is not installed.
        StorageError: The disk refuses a write.

    Example:
        >>> import tempfile
        >>> from opsin import train
        >>> folder = tempfile.mkdtemp()
        >>> run = train("digits", model="mlp", epochs=1, runs=folder, quiet=True)
        >>> found = compare(run, run, speed=False)
        >>> found.pairs[0]["p"], found.pairs[0]["better"]
        (1.0, None)
    """
    opened = _opened(runs, against)
    if out is not None:  # at once, not when all is measured
        importlib.import_module("opsin.report.figures")
        check_writable(Path(out) / "compare.json")
    from opsin.evaluation.comparison import compare_answers, decide, shown_best  # noqa: PLC0415

    same = bring_together(opened)
    answers = same.answers
    tests = [compare_answers(answers[0], other, same.labels) for other in answers[1:]]
    rows = [_row(run, place, same) for place, run in enumerate(opened)]
    notes = [*same.notes, *_rescored_in_words(rows, same)]
    for note in notes:
        watcher.note(note)
    if speed:
        notes += _measure_speed(rows, opened, watcher)
    _mark_best(rows, shown_best(answers, same.labels))
    pairs = []
    for place, test in enumerate(decide(tests), start=1):
        letters = (rows[0]["letter"], rows[place]["letter"])
        pair = _pair(test, letters, same.part, len(tests))
        pairs.append({**pair, "disagreements": _disagreements(same, answers, place)})
    found = Comparison(same.part, len(same.labels), tuple(rows), tuple(pairs), tuple(notes))
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


def _row(run: Run, place: int, same: PairedPredictions) -> dict[str, Any]:
    """Return a run's row of the table; what its version did not know yet is ``None``."""
    from opsin.evaluation.metrics import measure  # noqa: PLC0415

    report = run.directory.read(Report)
    kept = report.figures[same.part]
    figures, reported = kept.to_json(), None
    if same.rescored[place]:
        reported = {"accuracy": kept.accuracy, "low": kept.low, "high": kept.high}
        figures = measure(same.probabilities[place], same.labels, same.classes)
    return {
        "letter": "ABCDEFGHIJ"[place],
        "run": str(run.path),
        "model": report.model,
        "source": report.source,
        **{key: figures[key] for key in ("accuracy", "low", "high", "log_loss")},
        "calibration_error": figures.get("calibration_error"),
        "rescored": same.rescored[place],
        "reported": reported,
        "bytes": report.file.bytes,
        "parameters": report.training.parameters,
        "seconds": report.seconds.get("train"),
        "images_per_second": None,
        "slowest": None,
        "fastest": None,
        "parity": report.file.difference,
        "best": [],
    }


def _rescored_in_words(rows: Sequence[dict[str, Any]], same: PairedPredictions) -> list[str]:
    return [
        f"{row['run']} is judged by the corrected labels: {row['rescored']:,} of the "
        f"{len(same.labels):,} {WORDS[same.part]} labels are others than when it was measured, "
        f"with accuracy {_accuracy(row['reported'])}"
        for row in rows
        if row["reported"]
    ]


def _measure_speed(
    rows: Sequence[dict[str, Any]], runs: Sequence[Run], watcher: Watcher
) -> list[str]:
    """Measure the classifiers that are there, and say what was in the way."""
    files = [run.directory.classifier for run in runs]
    there = [file if file.is_file() else None for file in files]
    notes = [
        f"{run.path} has no classifier.onnx any more, so its speed is not measured"
        for run, file in zip(runs, there, strict=True)
        if file is None
    ]
    machine = this_machine()
    if machine.busy():
        notes.append(
            f"other programs keep this machine at work (load {machine.load:.1f} on "
            f"{machine.threads} threads), so it can answer faster than the table shows"
        )
    for note in notes:
        watcher.note(note)
    for row, rates in zip(rows, rates_in_turn(there, watcher), strict=True):
        if rates:
            row["images_per_second"] = float(np.median(rates))
            row["slowest"], row["fastest"] = min(rates), max(rates)
    return notes


def _mark_best(rows: Sequence[dict[str, Any]], most_accurate: int | None) -> None:
    """Note in each row the columns in which it is best, and shown to be."""
    if most_accurate is not None:
        rows[most_accurate]["best"].append("accuracy")
    sizes = [row["bytes"] for row in rows]
    if None not in sizes and sizes.count(min(sizes)) == 1:
        rows[sizes.index(min(sizes))]["best"].append("bytes")
    for row in rows:
        others = [other["fastest"] for other in rows if other is not row]
        known = row["slowest"] is not None and None not in others
        if known and all(row["slowest"] > fastest for fastest in others):
            row["best"].append("images_per_second")


def _pair(
    test: dict[str, Any], letters: tuple[str, str], part: Part, comparisons: int
) -> dict[str, Any]:
    """Return a decided test with letters for the runs, and in words."""
    better = {"first": letters[0], "second": letters[1], None: None}[test["better"]]
    pair = {**test, "letters": list(letters), "better": better}
    return {**pair, "sentence": sentence(pair, letters, part, comparisons=comparisons)}


def sentence(
    pair: dict[str, Any], letters: tuple[str, str], part: Part, *, comparisons: int = 1
) -> str:
    """Say what a comparison has shown, or that it has shown nothing.

    Args:
        pair: Fields of `opsin.evaluation.comparison.decide`, ``better`` as a letter.
        letters: Of the one and the other.
        part: Which images.
        comparisons: How many there are in all.

    Example:
        >>> pair = {"images": 1000, "difference": 0.012, "low": 0.006, "high": 0.018, "p": 0.0003,
        ...         "p_adjusted": 0.0003, "better": "B"}
        >>> sentence(pair, ("A", "B"), "test")
        'B is better than A by 1.2 points, 95% interval 0.6 to 1.8 (exact McNemar p = 0.0003)'
    """
    first, second = letters
    # An image is worth 0.1 points of a thousand, 0.01 of ten thousand: so many digits tell.
    digits = max(1, math.ceil(math.log10(pair["images"])) - 2)
    p = f"exact McNemar p {_p(pair['p'])}"
    if comparisons > 1:
        p += f", {_p(pair['p_adjusted'])} adjusted for {comparisons} comparisons"
    sign = -1 if pair["better"] == first else 1
    ends = sorted((sign * pair["low"], sign * pair["high"]))
    size, low, high = (
        f"{round(100 * value, digits) + 0.0:.{digits}f}"
        for value in (sign * pair["difference"], *ends)
    )
    optimistic = "Validation, optimistic: " if part == "val" else ""
    if pair["better"] is None:
        return (
            f"{optimistic}{'no' if optimistic else 'No'} difference between {first} and {second} "
            f"can be shown with these {pair['images']:,} {WORDS[part]} images ({second} less "
            f"{first}: {size} points, 95% interval {low} to {high}, {p})"
        )
    loser = second if pair["better"] == first else first
    return (
        f"{optimistic}{pair['better']} is better than {loser} by {size} points, 95% interval {low} "
        f"to {high} ({p})"
    )


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.2g}"


def _disagreements(
    same: PairedPredictions, answers: Sequence[NDArray[np.int64]], place: int
) -> list[dict[str, Any]]:
    """Return the images to which a run and the first gave different answers.

    First those that one of them has right, and of these the most confidently mistaken.
    """
    rows = np.flatnonzero(answers[0] != answers[place])
    said = [(answers[n][rows], same.probabilities[n][rows]) for n in (0, place)]
    shares = [own[np.arange(len(rows)), answer] for answer, own in said]
    right = [answer == same.labels[rows] for answer, _ in said]
    both_wrong = ~(right[0] | right[1])
    # How sure the wrong one of the two answers was; of two wrong ones, the surer.
    mistaken = np.maximum(
        *(np.where(ok, 0, share) for ok, share in zip(right, shares, strict=True))
    )
    return [
        {
            "name": same.names[rows[n]] if same.names else None,
            "digest": same.digests[rows[n]].tobytes().hex(),
            "actual": same.classes[same.labels[rows[n]]],
            "answers": [
                {
                    "label": same.classes[answer[n]],
                    "confidence": float(share[n]),
                    "right": bool(ok[n]),
                }
                for (answer, _), share, ok in zip(said, shares, right, strict=True)
            ],
        }
        for n in np.lexsort((-mistaken, both_wrong))
    ]


def _accuracy(row: dict[str, Any]) -> str:
    return with_interval(row["accuracy"], row["low"], row["high"])
