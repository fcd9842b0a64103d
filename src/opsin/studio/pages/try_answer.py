"""One photograph with its answer: where the network looks, and what looks most like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nicegui import ui

from opsin.core.format import count, percent
from opsin.runtime.prediction import Prediction
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.state import Studio
from opsin.studio.ui import layout
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.kit import action, note, rooted
from opsin.studio.words import safe

# Classes that are shown with a bar.
_BARS: Final = 10
# Small images are enlarged without smoothing.
_SHARPEN: Final = (
    "(event) => event.target.classList.toggle('pixel', event.target.naturalWidth < 200)"
)


def show_picture(project: Project, run: RunRow, key: str, answer: Prediction) -> None:
    """The photograph, and on demand a heat map over it."""
    sources = (rooted(f"/kept/{key}.png"), rooted(f"/heat/{run.id}/{key}.png"))
    bright = f"Bright: hiding this makes {safe(answer.label, 40)} less probable."

    def toggle() -> None:
        is_heat = image.props["src"] == sources[0]
        image.props["src"] = sources[is_heat]
        image.update()
        button.set_text("Show the photograph" if is_heat else "Show where it looks")
        words.set_text("Hiding one part after another; this takes up to a minute." * is_heat)
        trust.set_visibility(is_heat)

    with ui.element("figure").classes("stack"):
        image = ui.element("img").classes("photo").on("load", js_handler=_SHARPEN)
        image.props.update({"src": sources[0], "alt": safe(answer.name, 60)})
        if answer.warning:
            return
        with ui.element("figcaption").classes("line"):
            button = action("Show where it looks", toggle, kind="quiet", icon="blur_on")
            words = note("")
            place = {"run": run.id, "image": f"kept/{key}", "view": "why"}
            trust = ui.link("Can you trust it?", layout.address(project, "inside", **place))
            trust.set_visibility(False)
    image.on("load", lambda: words.text.startswith("Hiding") and words.set_text(bright))
    image.on("error", lambda: words.set_text("There is no heat map of this photograph."))


def show_answer(answer: Prediction) -> None:
    """The answer in large type, how far it is known, and the classes with bars."""
    nearest = f"{safe(answer.label, 60)}, {percent(answer.confidence)}"
    headline = ui.label(nearest).classes("headline")
    if answer.warning:
        headline.set_text("Nothing to recognise")
        ui.label(f"The photograph has no contrast. Nearest: {nearest}.").classes("warning")
    elif answer.rejected:
        headline.set_text("None of these")
        note(f"It looks unlike the training photographs. Nearest: {nearest}.")
    elif answer.rejected is None:
        note("This classifier cannot say when a photograph is none of its classes.")
    else:
        note("Similar to the training photographs.")
    bars(answer.top(_BARS), f"Probabilities of {answer.name}")
    for text in answer.notes:
        if text != answer.warning:
            note(f"{text[:1].upper()}{text[1:]}.")


async def show_nearest(studio: Studio, run: RunRow, key: str) -> None:
    """The training images that the network sees most like it."""
    content = ui.element("div").classes("stack")
    with content:
        waiting = note("Looking for the nearest training photographs")

    def tell(text: str, done: int, total: int) -> None:
        if not waiting.is_deleted:
            waiting.set_text(f"{safe(text)}: {count(done)} of {count(total)}" if total else text)

    try:
        found = await studio.inside.ask(run.id, "nearest", on_progress=tell, kept=key)
    finally:
        if not content.is_deleted:
            content.clear()
    if content.is_deleted:
        return
    images = [
        GalleryImage(
            found.src(near["image"]), f"Training photograph {near['name']}, class {near['class']}",
            f"{near['class']} · " + ("the same" if near["same"] else f"{near['similarity']:.2f}"),
        )
        for near in found.values["nearest"]
    ]  # fmt: skip
    with content:
        ImageGallery("Nearest training photographs, the nearest first", images)
        note("The number says how alike the network sees them, 1 at most.")


def bars(shares: Sequence[tuple[str, float]], label: str) -> ui.element:
    """Classes with their probabilities, the largest first.

    Example:
        ``bars(prediction.top(), "Probabilities of boot.png")``
    """
    with ui.element("dl").classes("bars") as element:
        element.props["aria-label"] = safe(label)
        for place, (name, share) in enumerate(shares):
            with ui.element("dt").classes("" if place else "best") as title:
                ui.label(safe(name, 60))
            title.props["title"] = safe(name)
            with ui.element("dd").props('aria-hidden="true"'):
                ui.element("i").style(f"width: {100 * min(max(share, 0.0), 1.0):.2f}%")
            with ui.element("dd"):
                ui.label(percent(share))
    return element
