"""Answers with bars, and images with frames."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from nicegui import ui

from opsin.studio.ui.kit import note, rooted
from opsin.studio.words import safe


def confidence_of(probability: float) -> str:
    """A confidence in whole percents; never 100%, which no classifier knows, nor none at all."""
    if probability < 0.005:
        return "<1%"
    return ">99%" if probability > 0.995 else f"{probability:.0%}"


def in_percent(box: Sequence[int], size: Sequence[int]) -> tuple[float, ...]:
    """A part of an image, by its ends, as top, left, height and width in percent."""
    (top, left, bottom, right), (tall, wide) = box, size
    shares = (top / tall, left / wide, (bottom - top) / tall, (right - left) / wide)
    return tuple(round(100 * share, 2) for share in shares)


def framed(src: str, alt: str, title: str = "", boxes: Iterable[Sequence[float]] = ()) -> None:
    """An image with frames: top, left, height and width in percent."""
    with ui.element("figure").classes("framed"):
        with ui.element("div"):
            image = ui.element("img").classes("pixel").props('draggable="false"')
            image.props.update({"src": rooted(src), "alt": safe(alt)})
            for box in boxes:
                sides = zip(("top", "left", "height", "width"), box, strict=True)
                ui.element("i").style("; ".join(f"{side}: {value}%" for side, value in sides))
        if title:
            with ui.element("figcaption"):
                ui.label(safe(title, 80))


def bars(
    rows: Iterable[tuple[str, float, str]],
    on_click: Callable[[int], Awaitable[object] | object] | None = None,
) -> None:
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


def answer_view(
    top: Sequence[tuple[str, float]],
    *,
    rejected: bool | None,
    warning: str | None = None,
    size: str = "headline",
) -> ui.label:
    """The answer in large type, how far it is known, and the classes with bars."""
    (label, share), *_ = top
    nearest = f"{safe(label, 60)}, {confidence_of(share)}"
    headline = ui.label(nearest).classes(size).props('role="status"')
    if warning:
        headline.set_text("Nothing to recognise")
        ui.label(f"The photograph has no contrast. Nearest: {nearest}.").classes("warning")
    elif rejected:
        headline.set_text("None of these")
        note(f"It looks unlike the training photographs. Nearest: {nearest}.")
    elif rejected is None:
        note("This classifier cannot say when a photograph is none of its classes.")
    else:
        note("Similar to the training photographs.")
    bars([(name, share, confidence_of(share)) for name, share in top])
    return headline
