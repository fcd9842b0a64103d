"""Gives images a class: keys, the large view's buttons, a bar for chosen images, decisions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nicegui import ui

from opsin.core.format import counted
from opsin.studio.ui import kit
from opsin.studio.ui.viewer import class_select, key_of_class
from opsin.studio.words import safe

# Classes up to which each has a button in the bar.
_FEW: Final = 9
#: Scripts of places that images of a gallery can be dropped on; files are for others.
DRAG: Final = (
    "(event) => { if (!event.dataTransfer.types.includes('Files')) event.preventDefault(); }"
)
DROP: Final = (
    "(event) => { if (!event.dataTransfer.types.includes('Files')) "
    "{ event.preventDefault(); emit(); } }"
)

Chosen = Callable[[str], Awaitable[object] | object]


class ChoiceBar:
    """A bar that says how many images are chosen, and gives them a class.

    Args:
        on_class: Receives the class.
        on_remove: Removes the images.
        on_clear: Chooses none.
    """

    def __init__(self, on_class: Chosen, on_remove: kit.Handler, on_clear: kit.Handler) -> None:
        self._on_class = on_class
        self._classes: tuple[str, ...] = ()
        with ui.element("div").classes("choice-bar") as self.element:
            self.element.props["role"] = "toolbar"
            self.element.props["aria-label"] = "Chosen photographs"
            self._words = ui.label().classes("text-weight-bold").props('role="status"')
            self._place = ui.element("div").classes("line")
            kit.action("Remove", on_remove, icon="delete_outline").props("dense")
            kit.icon_action("close", "Choose none", on_clear)
        self.element.set_visibility(False)

    def show(self, number: int, classes: Sequence[str]) -> None:
        """Show it for some images; hide it for none."""
        self.element.set_visibility(bool(number))
        self._words.set_text(f"{counted(number, 'photo')} chosen")
        if not number or tuple(classes) == self._classes:
            return
        self._classes = tuple(classes)
        self._place.clear()
        with self._place:
            if len(classes) > _FEW:
                class_select(classes, self._on_class)
                return
            for at, name in enumerate(classes):
                text = f"{safe(name, 24)} ({key_of_class(at)})"
                button = kit.action(text, lambda name=name: self._on_class(name)).props("dense")
                button.on("dragover", js_handler=DRAG)
                button.on("drop", lambda name=name: self._on_class(name), js_handler=DROP)


def decisions(
    answers: Sequence[tuple[str, kit.Handler]],
    classes: Sequence[str] = (),
    on_class: Chosen | None = None,
) -> None:
    """Buttons for what can be decided of an image, and a field for another class."""
    with ui.element("div").classes("line"):
        for text, work in answers:
            kit.action(text, work, needs="labeller").props("dense")
        if on_class:
            class_select(classes, on_class, "Another class")
