"""Sections on what a layer does, with its real numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.format import counted, decimals
from opsin.data.image_encoding import png_address
from opsin.inspection.lessons.lesson_terms import SENTENCES, Term
from opsin.report.inside.inspection_page import Section, section
from opsin.report.inside.layer_sections import figure
from opsin.report.maps import PALETTES, Scale, indexed_address, scale_of

if TYPE_CHECKING:
    from opsin.inspection.lessons.batch_normalisation import BatchNormalisationLesson
    from opsin.inspection.lessons.convolution import ConvolutionLesson
    from opsin.inspection.lessons.dropout import DropoutLesson
    from opsin.inspection.lessons.explain_layer import Lesson
    from opsin.inspection.lessons.pooling import PoolingLesson
    from opsin.inspection.lessons.softmax import SoftmaxLesson

# Numbers a side up to which each is written into its place.
_WRITTEN: Final = 7
# Rows of a table; --json has all.
_ROWS: Final = 12


@dataclass(frozen=True)
class _Cell:
    """A number in its colour."""

    text: str
    colour: str
    dark: bool
    marked: bool = False


@dataclass(frozen=True)
class _Picture:
    """Numbers as they are shown: a table of cells where there are few, else a picture.

    Args:
        title: What they are.
        words: The same for who cannot see it.
        rows: The cells, or none.
        address: The picture, or nothing.
        shape: Rows and columns.
        boxes: What is framed: top, left, height and width in percent.
    """

    title: str
    words: str
    rows: Sequence[Sequence[_Cell]]
    address: str
    shape: tuple[int, int]
    boxes: Sequence[tuple[float, float, float, float]] = ()


def lesson_sections(lesson: Lesson, pixels: NDArray[np.uint8]) -> list[Section]:
    """Return the section about a layer: signed numbers in orange and purple, activity in viridis.

    Args:
        lesson: What `opsin.inspection.lessons.explain_layer.explain_layer` returned.
        pixels: The image, ``uint8[H, W, C]``.
    """
    values = _VALUES[lesson.term](lesson)
    return [
        section("lesson", _title(lesson), "lesson.html", part=lesson.term, lesson=lesson,
                sentence=SENTENCES[lesson.term], image=png_address(pixels), number=figure,
                **values)
    ]  # fmt: skip


def _title(lesson: Lesson) -> str:
    return f"{lesson.term.replace('-', ' ').capitalize()}: {lesson.layer}"


def _scale(values: NDArray[Any]) -> Scale:
    return scale_of(float(values.min()), float(values.max()))


def _picture(
    title: str,
    values: NDArray[Any],
    among: NDArray[Any] | None = None,
    *,
    boxes: Sequence[tuple[tuple[int, int], tuple[int, int]]] = (),
    marked: Sequence[tuple[int, int]] = (),
    written: bool = True,
) -> _Picture:
    """Show numbers.

    Args:
        title: What they are.
        values: ``[H, W]``
        among: Whose colours they have (default: their own).
        boxes: What is framed: first row and column, rows and columns.
        marked: Rows and columns of cells that are marked.
        written: Whether each is written where there are few.
    """
    tall, wide = values.shape
    scale = _scale(values if among is None else among)
    places = scale.places(np.asarray(values, np.float32))
    low, high = (figure(float(each)) for each in (values.min(), values.max()))
    words = f"{title}: {tall} rows, {wide} columns, from {low} to {high}"
    if written and max(tall, wide) <= _WRITTEN:
        colours, digits = PALETTES[scale.colours], decimals(float(np.abs(values).max()))
        rows = [
            [
                _Cell(
                    f"{values[row, column]:.{digits}f}".replace("-", "−"),
                    f"#{colours[places[row, column]].tobytes().hex()}",
                    _is_dark(colours[places[row, column]]),
                    (row, column) in marked,
                )
                for column in range(wide)
            ]
            for row in range(tall)
        ]
        return _Picture(title, words, rows, "", (tall, wide))
    framed = [
        (100 * top / tall, 100 * left / wide, 100 * down / tall, 100 * across / wide)
        for (top, left), (down, across) in boxes
    ]
    return _Picture(title, words, (), indexed_address(places, scale.colours), (tall, wide), framed)


def _is_dark(colour: NDArray[np.uint8]) -> bool:
    """Tell whether white stands out more from a colour than black does (WCAG 2.2, contrast)."""
    light = float((colour / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722))
    return light < 0.179


def _convolution(lesson: ConvolutionLesson) -> dict[str, object]:
    map_ = lesson.strongest
    before = lesson.before[map_]
    several = f" on map {lesson.first + map_}" if len(lesson.window) > 1 else ""
    order = [int(place) for place in np.argsort(-np.abs(lesson.sums), kind="stable")]
    sums = [
        (f"Products on map {lesson.first + place}", float(lesson.sums[place]))
        for place in order[:_ROWS]
    ]
    if order[_ROWS:]:
        rest = float(lesson.sums[order[_ROWS:]].sum())
        sums.append((f"Products on {counted(len(order) - _ROWS, 'other map')}", rest))
    sums += [("Bias", lesson.bias), ("Sum", lesson.total), ("In the file", lesson.output)]
    return {
        "taken": _picture(f"Map {lesson.first + map_} comes in", before, written=False,
                          boxes=[(lesson.at, lesson.reach)]),
        "window": _picture(f"Window{several}", lesson.window[map_], before),
        "kernel": _picture("Kernel", lesson.kernel[map_]),
        "products": _picture("Products", lesson.products[map_]),
        "made": _picture(f"Map {lesson.unit} goes out", lesson.after, written=False,
                         boxes=[(lesson.place, (1, 1))]),
        "sums": sums,
    }  # fmt: skip


def _pooling(lesson: PoolingLesson) -> dict[str, object]:
    top, left, bottom, right = lesson.covered
    block = lesson.before[top:bottom, left:right]
    picked = [each.picked for each in lesson.windows if each.picked is not None]
    rows = len({each.place[0] for each in lesson.windows})
    outputs = np.array([each.output for each in lesson.windows], np.float32).reshape(rows, -1)
    reach = lesson.windows[0].values.shape
    return {
        "taken": _picture("Before", lesson.before, written=False,
                          boxes=[(each.at, reach) for each in lesson.windows]),
        "block": _picture("Windows", block, lesson.before,
                          marked=[(row - top, column - left) for row, column in picked]),
        "outputs": _picture("Afterwards", outputs, lesson.before),
        "made": _picture("After", lesson.after, lesson.before, written=False,
                         boxes=[(each.place, (1, 1)) for each in lesson.windows]),
    }  # fmt: skip


def _batch_normalisation(lesson: BatchNormalisationLesson) -> dict[str, object]:
    unit = lesson.unit
    pictures = []
    if lesson.place is not None:
        pair = np.stack([lesson.before[unit], lesson.after[unit]])
        pictures = [
            _picture(title, values, pair, written=False, boxes=[(lesson.place, (1, 1))])
            for title, values in zip(("Before", "After"), pair, strict=True)
        ]
    columns = (
        *lesson.spread(lesson.before), lesson.mean, lesson.deviation, lesson.scale, lesson.shift,
        *lesson.spread(lesson.after),
    )  # fmt: skip
    return {
        "pictures": pictures,
        "sums": [
            ("Before", lesson.given),
            ("− mean in training", float(lesson.mean[unit])),
            ("÷ deviation in training", float(lesson.deviation[unit])),
            ("= normalised", lesson.normalised),
            ("× scale", float(lesson.scale[unit])),
            ("+ shift", float(lesson.shift[unit])),
            ("= after", lesson.total),
            ("In the file", lesson.output),
        ],
        "units": [
            (number, [float(column[number]) for column in columns]) for number in lesson.rows(_ROWS)
        ],
        "more": max(0, len(lesson.mean) - _ROWS),
    }


def _dropout(lesson: DropoutLesson) -> dict[str, object]:
    lost = [kept.size - int(np.count_nonzero(kept)) for kept in lesson.kept]
    shares = lesson.in_its_favour
    return {
        "size": lesson.values.size,
        "off": float(lesson.off.max()),
        "answers": [
            (label, share, dropped, label == lesson.label)
            for (label, share), dropped in zip(lesson.answers, lost, strict=True)
        ],
        "counts": lesson.counts,
        "range": (float(shares.min()), float(shares.max()), float(shares.mean())),
    }


def _softmax(lesson: SoftmaxLesson) -> dict[str, object]:
    order, exponentials = lesson.order, lesson.exponentials
    rest = order[_ROWS:]
    return {
        "rows": [
            (lesson.classes[place], float(lesson.logits[place]), float(exponentials[place]),
             float(lesson.probabilities[place]))
            for place in order[:_ROWS]
        ],
        "others": len(rest),
        "rest": (float(exponentials[rest].sum()), float(lesson.probabilities[rest].sum())),
        # The script's: logits and mix of every class, in the order of the rows.
        "numbers": json.dumps(
            [[float(lesson.logits[place]), float(lesson.mix[place])] for place in order],
            separators=(",", ":"),
        ),
        "mixed": bool(np.any(lesson.mix)),
    }  # fmt: skip


_VALUES: Final[dict[Term, Callable[[Any], dict[str, object]]]] = {
    "convolution": _convolution,
    "pooling": _pooling,
    "batch-normalisation": _batch_normalisation,
    "dropout": _dropout,
    "softmax": _softmax,
}
