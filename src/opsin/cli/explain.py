"""`opsin explain`: what a layer does, with real numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from opsin.cli.output import columns, console, plain, print_json
from opsin.core.format import counted, decimals, percent
from opsin.inspection.lessons.lesson_terms import SENTENCES, Term
from opsin.report.terminal import bar, for_people, printable
from opsin.runtime.prediction import CANNOT_TELL

if TYPE_CHECKING:
    from opsin.commands.inspect import Explained
    from opsin.inspection.lessons.values import (
        BatchNormalisationLesson,
        DropoutLesson,
        SoftmaxLesson,
    )
    from opsin.inspection.lessons.windows import ConvolutionLesson, PoolingLesson

# Most rows of a printed table; --json has all.
_ROWS: Final = 10
# Largest side of a window whose numbers are printed.
_WIDEST: Final = 7
# Temperatures shown beside the file's own.
_TEMPERATURES: Final = (0.5, 1.0, 2.0, 5.0)


def explain(
    model: Path,
    image: str | None = None,
    *,
    term: Term | None = None,
    layer: str | None = None,
    data: list[str] | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Explain what a layer does, with its real numbers for one image.

    Example: opsin explain runs/2026-11-21-fashion-mnist-cnn --term convolution

    Example: opsin explain runs/2026-11-21-fashion-mnist-cnn boot.jpg --term softmax

    Options:
        image (IMAGE): An image; or one of the run's, by name, or by part and number: test/17
            (default: the first test image).
        term: What to explain (default: list what this network has).
        layer (NAME): At which layer (default: the first one of that kind).
    """
    from opsin.commands.inspect import explain as workflow  # noqa: PLC0415  slow to load

    explained = workflow(
        model, term, image, layer=layer, data=data or (), watcher=for_people(quiet=quiet)
    )
    if as_json:
        print_json(explained.to_json())
    else:
        _show(console(), explained)


def _show(screen: Console, explained: Explained) -> None:
    """Print a lesson, or list those available."""
    lesson, answer = explained.lesson, explained.answer
    if lesson is None or answer is None:
        terms = columns("Term", "Layers", "What it does", gap=2)
        for term, sentence in SENTENCES.items():
            layers = explained.terms.get(term, ())
            more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
            terms.add_row(term, plain(", ".join(layers[:3]) + more) or "none here", sentence)
        screen.print(terms)
        return
    words = printable(answer.name), printable(answer.answer), percent(answer.confidence)
    screen.print("   ".join(words), markup=False)
    if answer.rejected is None:
        screen.print(f"{CANNOT_TELL}.", style="dim")
    screen.print(f"{printable(lesson.layer)}   {printable(lesson.kind)}", markup=False)
    screen.print(SENTENCES[lesson.term], markup=False)
    for part in _PARTS[lesson.term](lesson):
        screen.print()
        screen.print(part, markup=False if isinstance(part, str) else None)


def _grid(values: NDArray[Any], marked: Sequence[tuple[int, int]] = ()) -> Table:
    """A grid of numbers; marked ones in brackets."""
    places = decimals(float(np.abs(values).max()))
    table = Table.grid(padding=(0, 1))
    for _ in range(values.shape[1]):
        table.add_column(justify="right", no_wrap=True)
    for y, row in enumerate(values):
        texts = [f"{value:.{places}f}" for value in row]
        table.add_row(
            *(
                f"[bold]{escape(f'[{text}]')}[/]" if (y, x) in marked else f"{text} "
                for x, text in enumerate(texts)
            )
        )
    return table


def _beside(parts: Sequence[tuple[str, RenderableType]], signs: Sequence[str] = ()) -> Table:
    """Tables side by side, with headings above and signs between."""
    table = Table.grid(padding=(0, 2))
    headings: list[str] = []
    cells: list[RenderableType] = []
    for index, (heading, cell) in enumerate(parts):
        if index:
            table.add_column(vertical="middle", justify="center")
            headings.append("")
            cells.append(signs[index - 1])
        table.add_column(no_wrap=True)
        headings.append(f"[bold]{heading}[/]")
        cells.append(cell)
    table.add_row(*headings)
    table.add_row(*cells)
    return table


def _sums(rows: Sequence[tuple[str, float]]) -> Table:
    """Names with numbers in one column."""
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
        of = f" on map {lesson.first + map_}" if len(lesson.window) > 1 else ""
        parts = (
            (f"Window{of}", _grid(lesson.window[map_])),
            ("Kernel", _grid(lesson.kernel[map_])),
            ("Products", _grid(lesson.products[map_])),
        )
        if wide <= 3:
            yield _beside(parts, ("×", "="))
        else:
            yield from (_beside([part]) for part in parts)
    else:
        yield f"The window has {tall}×{wide} numbers on each map; --json has them."
    yield _sums(lesson.addends(_ROWS))


def _pooling(lesson: PoolingLesson) -> Iterator[RenderableType]:
    before, after = lesson.before.shape, lesson.after.shape
    yield (
        f"Map {lesson.unit} of {lesson.units}, counted from 0: {before[0]}×{before[1]} numbers "
        f"become {after[0]}×{after[1]}. Each is the {lesson.takes} of its window."
    )
    if max(lesson.windows[0].values.shape) > _WIDEST:
        yield _sums([(f"{lesson.takes.capitalize()} of the map", lesson.windows[0].output)])
        return
    top, left, *_ = lesson.covered
    tall, wide = lesson.block.shape
    where = f"Rows {top} to {top + tall - 1}, columns {left} to {left + wide - 1}"
    block = _grid(lesson.block, lesson.picked)
    yield _beside([(where, block), ("Afterwards", _grid(lesson.outputs))], ("→",))


def _batch_normalisation(lesson: BatchNormalisationLesson) -> Iterator[RenderableType]:
    where = "" if lesson.place is None else f", row {lesson.place[0]}, column {lesson.place[1]}"
    yield f"Unit {lesson.unit}{where}: the largest number of the layer."
    yield _sums(lesson.steps)
    headings = (
        "Mean before", "Deviation", "Mean in training", "Deviation", "Scale", "Shift",
        "Mean after", "Deviation",
    )  # fmt: skip
    table = columns("Unit", figures=headings, gap=2)
    for number, figures in lesson.rows(_ROWS):
        table.add_row(str(number), *(f"{figure:.3f}" for figure in figures))
    yield table
    more = len(lesson.mean) - _ROWS
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
    table = columns("Value", figures=("Off", "On"), gap=2)
    for index, before, after in lesson.examples():
        table.add_row(f"{index}", f"{before:.3f}", f"{after:.3f}")
    yield table
    answers = columns("Answer", "Dropped", "Label", "", figures=("Confidence",), gap=2)
    answers.columns[1].justify = "right"
    off = (lesson.label, float(lesson.off.max()), 0)
    for number, (label, share, lost) in enumerate([off, *lesson.answers]):
        colour = "blue" if label == lesson.label else "red"
        drawn = f"[{colour}]{bar(share, 20)}[/]"
        name = str(number or "off")
        answers.add_row(name, f"{lost:,}", plain(label), drawn, percent(share))
    yield answers
    counts = " · ".join(f"{printable(label)} {count}" for label, count in lesson.counts)
    shares = lesson.in_its_favour
    yield (
        f"{counts}\nProbability of {printable(lesson.label)}: {percent(off[1])} without dropout, "
        f"{percent(float(shares.min()))} to {percent(float(shares.max()))} with it, "
        f"{percent(float(shares.mean()))} on average."
    )


def _softmax(lesson: SoftmaxLesson) -> Iterator[RenderableType]:
    calibrated = "" if lesson.temperature == 1 else ", which calibration found"
    yield f"Temperature {lesson.temperature:.3f}{calibrated}."
    mixed = bool(np.any(lesson.mix))
    tried = [lesson.at(temperature) for temperature in _TEMPERATURES]
    temperatures = [f"T = {temperature:g}" for temperature in _TEMPERATURES]
    headings = ["Logit", *(["Mix"] if mixed else []), "e^(logit/T)", "Probability", *temperatures]
    table = columns("Class", figures=headings, gap=2)
    exponentials = lesson.exponentials
    for index in lesson.order[:_ROWS]:
        table.add_row(
            plain(lesson.classes[index]),
            f"{lesson.logits[index]:.3f}",
            *((f"{lesson.mix[index]:.3f}",) if mixed else ()),
            f"{exponentials[index]:.4f}",
            percent(float(lesson.probabilities[index])),
            *(percent(float(probabilities[index])) for probabilities in tried),
        )
    rest = lesson.order[_ROWS:]
    if rest:
        table.add_row(
            counted(len(rest), "other", "others"), "", *(("",) if mixed else ()),
            f"{exponentials[rest].sum():.4f}", percent(float(lesson.probabilities[rest].sum())),
            *(percent(float(probabilities[rest].sum())) for probabilities in tried),
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
