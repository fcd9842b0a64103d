"""A comparison of runs for terminal, page, studio and ``--json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from opsin.core.artifacts.records import Stored
from opsin.core.artifacts.run_predictions import PredictedPart
from opsin.core.artifacts.run_report import FEW_GROUPS, Accuracy
from opsin.core.format import clock, counted, file_size, plus_minus
from opsin.evaluation.comparison import PairedTest
from opsin.evaluation.metric_table import headline_metrics

#: The legend of bold figures.
BOLD: Final = (
    "Bold: the best of its column, and shown to be: accuracy by tests of all pairs, size by "
    "counting."
)


class ComparedRun(Accuracy):
    """A run in a comparison; ``None`` for unknown figures."""

    letter: str
    run: str
    model: str
    source: str
    tested: int | None = None
    rescored: int
    reported: Accuracy | None
    bytes: int | None
    parameters: int | None
    seconds: float | None
    parity: float | None
    best: list[str]


class GivenAnswer(Stored):
    """One run's answer to an image."""

    label: str
    confidence: float
    right: bool


class DifferentAnswers(Stored):
    """An image that two runs answered differently, with the answer of each."""

    name: str
    digest: str
    actual: str
    answers: list[GivenAnswer]


class ComparedPair(PairedTest):
    """Two runs on the same images: the test, with ``better`` as a letter, and in words."""

    letters: list[str]
    sentence: str
    disagreements: list[DifferentAnswers]

    def by_who_is_right(self) -> list[tuple[str, list[DifferentAnswers]]]:
        """The disagreements by who is right, kinds without images left out."""
        first, second = self.letters
        kinds: dict[tuple[bool, ...], tuple[str, list[DifferentAnswers]]] = {
            (False, True): (f"Only {second} is right", []),
            (True, False): (f"Only {first} is right", []),
            (False, False): ("Both are wrong, in different ways", []),
        }
        for image in self.disagreements:
            kinds[tuple(answer.right for answer in image.answers)][1].append(image)
        return [(title, images) for title, images in kinds.values() if images]


class Comparison(Stored):
    """Result of `opsin.compare`: the runs side by side, and a paired test for each pair.

    ``part`` is ``test``, or ``val`` if no run has test images, or ``out_of_fold`` if a run was
    judged by all its images. ``pairs`` sets the first run against each other one. ``files``: the
    written files, if any, the page first.
    """

    part: PredictedPart
    images: int
    headline: str
    runs: tuple[ComparedRun, ...]
    pairs: tuple[ComparedPair, ...]
    remarks: list[str]
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.runs)} runs: {self.headline}>"


def headline_of(part: str, first: str, pairs: Sequence[ComparedPair]) -> str:
    """Return the finding in a few words: the title of page and chart."""
    if len(pairs) == 1:
        return pairs[0].sentence.partition(" (")[0]
    words = [
        f"{pair.letters[1]} "
        + {None: "not shown to differ", first: "is worse"}.get(pair.better, "is better")
        for pair in pairs
    ]
    optimistic = " (validation, optimistic)" if part == "val" else ""
    return f"Against {first}: {', '.join(words)}{optimistic}"


def remarks_on(part: str, comparisons: int, groups: int | None = None) -> list[str]:
    """Return remarks on how to read a comparison."""
    remarks = []
    if groups is not None and groups < FEW_GROUPS:
        remarks.append(
            f"The images come in {counted(groups, 'group')}, which are few: intervals are rough."
        )
    if part == "val":
        remarks.append(
            "Validation, optimistic: there are no test images, and each run chose its best "
            "epoch by these."
        )
    if comparisons > 1:
        remarks.append(
            f"There are {comparisons} comparisons, and of many, some look good by chance: "
            "p is adjusted (Holm), so that all of them together err in 5% of cases. Each "
            "interval stands for itself."
        )
    return remarks


class Column(NamedTuple):
    """One column of the table."""

    heading: str
    cells: list[tuple[str, bool]]


def columns_of(rows: Sequence[ComparedRun]) -> list[Column]:
    """Return the columns that at least one run has values for."""
    shown: list[tuple[str, str, Callable[[Any], str]]] = [
        (metric.key, metric.column or metric.heading, "{:.3f}".format)
        for metric in headline_metrics()
    ]
    shown += [
        ("bytes", "File", file_size),
        ("parameters", "Para- meters", "{:,}".format),
        ("seconds", "Training", clock),
        ("parity", "Parity", "{:.0e}".format),
    ]
    columns = [
        Column("", [(row.letter, False) for row in rows]),
        Column("Model", [(row.model, False) for row in rows]),
        Column("Accuracy", [(plus_minus(row), "accuracy" in row.best) for row in rows]),
    ]
    for key, heading, words in shown:
        values = [(getattr(row, key, None), key in row.best) for row in rows]
        if any(value is not None for value, _ in values):
            cells = [("" if value is None else words(value), best) for value, best in values]
            columns.append(Column(heading, cells))
    return columns
