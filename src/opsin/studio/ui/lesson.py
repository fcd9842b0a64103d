"""What a layer does, with the real numbers of one photograph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from nicegui import ui

from opsin.core.child_process import Header
from opsin.core.format import decimals, percent
from opsin.inspection.lessons.lesson_terms import Term
from opsin.report.maps import PALETTES, scale_of
from opsin.studio.ui.kit import note
from opsin.studio.ui.maps import bars, framed
from opsin.studio.words import safe

#: The terms whose lessons are shown.
LESSONS: Final[tuple[Term, ...]] = (
    "convolution", "pooling", "batch-normalisation", "softmax",
)  # fmt: skip
# Most numbers a side that are written, and classes with a bar.
_WRITTEN, _CLASSES = 7, 10
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
            how = "its largest" if lesson["takes"] == "largest" else "the mean of its numbers"
            ui.label(f"Each framed patch becomes one number: {how}.").classes("prose")
            for window in lesson["windows"][:2]:
                with ui.element("div").classes("flow"):
                    _grid("Patch", window["window"])
                    ui.label("→").classes("headline")
                    _grid("Becomes", [[window["output"]]], window["window"])
        case "batch-normalisation":
            unit = lesson["units"][lesson["unit"]]
            _sums(("A number before", lesson["given"]), ("− mean in training", unit["mean"]),
                  ("÷ deviation in training", unit["deviation"]), ("× scale", unit["scale"]),
                  ("+ shift", unit["shift"]), ("The number after", lesson["output"]))  # fmt: skip
        case "softmax":
            bars([(row["class"], row["probability"],
                   f"{percent(row['probability'])} · score {row['logit']:.2f}")
                  for row in lesson["classes"][:_CLASSES]])  # fmt: skip


def _convolution(lesson: Header) -> None:
    sums = lesson["sums"]
    at = max(range(len(sums)), key=lambda number: abs(sums[number]))
    window, kernel = lesson["window"][at], lesson["kernel"][at]
    ui.label(
        "The framed patch becomes the framed number: each number of the patch times the number of "
        "the kernel at its place, all added up."
    ).classes("prose")
    with ui.element("div").classes("flow"):
        _grid("Patch", window)
        ui.label("×").classes("headline")
        _grid("Kernel", kernel)
        ui.label("=").classes("headline")
        _grid("Products", (np.array(window) * np.array(kernel)).tolist())
    others = [("Products on other maps", sum(sums) - sums[at])] if len(sums) > 1 else []
    _sums(("Products on this map", sums[at]), *others, ("Bias", lesson["bias"]),
          ("Sum", lesson["output"]))  # fmt: skip


def _sums(*rows: tuple[str, float]) -> None:
    with ui.element("dl").classes("sums"):
        for name, value in rows:
            with ui.element("div"):
                with ui.element("dt"):
                    ui.label(name)
                with ui.element("dd"):
                    ui.label(f"{value:.4f}".replace("-", "−"))


def _grid(title: str, numbers: Numbers, among: Numbers | None = None) -> None:
    """Numbers in the colours of their scale."""
    values, scaled = np.array(numbers, np.float32), np.array(among or numbers, np.float32)
    scale = scale_of(float(scaled.min()), float(scaled.max()))
    colours = PALETTES[scale.colours][scale.places(values)]
    digits = decimals(float(np.abs(values).max()))
    shown = values[:_WRITTEN, :_WRITTEN]
    written = [f"{value:.{digits}f}".replace("-", "−") for value in shown.flat]
    with ui.element("figure").classes("numbers"):
        with ui.element("div").props('role="img"') as table:
            table.style(f"grid-template-columns: repeat({shown.shape[1]}, auto)")
            table.props["aria-label"] = safe(f"{title}: {', '.join(written)}", 600)
            for place, text in zip(np.ndindex(shown.shape), written, strict=True):
                colour = colours[place]
                # Whether white stands out more than black (WCAG 2.2, contrast).
                dark = float((colour / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722)) < 0.179
                ui.label(text).style(f"background: #{colour.tobytes().hex()}; "
                                     f"color: {'#fff' if dark else '#000'}")  # fmt: skip
        with ui.element("figcaption"):
            ui.label(title)
