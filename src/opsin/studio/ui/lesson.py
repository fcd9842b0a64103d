"""What a layer does, with the real numbers of one photograph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from nicegui import ui

from opsin.core.child_process import Header
from opsin.core.format import decimals, percent
from opsin.report.maps import PALETTES, scale_of
from opsin.studio.ui.kit import note
from opsin.studio.ui.maps import bars, framed
from opsin.studio.words import safe

# Most numbers a side that are written, classes with a bar, and a step of the temperature.
_WRITTEN: Final = 7
_CLASSES: Final = 10
Numbers = Sequence[Sequence[float]]


def lesson_view(lesson: Header, src: Callable[[int], str]) -> None:
    """Show a lesson of the worker; ``src`` gives the address of an image by its number."""
    note(lesson["sentence"])
    with ui.element("div").classes("flow"):
        for picture in lesson["pictures"]:
            framed(src(picture["image"]), picture["alt"], picture["title"], picture["boxes"])
    match lesson["term"]:
        case "convolution":
            _convolution(lesson)
        case "pooling":
            _pooling(lesson)
        case "batch-normalisation":
            unit = lesson["units"][lesson["unit"]]
            _sums(
                [
                    ("A number before", lesson["given"]),
                    ("− mean in training", unit["mean"]),
                    ("÷ deviation in training", unit["deviation"]),
                    ("× scale", unit["scale"]),
                    ("+ shift", unit["shift"]),
                    ("The number after", lesson["output"]),
                ]
            )
        case "dropout":
            _dropout(lesson)
        case "softmax":
            _softmax(lesson)


def _convolution(lesson: Header) -> None:
    sums = lesson["sums"]
    at = max(range(len(sums)), key=lambda number: abs(sums[number]))
    window, kernel = lesson["window"][at], lesson["kernel"][at]
    products = (np.array(window) * np.array(kernel)).tolist()
    ui.label(
        "The framed patch becomes the framed number: each number of the patch times the number of "
        "the kernel at its place, all added up."
    ).classes("prose")
    with ui.element("div").classes("flow"):
        _grid("Patch", window)
        ui.label("×").classes("headline")
        _grid("Kernel", kernel)
        ui.label("=").classes("headline")
        _grid("Products", products)
    others = [("Products on other maps", sum(sums) - sums[at])] if len(sums) > 1 else []
    _sums([("Products on this map", sums[at]), *others, ("Bias", lesson["bias"]),
           ("Sum", lesson["output"])])  # fmt: skip


def _pooling(lesson: Header) -> None:
    how = "its largest" if lesson["takes"] == "largest" else "the mean of its numbers"
    ui.label(f"Each framed patch becomes one number: {how}.").classes("prose")
    for window in lesson["windows"][:2]:
        with ui.element("div").classes("flow"):
            _grid("Patch", window["window"])
            ui.label("→").classes("headline")
            _grid("Becomes", [[window["output"]]], window["window"])


def _dropout(lesson: Header) -> None:
    off, draws = lesson["off"], lesson["on"]
    label = max(off, key=off.__getitem__)
    shares = [draw["probabilities"][label] for draw in draws]
    where = "This network has no dropout; as if it stood before the last layer, " * lesson["added"]
    ui.label(
        f"{where}{percent(lesson['rate'])} of {lesson['values']:,} values are set to 0 at random, "
        f"{len(draws)} times. {safe(label, 60)} has {percent(off[label])} without dropout and "
        f"{percent(min(shares))} to {percent(max(shares))} with it."
    ).classes("prose")
    answers = Counter(draw["label"] for draw in draws).most_common()
    bars([(name, number / len(draws), f"{number} times") for name, number in answers])


def _softmax(lesson: Header) -> None:
    classes = lesson["classes"][:_CLASSES]
    logits, mix = (np.array([row[name] for row in lesson["classes"]]) for name in ("logit", "mix"))
    usual = lesson["temperature"]

    @ui.refreshable
    def shares(temperature: float) -> None:
        put = logits / temperature + mix
        powers = np.exp(put - put.max())
        rows = zip(classes, powers / powers.sum(), strict=False)
        bars([(row["class"], share, f"{percent(share)} · score {row['logit']:.2f}")
              for row, share in rows])  # fmt: skip

    ui.label(
        "The temperature divides the scores: a high one makes the answer less sure. Move it."
    ).classes("prose")
    slider = ui.slider(min=-100, max=100, value=0).props("label aria-label=Temperature")
    slider.props[":label-value"] = f"({usual} * 10 ** (value / 100)).toFixed(2)"
    shares(usual)
    slider.on_value_change(lambda event: shares.refresh(usual * 10 ** (event.value / 100)))


def _sums(rows: Iterable[Sequence[Any]]) -> None:
    with ui.element("dl").classes("sums"):
        for name, value in rows:
            with ui.element("div"):
                with ui.element("dt"):
                    ui.label(safe(name, 60))
                with ui.element("dd"):
                    ui.label(f"{value:.4f}".replace("-", "−"))


def _grid(title: str, numbers: Numbers, among: Numbers | None = None) -> None:
    """Numbers in the colours of their scale."""
    values, scaled = np.array(numbers, np.float32), np.array(among or numbers, np.float32)
    scale = scale_of(float(scaled.min()), float(scaled.max()))
    places, colours = scale.places(values), PALETTES[scale.colours]
    digits = decimals(float(np.abs(values).max()))
    with ui.element("figure").classes("numbers"):
        with ui.element("div").props('role="img"') as table:
            columns = min(_WRITTEN, values.shape[1])
            table.style(f"grid-template-columns: repeat({columns}, auto)")
            written = [f"{value:.{digits}f}".replace("-", "−") for value in values.flat]
            table.props["aria-label"] = f"{title}: {', '.join(written[:49])}"
            for row, column in np.ndindex(min(_WRITTEN, values.shape[0]), columns):
                colour = colours[places[row, column]]
                # Whether white stands out more than black (WCAG 2.2, contrast).
                dark = float((colour / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722)) < 0.179
                cell = ui.label(written[row * values.shape[1] + column])
                cell.style(f"background: #{colour.tobytes().hex()}; "
                           f"color: {'#fff' if dark else '#000'}")  # fmt: skip
        with ui.element("figcaption"):
            ui.label(title)
