"""What a layer does, as a figure with its real numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from opsin.core.format import counted, decimals, percent
from opsin.report.figures.style import INK, MUTED, RIGHT, WRONG, new_figure, shorten, show_pixels

if TYPE_CHECKING:
    from opsin.inspection.lessons.batch_normalisation import BatchNormalisationLesson
    from opsin.inspection.lessons.convolution import ConvolutionLesson
    from opsin.inspection.lessons.dropout import DropoutLesson
    from opsin.inspection.lessons.explain_layer import Lesson
    from opsin.inspection.lessons.lesson_terms import Term
    from opsin.inspection.lessons.pooling import PoolingLesson
    from opsin.inspection.lessons.softmax import SoftmaxLesson

# Numbers a side up to which each is written into its place.
_WRITTEN: Final = 7
# Classes and units that are drawn.
_BARS: Final = 10
_UNITS: Final = 8
_TEMPERATURES: Final = (0.5, 1.0, 2.0, 5.0)


def draw_lesson(lesson: Lesson, pixels: NDArray[np.uint8]) -> Figure:
    """Draw a lesson: signed numbers in orange and purple about 0, activity in viridis.

    Args:
        lesson: What `opsin.inspection.lessons.explain_layer.explain_layer` returned.
        pixels: The image, ``uint8[H, W, C]``.
    """
    figure: Figure = _DRAWN[lesson.term](lesson, pixels)
    return figure


def _grid(axes: Axes, values: NDArray[Any], title: str, among: NDArray[Any] | None = None) -> None:
    """Draw numbers in the colours of those that they are among; each in its place, if few."""
    whole = values if among is None else among
    most = float(np.abs(whole).max()) or 1.0
    signed = float(whole.min()) < 0
    drawn = axes.imshow(
        values, cmap="PuOr" if signed else "viridis", vmin=-most if signed else 0, vmax=most,
        interpolation="nearest",
    )  # fmt: skip
    axes.set_title(title, fontsize=9, fontweight="normal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if max(values.shape) > _WRITTEN:
        return
    places = decimals(float(np.abs(values).max()))
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = drawn.cmap(drawn.norm(value))
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        axes.text(column, row, f"{value:.{places}f}", ha="center", va="center", fontsize=7.5,
                  color="white" if dark else "#1c2127")  # fmt: skip


def _sign(right: Axes, sign: str) -> None:
    """Write a sign between a picture and the one left of it."""
    right.annotate(sign, (-0.14, 0.5), xycoords="axes fraction", ha="center", va="center",
                   fontsize=15, color=INK, annotation_clip=False)  # fmt: skip


def _framed(axes: Axes, at: tuple[int, int], reach: tuple[int, int]) -> None:
    for colour, width in (("#1c2127", 3.2), ("white", 1.4)):
        axes.add_patch(
            Rectangle((at[1] - 0.5, at[0] - 0.5), reach[1], reach[0], fill=False,
                      edgecolor=colour, linewidth=width)
        )  # fmt: skip


def _convolution(lesson: ConvolutionLesson, pixels: NDArray[np.uint8]) -> Figure:
    figure = new_figure(11.5, 2.9)
    axes = figure.subplots(1, 6)
    map_ = lesson.strongest
    show_pixels(axes[0], pixels)
    axes[0].set_title("Image", fontsize=9, fontweight="normal")
    _grid(axes[1], lesson.before[map_], f"Map {lesson.first + map_} comes in")
    _framed(axes[1], lesson.at, lesson.reach)
    several = f" on map {lesson.first + map_}" if len(lesson.window) > 1 else ""
    _grid(axes[2], lesson.window[map_], f"Window{several}", lesson.before[map_])
    _grid(axes[3], lesson.kernel[map_], "Kernel")
    _grid(axes[4], lesson.products[map_], f"Products: {lesson.sums[map_]:.2f} in all")
    _grid(axes[5], lesson.after, f"Map {lesson.unit} goes out")
    _framed(axes[5], lesson.place, (1, 1))
    _sign(axes[3], "×")
    _sign(axes[4], "=")
    own = float(lesson.sums[map_])
    others = float(lesson.sums.sum()) - own
    rest = counted(len(lesson.window) - 1, "other map")
    further = "" if len(lesson.window) == 1 else f", {others:.2f} from {rest}"
    figure.suptitle(
        f"{shorten(lesson.layer, 30)}: {own:.2f} from this map{further} and a bias of "
        f"{lesson.bias:.2g} make {lesson.output:.2f}",
        x=0.01, ha="left", fontsize=10.5, fontweight="bold",
    )  # fmt: skip
    return figure


def _pooling(lesson: PoolingLesson, pixels: NDArray[np.uint8]) -> Figure:
    figure = new_figure(8.4, 2.9)
    axes = figure.subplots(1, 4)
    show_pixels(axes[0], pixels)
    axes[0].set_title("Image", fontsize=9, fontweight="normal")
    tall, wide = lesson.before.shape
    _grid(axes[1], lesson.before, f"Before: {tall}×{wide}")
    for window in lesson.windows:
        _framed(axes[1], window.at, window.values.shape)
    block = _block(lesson)
    _grid(axes[2], block[0], f"The {lesson.takes} of each window", lesson.before)
    for row, column in block[1]:
        _framed(axes[2], (row, column), (1, 1))
    tall, wide = lesson.after.shape
    _grid(axes[3], lesson.after, f"After: {tall}×{wide}", lesson.before)
    if lesson.after.size > 1:
        for window in lesson.windows:
            _framed(axes[3], window.place, (1, 1))
    title = f"{shorten(lesson.layer, 30)}: {lesson.before.size:,} numbers become"
    figure.suptitle(f"{title} {lesson.after.size:,}", x=0.01, ha="left", fontsize=10.5,
                    fontweight="bold")  # fmt: skip
    return figure


def _block(lesson: PoolingLesson) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
    """Return the part of the map that the windows cover, and where in it the picked ones are."""
    top, left, bottom, right = lesson.covered
    picked = [each.picked for each in lesson.windows if each.picked is not None]
    return lesson.before[top:bottom, left:right], [(r - top, c - left) for r, c in picked]


def _batch_normalisation(lesson: BatchNormalisationLesson, pixels: NDArray[np.uint8]) -> Figure:
    del pixels
    figure = new_figure(8.4, 3.2)
    axes = figure.subplots(1, 2)
    units = lesson.rows(_UNITS)
    for place, (values, title) in enumerate(((lesson.before, "Before"), (lesson.after, "After"))):
        own = axes[place]
        means, deviations = lesson.spread(values)
        for row, unit in enumerate(units):
            flat = values[unit].ravel()
            own.plot([flat.min(), flat.max()], [row, row], color=MUTED, linewidth=1)
            own.errorbar(means[unit], row, xerr=deviations[unit], fmt="o", color=RIGHT,
                         markersize=4, linewidth=3)  # fmt: skip
            if place == 0:
                own.plot(lesson.mean[unit], row, "|", color=INK, markersize=11)
        own.axvline(0, color=MUTED, linewidth=0.8)
        own.set_yticks(range(len(units)), [f"unit {unit}" for unit in units])
        own.invert_yaxis()
        own.set_xlabel("value: all (thin), mean and deviation of this image (blue)")
        own.set_title(title, fontsize=9, fontweight="normal")
    axes[0].set_title("Before; tick: the mean in training", fontsize=9, fontweight="normal")
    figure.suptitle(f"{shorten(lesson.layer, 30)}: units are brought to one scale", x=0.01,
                    ha="left", fontsize=10.5, fontweight="bold")  # fmt: skip
    return figure


def _dropout(lesson: DropoutLesson, pixels: NDArray[np.uint8]) -> Figure:
    figure = new_figure(8.4, 4.4)
    left, axes = figure.subplots(1, 2, width_ratios=[1, 3])
    show_pixels(left, pixels)
    left.set_title("Image", fontsize=9, fontweight="normal")
    answers = [(lesson.label, float(lesson.off.max())), *lesson.answers]
    for row, (label, share) in enumerate(answers):
        axes.barh(row, share, color=RIGHT if label == lesson.label else WRONG,
                  alpha=1 if row == 0 else 0.75)  # fmt: skip
        axes.text(1.02, row, f"{shorten(label)} {percent(share)}", va="center", fontsize=7.5)
    axes.set_yticks(range(len(answers)), ["off", *map(str, range(1, len(answers)))], fontsize=7.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35)
    axes.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.set_xlabel("confidence")
    axes.set_ylabel("answer")
    same = sum(label == lesson.label for label, _ in lesson.answers)
    figure.suptitle(
        f"Dropout {lesson.rate:.0%} at {shorten(lesson.layer, 30)}: {same} of "
        f"{len(lesson.answers)} answers stay {shorten(lesson.label)}",
        x=0.01, ha="left", fontsize=10.5, fontweight="bold",
    )  # fmt: skip
    return figure


def _softmax(lesson: SoftmaxLesson, pixels: NDArray[np.uint8]) -> Figure:
    del pixels
    order = lesson.order[:_BARS]
    figure = new_figure(10.5, 0.9 + 0.24 * len(order))
    tried = [
        (f"T = {lesson.temperature:.2f}, the classifier's", lesson.at(lesson.temperature)),
        *((f"T = {each:g}", lesson.at(each)) for each in _TEMPERATURES),
    ]
    axes = figure.subplots(1, 1 + len(tried), sharey=True)
    names = [shorten(lesson.classes[place]) for place in order]
    axes[0].barh(names, [float(lesson.logits[place]) for place in order], color=MUTED)
    axes[0].set_title("Logits", fontsize=9, fontweight="normal")
    axes[0].axvline(0, color=MUTED, linewidth=0.8)
    for own, (title, shares) in zip(axes[1:], tried, strict=True):
        own.barh(names, [float(shares[place]) for place in order], color=RIGHT)
        own.set_xlim(0, 1)
        own.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
        own.set_title(title, fontsize=9, fontweight="normal")
    axes[0].invert_yaxis()
    best = int(lesson.probabilities.argmax())
    figure.suptitle(
        f"Softmax: {shorten(lesson.classes[best])}, {percent(float(lesson.probabilities[best]))}; "
        "a higher temperature makes it less sure",
        x=0.01, ha="left", fontsize=10.5, fontweight="bold",
    )  # fmt: skip
    return figure


_DRAWN: Final[dict[Term, Callable[[Any, NDArray[np.uint8]], Figure]]] = {
    "convolution": _convolution,
    "pooling": _pooling,
    "batch-normalisation": _batch_normalisation,
    "dropout": _dropout,
    "softmax": _softmax,
}
