"""What a convolution does, with the real numbers of one photograph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from nicegui import ui

from opsin.core.arrays import Floats, Pixels
from opsin.core.child_process import Header
from opsin.core.format import decimals
from opsin.report.maps import PALETTES, scale_of
from opsin.studio.ui.kit import facts, note
from opsin.studio.ui.maps import framed
from opsin.studio.words import safe

# Most numbers a side that are written.
_WRITTEN: Final = 7


def convolution_view(lesson: Header, src: Callable[[int], str]) -> None:
    """Show a lesson of the worker; ``src`` gives the address of an image by its number."""
    note(lesson["sentence"])
    with ui.element("div").classes("flow"):
        for picture in lesson["pictures"]:
            framed(src(picture["image"]), picture["alt"], picture["title"], picture["boxes"])
    sums = lesson["sums"]
    at = max(range(len(sums)), key=lambda number: abs(sums[number]))
    window, kernel = np.array(lesson["window"][at]), np.array(lesson["kernel"][at])
    note(
        "The framed patch becomes the framed number: each number of the patch times the "
        "number of the kernel at its place, all added up."
    )
    grids = {"Patch": window, "Kernel": kernel, "Products": window * kernel}
    with ui.element("div").classes("flow"):
        for (title, values), sign in zip(grids.items(), ("×", "=", ""), strict=True):
            scale = scale_of(float(values.min()), float(values.max()))
            _grid(title, values, PALETTES[scale.colours][scale.places(values)])
            if sign:
                ui.label(sign).classes("headline")
    rows = {"Products on this map": sums[at], "Bias": lesson["bias"], "Sum": lesson["output"]}
    if len(sums) > 1:
        rows = {"Products on other maps": sum(sums) - sums[at]} | rows
    facts(((name, f"{value:.4f}".replace("-", "−")) for name, value in rows.items()), "sums")


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
                ui.label(text).style(
                    f"background: #{colour.tobytes().hex()}; color: {'#fff' if dark else '#000'}"
                )
        with ui.element("figcaption"):
            ui.label(title)
