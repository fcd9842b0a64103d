"""What `opsin explain` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from opsin.core.format import counted, decimals, percent
from opsin.inspection.lessons.lesson_terms import SENTENCES, Term
from opsin.report.terminal import bar, printable
from opsin.runtime.prediction import CANNOT_TELL

if TYPE_CHECKING:
    from opsin.commands.explain import Explained
    from opsin.inspection.lessons.batch_normalisation import BatchNormalisationLesson
    from opsin.inspection.lessons.convolution import ConvolutionLesson
    from opsin.inspection.lessons.dropout import DropoutLesson
    from opsin.inspection.lessons.pooling import PoolingLesson
    from opsin.inspection.lessons.softmax import SoftmaxLesson

# Rows of a table that a screen should show; --json has all.
_ROWS: Final = 10
# Sides of a window up to which its numbers are printed.
_WIDEST: Final = 7
# Temperatures that are tried beside the file's own.
_TEMPERATURES: Final = (0.5, 1.0, 2.0, 5.0)


def show_explained(screen: Console, found: Explained) -> None:
    """Print a lesson; or, where none was asked for, which there are.

    Args:
        screen: Where to.
        found: What was found.
    """
    lesson, answer = found.lesson, found.answer
    if lesson is None or answer is None:
        screen.print(_terms(found.terms))
        return
    said = f"{printable(answer.name)}   {printable(answer.answer)}   {percent(answer.confidence)}"
    screen.print(said, markup=False)
    if answer.rejected is None:
        screen.print(f"{CANNOT_TELL}.", style="dim")
    screen.print(f"{printable(lesson.layer)}   {printable(lesson.kind)}", markup=False)
    screen.print(SENTENCES[lesson.term], markup=False)
    for part in _PARTS[lesson.term](lesson):
        screen.print()
        screen.print(part, markup=False) if isinstance(part, str) else screen.print(part)
    if found.figure is not None:
        screen.print(f"\nFigure    {found.figure}", markup=False, soft_wrap=True)


def _terms(terms: Mapping[Term, Sequence[str]]) -> Table:
    table = _table("Term", "Layers", "What it does", left=3)
    for term, sentence in SENTENCES.items():
        layers = terms.get(term, ())
        more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
        table.add_row(term, _plain(", ".join(layers[:3]) + more) or "none here", sentence)
    return table


def _table(*headings: str, left: int = 1) -> Table:
    """Return an empty table, its first columns for words and the others for figures."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right", overflow="fold")
    return table


def _plain(text: str) -> str:
    return escape(printable(text))


def _grid(values: NDArray[Any], marked: NDArray[np.bool_] | None = None) -> Table:
    """Return numbers in rows and columns; those marked stand in brackets."""
    places = decimals(float(np.abs(values).max()))
    table = Table.grid(padding=(0, 1))
    for _ in range(values.shape[1]):
        table.add_column(justify="right", no_wrap=True)
    for row, row_marked in zip(
        values, np.zeros(values.shape, bool) if marked is None else marked, strict=True
    ):
        table.add_row(
            *(
                f"[bold]{escape(f'[{value:.{places}f}]')}[/]" if mark else f"{value:.{places}f} "
                for value, mark in zip(row, row_marked, strict=True)
            )
        )
    return table


def _beside(parts: Sequence[tuple[str, RenderableType]], signs: Sequence[str]) -> Table:
    """Return tables side by side, a heading over each and a sign between them."""
    table = Table.grid(padding=(0, 2))
    headings: list[str] = []
    cells: list[RenderableType] = []
    for place, (heading, cell) in enumerate(parts):
        if place:
            table.add_column(vertical="middle", justify="center")
            headings.append("")
            cells.append(signs[place - 1])
        table.add_column(no_wrap=True)
        headings.append(f"[bold]{heading}[/]")
        cells.append(cell)
    table.add_row(*headings)
    table.add_row(*cells)
    return table


def _sums(rows: Sequence[tuple[str, float]]) -> Table:
    """Return names with numbers in one column."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    for name, value in rows:
        table.add_row(name, f"{value:.4f}")
    return table


def _convolution(lesson: ConvolutionLesson) -> Iterator[RenderableType]:
    row, column = lesson.place
    yield (
        f"Map {lesson.unit} of {lesson.units}, row {row}, column {column}, counted from 0: the "
        f"layer's largest number whose window lies inside."
    )
    map_ = lesson.strongest
    tall, wide = lesson.inside.shape
    if max(tall, wide) <= _WIDEST:
        several = len(lesson.window) > 1
        of = f" on map {lesson.first + map_}" if several else ""
        parts = (
            (f"Window{of}", _grid(lesson.window[map_])),
            ("Kernel", _grid(lesson.kernel[map_])),
            ("Products", _grid(lesson.products[map_])),
        )
        if wide <= 3:
            yield _beside(parts, ("×", "="))
        else:
            for heading, grid in parts:
                yield _beside([(heading, grid)], ())
    else:
        yield f"The window has {tall}×{wide} numbers on each map; --json and --plot have them."
    order = np.argsort(-np.abs(lesson.sums), kind="stable")
    rows = [
        (f"Products on map {lesson.first + place}", float(lesson.sums[place]))
        for place in order[:_ROWS]
    ]
    if len(order) > _ROWS:
        rest = float(lesson.sums[order[_ROWS:]].sum())
        rows.append((f"Products on {counted(len(order) - _ROWS, 'other map')}", rest))
    yield _sums(
        [*rows, ("Bias", lesson.bias), ("Sum", lesson.total), ("In the file", lesson.output)]
    )


def _pooling(lesson: PoolingLesson) -> Iterator[RenderableType]:
    before, after = lesson.before.shape, lesson.after.shape
    yield (
        f"Map {lesson.unit} of {lesson.units}, counted from 0: {before[0]}×{before[1]} numbers "
        f"become {after[0]}×{after[1]}. Each is the {lesson.takes} of its window."
    )
    windows = lesson.windows
    if max(windows[0].values.shape) > _WIDEST:
        yield _sums([(f"{lesson.takes.capitalize()} of the map", windows[0].output)])
        return
    top, left, bottom, right = lesson.covered
    block = lesson.before[top:bottom, left:right]
    marked = np.zeros(block.shape, bool)
    for each in windows:
        if each.picked is not None:
            marked[each.picked[0] - top, each.picked[1] - left] = True
    across = len({each.place[1] for each in windows})
    outputs = np.array([each.output for each in windows]).reshape(-1, across)
    yield _beside(
        [
            (f"Rows {top} to {top + len(block) - 1}, columns {left} to {left + block.shape[1] - 1}",
             _grid(block, marked)),
            ("Afterwards", _grid(outputs)),
        ],
        ("→",),
    )  # fmt: skip


def _batch_normalisation(lesson: BatchNormalisationLesson) -> Iterator[RenderableType]:
    unit = lesson.unit
    where = "" if lesson.place is None else f", row {lesson.place[0]}, column {lesson.place[1]}"
    yield f"Unit {unit}{where}: the largest number of the layer."
    yield _sums(
        [
            ("Before", lesson.given),
            ("− mean in training", float(lesson.mean[unit])),
            ("÷ deviation in training", float(lesson.deviation[unit])),
            ("= normalised", lesson.normalised),
            ("× scale", float(lesson.scale[unit])),
            ("+ shift", float(lesson.shift[unit])),
            ("= after", lesson.total),
            ("In the file", lesson.output),
        ]
    )
    table = _table(
        "Unit", "Mean before", "Deviation", "Mean in training", "Deviation", "Scale", "Shift",
        "Mean after", "Deviation",
    )  # fmt: skip
    before, after = lesson.spread(lesson.before), lesson.spread(lesson.after)
    for number in lesson.rows(_ROWS):
        columns = (*before, lesson.mean, lesson.deviation, lesson.scale, lesson.shift, *after)
        table.add_row(str(number), *(f"{column[number]:.3f}" for column in columns))
    more = len(lesson.mean) - _ROWS
    yield table
    if more > 0:
        yield f"{counted(more, 'unit')} more in --json."


def _dropout(lesson: DropoutLesson) -> Iterator[RenderableType]:
    dropped = f"{lesson.rate:.0%} of {counted(lesson.values.size, 'value')}"
    scaled = f"the others are multiplied by {1 / (1 - lesson.rate):.2f}"
    if lesson.added:
        where = f"As if it stood before {printable(lesson.layer)}"
        yield f"This network has no dropout. {where}: {dropped} are set to 0, {scaled}."
    else:
        assumed = " (the file does not say how many; half is usual)" if lesson.assumed else ""
        yield f"While training, {dropped} are set to 0{assumed}, {scaled}."
    yield "Some of these values, without dropout and in the first answer with it:"
    table = _table("Value", "Off", "On")
    for place, before, after in lesson.examples():
        table.add_row(f"{place}", f"{before:.3f}", f"{after:.3f}")
    yield table
    answers = _table("Answer", "Dropped", "Label", "", "Confidence", left=4)
    answers.columns[1].justify = answers.columns[4].justify = "right"
    best = float(lesson.off.max())
    answers.add_row("off", "0", _plain(lesson.label), f"[blue]{bar(best, 20)}[/]", percent(best))
    for number, ((label, share), kept) in enumerate(
        zip(lesson.answers, lesson.kept, strict=True), start=1
    ):
        colour = "blue" if label == lesson.label else "red"
        lost = kept.size - np.count_nonzero(kept)
        answers.add_row(
            str(number),
            f"{lost:,}",
            _plain(label),
            f"[{colour}]{bar(share, 20)}[/]",
            percent(share),
        )
    yield answers
    counts = " · ".join(f"{printable(label)} {count}" for label, count in lesson.counts)
    shares = lesson.in_its_favour
    yield (
        f"{counts}\nProbability of {printable(lesson.label)}: {percent(best)} without dropout, "
        f"{percent(float(shares.min()))} to {percent(float(shares.max()))} with it, "
        f"{percent(float(shares.mean()))} on average."
    )


def _softmax(lesson: SoftmaxLesson) -> Iterator[RenderableType]:
    calibrated = "" if lesson.temperature == 1 else ", which calibration found"
    yield f"Temperature {lesson.temperature:.3f}{calibrated}."
    mixed = bool(np.any(lesson.mix))
    tried = [lesson.at(each) for each in _TEMPERATURES]
    table = _table(
        "Class", "Logit", *(("Mix",) if mixed else ()), "e^(logit/T)", "Probability",
        *(f"T = {each:g}" for each in _TEMPERATURES),
    )  # fmt: skip
    own = lesson.exponentials
    for place in lesson.order[:_ROWS]:
        table.add_row(
            _plain(lesson.classes[place]),
            f"{lesson.logits[place]:.3f}",
            *((f"{lesson.mix[place]:.3f}",) if mixed else ()),
            f"{own[place]:.4f}",
            percent(float(lesson.probabilities[place])),
            *(percent(float(each[place])) for each in tried),
        )
    rest = lesson.order[_ROWS:]
    if rest:
        table.add_row(
            counted(len(rest), "other", "others"), "", *(("",) if mixed else ()),
            f"{own[rest].sum():.4f}", percent(float(lesson.probabilities[rest].sum())),
            *(percent(float(each[rest].sum())) for each in tried),
        )  # fmt: skip
    yield table
    yield "A probability is the share of e^(logit/T) in all of them; the largest is put as 1."


_PARTS: Final[dict[Term, Callable[[Any], Iterator[RenderableType]]]] = {
    "convolution": _convolution,
    "pooling": _pooling,
    "batch-normalisation": _batch_normalisation,
    "dropout": _dropout,
    "softmax": _softmax,
}
