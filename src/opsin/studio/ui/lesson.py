"""What a layer does, with the real numbers of one photograph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from nicegui import ui
from numpy.typing import ArrayLike

from opsin.core.arrays import Floats, Pixels
from opsin.core.child_process import Header
from opsin.core.format import decimals, percent
from opsin.inspection.lessons.lesson_terms import Term
from opsin.report.maps import PALETTES, scale_of
from opsin.studio.ui.kit import note
from opsin.studio.ui.maps import bars, framed
from opsin.studio.words import safe

#: The terms whose lessons are shown.
LESSONS: Final[tuple[Term, ...]] = ("convolution", "pooling", "batch-normalisation", "softmax")
# Most numbers a side that are written, and classes with a bar.
_WRITTEN, _CLASSES = 7, 10


def lesson_view(lesson: Header, src: Callable[[int], str]) -> None:
    """Show a lesson of the worker; ``src`` gives the address of an image by its number."""
    note(lesson["sentence"])
    with ui.element("div").classes("flow"):
        for picture in lesson["pictures"]:
            framed(src(picture["image"]), picture["alt"], picture["title"], picture["boxes"])
    match lesson["term"]:
        case "convolution":
            sums = lesson["sums"]
            at = max(range(len(sums)), key=lambda number: abs(sums[number]))
            window, kernel = np.array(lesson["window"][at]), np.array(lesson["kernel"][at])
            note("The framed patch becomes the framed number: each number of the patch times the "
                 "number of the kernel at its place, all added up.")  # fmt: skip
            _flow(("Patch", window), "×", ("Kernel", kernel), "=", ("Products", window * kernel))
            others = {"Products on other maps": sum(sums) - sums[at]} if len(sums) > 1 else {}
            _sums({"Products on this map": sums[at]} | others
                  | {"Bias": lesson["bias"], "Sum": lesson["output"]})  # fmt: skip
        case "pooling":
            how = "its largest" if lesson["takes"] == "largest" else "the mean of its numbers"
            note(f"Each framed patch becomes one number: {how}.")
            for window in lesson["windows"][:2]:
                _flow(("Patch", window["window"]), "→", ("Becomes", [[window["output"]]]),
                      among=window["window"])  # fmt: skip
        case "batch-normalisation":
            unit = lesson["units"][lesson["unit"]]
            _sums({"A number before": lesson["given"], "− mean in training": unit["mean"],
                   "÷ deviation in training": unit["deviation"], "× scale": unit["scale"],
                   "+ shift": unit["shift"], "The number after": lesson["output"]})  # fmt: skip
        case "softmax":
            bars([(row["class"], row["probability"],
                   f"{percent(row['probability'])} · score {row['logit']:.2f}")
                  for row in lesson["classes"][:_CLASSES]])  # fmt: skip


def _sums(rows: dict[str, float]) -> None:
    with ui.element("dl").classes("sums"):
        for name, value in rows.items():
            with ui.element("div"):
                with ui.element("dt"):
                    ui.label(name)
                with ui.element("dd"):
                    ui.label(f"{value:.4f}".replace("-", "−"))


def _flow(*parts: str | tuple[str, ArrayLike], among: ArrayLike | None = None) -> None:
    """Grids of numbers with signs between them; their colours are those of ``among``, or own."""
    with ui.element("div").classes("flow"):
        for part in parts:
            if isinstance(part, str):
                ui.label(part).classes("headline")
            else:
                title, numbers = part
                values = np.array(numbers, np.float32)
                scaled = values if among is None else np.array(among, np.float32)
                scale = scale_of(float(scaled.min()), float(scaled.max()))
                _grid(title, values, PALETTES[scale.colours][scale.places(values)])


def _grid(title: str, values: Floats, colours: Pixels) -> None:
    digits, shown = decimals(float(np.abs(values).max())), values[:_WRITTEN, :_WRITTEN]
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
