"""What a layer makes of a photograph: its maps, one of them alone, or its numbers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from nicegui import ui

from opsin.core.child_process import Header
from opsin.core.format import counted
from opsin.report.inside.layer_sections import figure
from opsin.studio.runs.inspection_sessions import InspectionAnswer
from opsin.studio.ui.kit import facts, note, rooted
from opsin.studio.words import safe

OnUnit = Callable[[int], Awaitable[object] | object]


def in_percent(box: Sequence[int], size: Sequence[int]) -> tuple[float, ...]:
    """A part of an image, by its ends, as top, left, height and width in percent."""
    (top, left, bottom, right), (tall, wide) = box, size
    shares = (top / tall, left / wide, (bottom - top) / tall, (right - left) / wide)
    return tuple(round(100 * share, 2) for share in shares)


def framed(
    src: str, alt: str, title: str = "", boxes: Iterable[Sequence[float]] = ()
) -> ui.element:
    """An image with frames: top, left, height and width in percent."""
    with ui.element("figure").classes("framed") as element:
        with ui.element("div"):
            image = ui.element("img").classes("pixel").props('draggable="false"')
            image.props.update({"src": rooted(src), "alt": safe(alt)})
            for box in boxes:
                sides = zip(("top", "left", "height", "width"), box, strict=True)
                ui.element("i").style("; ".join(f"{side}: {value}%" for side, value in sides))
        if title:
            with ui.element("figcaption"):
                ui.label(safe(title, 80))
    return element


def bars(rows: Iterable[tuple[str, float, str]], on_click: OnUnit | None = None) -> None:
    """Names with their shares, -1 to 1, as bars, and what is written beside them."""
    with ui.element("dl").classes("bars"):
        for number, (name, share, text) in enumerate(rows):
            with ui.element("dt"):
                if on_click:
                    button = ui.button(safe(name, 60), color=None).props("flat dense no-caps")
                    button.on_click(lambda number=number: on_click(number))
                else:
                    ui.label(safe(name, 60)).classes("ellipsis")
            with ui.element("dd").props('aria-hidden="true"'):
                bar = ui.element("i").style(f"width: {100 * min(1.0, abs(share)):.1f}%")
                bar.classes("below" if share < 0 else "")
            with ui.element("dd"):
                ui.label(text)


def units(answer: InspectionAnswer, on_unit: OnUnit) -> None:
    """The maps of an answer, enlarged without smoothing, or its numbers; a click shows one."""
    shown, names = answer.values["units"], answer.values["names"]
    if not answer.values["maps"]:
        largest = max((abs(unit["high"]) for unit in shown), default=0.0) or 1.0
        named = dict(enumerate(names))
        rows = [(named.get(unit["unit"], f"Unit {unit['unit']}"), unit["high"] / largest,
                 figure(unit["high"])) for unit in shown]  # fmt: skip
        bars(rows, lambda at: on_unit(shown[at]["unit"]))
        return
    with ui.element("div").classes("maps"):
        for unit in shown:
            text = f"Map {unit['unit']}, up to {figure(unit['high'])}"
            with ui.element("button").props('type="button"') as button:
                button.props["title"] = text
                button.on("click", lambda number=unit["unit"]: on_unit(number))
                image = ui.element("img").classes("pixel").props('loading="lazy"')
                image.props.update({"src": rooted(answer.src(unit["image"])), "alt": text})


def scale_line(values: Header) -> None:
    """The colours of a layer's maps, from its lowest to its highest number, in words too."""
    signed = "Purple is above 0, orange below"
    bright = "Bright is where a map finds something" if values["low"] == "0" else signed
    note(f"{bright}; each place sees {values['sees']}. Click a map to see it alone.")
    with ui.element("div").classes("scale note"):
        ui.label(values["low"])
        ui.element("i").style(f"background: linear-gradient(90deg, {', '.join(values['stops'])})")
        ui.label(values["high"])


def one_unit(answer: InspectionAnswer) -> None:
    """A unit alone: its map large, beside the photograph, and its numbers."""
    values = answer.values
    (unit,) = values["units"]
    if not values["maps"]:
        facts([("Number", str(unit["unit"])), ("Value", figure(unit["high"]))])
        return
    name, (row, column) = f"Map {unit['unit']}", unit["place"]
    with ui.element("div").classes("pair"):
        framed(answer.src(unit["image"]), name, name)
        box = in_percent(unit["box"], values["size"])
        framed(
            answer.src(values["image"]), "The photograph", "Framed: where it is strongest", [box]
        )
    facts([
        ("Highest", figure(unit["high"])), ("Lowest", figure(unit["low"])),
        ("Mean", figure(unit["mean"])), ("Strongest at", f"row {row + 1}, column {column + 1}"),
        ("Sees", values["sees"]),
    ])  # fmt: skip


def best_photographs(answer: InspectionAnswer, size: Sequence[int]) -> None:
    """The training photographs that activate a unit most, each with the part that it sees."""
    values = answer.values
    if values["constant"]:
        note("It gives the same number for every photograph: it has learnt nothing.")
        return
    total = sum(number for _, number in values["mix"])
    mix = [
        f"{number} {'is' if number == 1 else 'are'} {name}" for name, number in values["mix"][:3]
    ]
    note(f"Of the {counted(total, 'photograph')} that activate it most, {', '.join(mix)}.")
    with ui.element("div").classes("seen-best"):
        for best in values["best"]:
            text = f"{best['class']} · {figure(best['value'])}"
            with ui.element("div"):
                boxes = [in_percent(best["box"], size)] if best["box"] else []
                framed(answer.src(best["image"]), f"Photograph of {best['class']}", text, boxes)
                if best["patch"] is not None:
                    framed(answer.src(best["patch"]), "The part that it sees")
