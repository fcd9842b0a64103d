"""How good a classifier is, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opsin.core.artifacts.run_predictions import PredictedPart
from opsin.core.artifacts.run_report import PartFigures, Report, Slices
from opsin.core.format import count, counted
from opsin.report.side_by_side import ComparedPair, Comparison
from opsin.studio.runs.run_index import RunRow

# From this width of an interval on, whole percents say enough.
_WIDE: Final = 0.03

_JUDGED_BY: Final[dict[PredictedPart, str]] = {
    "out_of_fold": "Each photograph was judged by a network that had not seen it.",
    "test": "The photographs were kept apart for this test; it had never seen them.",
    "val": "This is optimistic: the best settings were chosen by these same photographs.",
}


def share(value: float, *, digits: int = 0) -> str:
    """A share in percent, by default without decimals."""
    return f"{100 * value:.{digits}f}%"


def span(low: float, high: float) -> str:
    """An interval in percent, such as ``88–97%``."""
    digits = 0 if high - low >= _WIDE else 1
    return f"{100 * low:.{digits}f}–{share(high, digits=digits)}"


def right_of(accuracy: float, images: int) -> str:
    """How many of the photographs got the right answer."""
    return f"Right for {count(round(accuracy * images))} of {count(images)}"


def headline(report: Report) -> str:
    """The verdict in a few words, with its interval."""
    figures = report.judged
    return f"{right_of(figures.accuracy, figures.images)} ({span(figures.low, figures.high)})"


def in_short(row: RunRow) -> str:
    """The verdict of a run on a card; ``""`` until it is known."""
    if row.accuracy is None or not row.images:
        return ""
    interval = "" if row.low is None or row.high is None else f" ({span(row.low, row.high)})"
    optimistic = ", optimistic" if row.split == "val" else ""
    return f"{right_of(row.accuracy, row.images)}{interval}{optimistic}"


def judged_by(report: Report) -> str:
    """Which photographs the verdict rests on, and whether they make it look too good."""
    if report.training.elsewhere:
        return "It was trained elsewhere. Whether it learnt from these photographs is not known."
    return _JUDGED_BY[report.split]


def weakest(figures: PartFigures) -> tuple[int, str] | None:
    """The class with the smallest share of right answers, and what it is taken for.

    ``None`` where every answer is right.
    """
    rows = [(figures.confusion[i][i] / sum(row), i) for i, row in enumerate(figures.confusion)
            if sum(row) > figures.confusion[i][i]]  # fmt: skip
    if not rows:
        return None
    _, label = min(rows)
    row, names = figures.confusion[label], [entry.name for entry in figures.classes]
    other = max((i for i in range(len(row)) if i != label), key=lambda i: row[i])
    return label, (
        f"Weakest: {names[label]}, {count(row[label])} of {count(sum(row))} right, "
        f"{counted(row[other], 'time')} taken for {names[other]}"
    )


def warnings(report: Report) -> list[str]:
    """What limits the verdict, where something does."""
    figures, leaks, lines = report.judged, report.leaks, list[str]()
    if cause := report.training.diverged:
        lines.append(f"The training broke off: {cause}. This is the best state before that.")
    if report.rests_on:
        lines.append(report.rests_on)
    if report.split == "test" and report.looks > 1:
        lines.append(
            f"These test photographs have judged {count(report.looks)} classifiers. The best of "
            "several figures is a little too good."
        )
    if figures.few_groups:
        lines.append(
            f"The photographs come in only {counted(figures.groups or 0, 'group')}, so the range "
            "is rough."
        )
    if leaks.all_copied:
        lines.append(
            "Every test photograph has a copy among the training photographs, so others judge."
        )
    elif shared := leaks.exact + leaks.near:
        have = counted(shared, "test photograph has", "test photographs have")
        line = f"{have} a copy or near copy among the training photographs."
        if without := figures.without_leaks:
            line += f" Without them: {right_of(without.accuracy, without.images).lower()}."
        lines.append(line)
    if corrected := figures.corrected:
        if corrected.labels:
            earlier = corrected.earlier
            before = right_of(earlier.accuracy, earlier.images).lower()
            have = counted(corrected.labels, "label was", "labels were")
            lines.append(f"{have} corrected. By the earlier labels it is {before}.")
        if corrected.left_out:
            have = counted(corrected.left_out, "photograph was", "photographs were")
            lines.append(f"{have} left out by corrections and judge nothing.")
    return lines


def trust(report: Report) -> str:
    """How far confidence and accuracy differ."""
    figures = report.judged
    error = figures.calibration_error or 0.0
    bins = [entry for entry in figures.reliability if entry.count]
    if not bins:
        return "There are too few answers to tell."
    last = bins[-1]
    return (
        f"Of the {counted(last.count, 'answer')} with a confidence over {share(last.low)}, "
        f"{share(last.accuracy)} were right. On average, confidence and accuracy differ by "
        f"{100 * error:.0f} points."
    )


def refusals(report: Report) -> list[str]:
    """What is known of the answer "none of these"."""
    lines = []
    if refused := report.judged.refused:
        lines.append(
            f'It answered "none of these" to {count(refused.count)} of your '
            f"{count(refused.images)} photographs ({share(refused.share, digits=1)})."
        )
    if ood := report.ood:
        lines.append(
            "Photographs of a class that it has never seen look stranger to it than yours in "
            f"{share(ood.near)} of all pairs; noise, text and drawings in {share(ood.far)}. "
            "Half would be chance."
        )
    return lines


def slice_words(slices: Slices) -> str:
    """What the table of slices says."""
    if slices.too_weak:
        return f"There are too few right answers to tell kinds apart: {slices.too_weak}."
    weak = [entry for entry in slices.weakest if entry.weak]
    if not weak:
        return "No kind of photograph is clearly worse than the others."
    worst = weak[0]
    why = ", as its classes explain" if worst.explained else ""
    return f"Worse than the others: {worst.name}, {share(worst.accuracy)} right{why}."


def confidence_of(probability: float) -> str:
    """A confidence in whole percents; never 100%, which no classifier knows."""
    return ">99%" if probability > 0.995 else share(probability)


def compared_headline(pair: ComparedPair, first: str, other: str) -> list[str]:
    """Which of two classifiers is right more often, in one sentence; then the evidence."""
    images, alone = counted(pair.images, "photograph"), {first: pair.only_first}
    alone = {other: pair.only_second} | alone
    verdict = f"No clear winner on {images}"
    if pair.better is not None:
        winner, loser = (other, first) if pair.better == pair.letters[1] else (first, other)
        verdict = (
            f"{winner} is right more often: {counted(alone[winner], 'photograph')} better, "
            f"{count(alone[loser]) if alone[loser] else 'none'} worse"
        )
    if not any(alone.values()):
        return [verdict, f"Both are right for the same {count(pair.both_right)} of {images}."]
    parts = [f"Both are right for {count(pair.both_right)} of {images}"]
    parts += [f"only {name} for {count(number)}" for name, number in alone.items() if number]
    parts += [f"neither for {count(pair.both_wrong)}"] * bool(pair.both_wrong)
    low, difference, high = (
        f"{100 * value:+.1f}".replace("-", "−") for value in (pair.low, pair.difference, pair.high)
    )
    points = f"{other} compared with {first}: {difference} points ({low} to {high})"
    return [verdict, f"{', '.join(parts)}. {points}."]


def compared_notes(comparison: Comparison, names: Sequence[str]) -> list[str]:
    """What a comparison rests on: corrections told apart from what training changed."""
    lines = []
    for run, name in zip(comparison.runs, names, strict=True):
        if run.reported is not None:
            was = right_of(run.reported.accuracy, run.reported.images).lower()
            now = right_of(run.accuracy, run.images).lower()
            have = counted(run.rescored, "label was", "labels were")
            lines.append(
                f"{have} corrected after {name} was tested. By its labels it was {was}; by the "
                f"corrected labels it is {now}. Both are compared by the corrected labels, so that "
                "only the training makes the difference."
            )
    if comparison.part == "val":
        lines.append(
            "This is optimistic: there are no test photographs, and each classifier chose its best "
            "settings by these."
        )
    known = ("is judged by the corrected labels", "Validation, optimistic")
    others = [*comparison.remarks, *comparison.notes]
    lines += [line for line in others if not any(words in line for words in known)]
    return [line if line.endswith(".") else f"{line}." for line in lines]
